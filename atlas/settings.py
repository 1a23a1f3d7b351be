"""Numbers and names that the whole store agrees on.

Each is a fact of the format or the result of a measurement in docs/scale.md; nothing here is read from the environment.
"""

from __future__ import annotations

from pathlib import Path

from atlas.errors import StoreError

FORMAT_VERSION = 1
"""Version of schema.sql and of the folder layout; a reader refuses another one."""
STORAGE_VERSION = "v1.2.0"
"""DuckDB storage format of the published file: opens in every client from 1.5 on."""
DATABASE = "atlas.duckdb"
CATALOGUE = "catalogue.sqlite"
INLINE_ROWS = 50_000_000
"""Activations up to this many stand inside the published file; above it `activation` is a view over the shards."""
ROW_GROUP_ROWS = 1_000_000
"""Rows a row group, for all tables but activation."""
ACTIVATION_GROUP_ROWS = 250_000
"""Rows a row group of activation at most; none spans two layers. A lookup decodes one group: with one a layer, of 6 million rows,
it took five times as long, for the same bytes and the same time to write (docs/scale.md)."""
WRITTEN_LEVEL = 3
"""zstd level of activations as they are written; the other tables take 1."""
RESTING_LEVEL = 16
"""zstd level of what `atlas compact` writes: 8 % fewer bytes for nine times the time to compress, read as fast (docs/scale.md)."""
KEEP_MANIFESTS = 10
KEEP_DAYS = 7
"""gc keeps what the last KEEP_MANIFESTS manifests or those of KEEP_DAYS refer to."""
PUBLISH_MEMORY = "1500MB"
"""Memory limit of the database engine while publishing; sorts beyond it spill into the atlas folder."""
STEP_SHARE = 2 / 3
"""Share of that limit that the engine keeps during build steps, which hold arrays of their own: the whole process stays within 2 GB."""
BUSY_SECONDS = 30.0
"""How long a write to the catalogue waits for another writer."""
LOCK_SECONDS = 600.0
"""How long a publish waits for another one."""


def schema_sql_path() -> Path:
    """Find schema.sql: beside the package in a wheel, at the root of the repository otherwise."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "schema.sql", here.parent / "schema.sql"):
        if candidate.is_file():
            return candidate
    raise StoreError(f"schema.sql is not beside the package {here}", hint="Reinstall feature-atlas.")
