"""Where the embedded models lie, and whether their files are whole.

In: a name, `bilingual` or `control`. Out: folders inside the package, and a check against the shipped SHA-256 sums.
No torch here.
"""

import hashlib
from pathlib import Path
from typing import Final

from atlas.errors import DamagedError, UsageError

NAMES: Final = ("bilingual", "control")
DATA: Final = Path(__file__).parent / "data"
SUMS: Final = "SHA256SUMS"


def root(name: str = "bilingual") -> Path:
    """Return the folder of one embedded model: `model/`, `transcoders/`, `metrics.json` and `SHA256SUMS`.

    Raises:
        UsageError: for a name that is not embedded.
    """
    if name not in NAMES:
        raise UsageError(f"no embedded model {name!r}", hint=f"Embedded are: {', '.join(NAMES)}.")
    return DATA / name


def model_path(name: str = "bilingual") -> Path:
    """Return the folder that `Qwen3ForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load."""
    return root(name) / "model"


def transcoder_path(name: str = "bilingual") -> Path:
    """Return the folder of `layer_{l}.safetensors` and `config.yaml`."""
    return root(name) / "transcoders"


def write_sums(folder: Path) -> Path:
    """Write `SHA256SUMS` over all files below `folder`, in the format of `sha256sum`, and return it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    sums = folder / SUMS
    sums.write_text("".join(lines), encoding="utf-8")
    return sums


def read_sums(folder: Path) -> dict[str, str]:
    """Return file -> SHA-256 (64 hex digits) as shipped."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def verify(folder: Path) -> None:
    """Compare every file below `folder` with its shipped hash.

    Raises:
        DamagedError: names the first file that is missing, differs, or has no hash.
    """
    expected = read_sums(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
    hint = "Install the package again, or retrain with `atlas tiny train`."
    for name in sorted(present | expected.keys()):
        if name not in present:
            raise DamagedError(f"{folder / name} is missing", hint=hint)
        if name not in expected:
            raise DamagedError(f"{folder / name} has no hash in {SUMS}", hint=hint)
        if _sha256(folder / name) != expected[name]:
            raise DamagedError(f"{folder / name} differs from its hash in {SUMS}", hint=hint)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
