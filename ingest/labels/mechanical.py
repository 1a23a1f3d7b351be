"""Mechanical labels: what every feature fires on, counted, and said in one line with a rule that can be scored.

In: activations (or, of a corpus run, stored contexts), the tokens they point to, the cards of the features. Out: rows of
`feature_profile` and of `label`, for all features of a run, without a model.

1. The activation mass of a feature is the sum of its activations over counted tokens (no sinks, no random tokens). Shares of tokens,
   roles and scripts are shares of that mass; the share of the strongest token is the single-token test.
2. Languages are compared by mean activation per token of the language, since languages differ in tokens (METHODS section 7, mu[L]).
3. The rule of a label holds the fewest tokens that carry `RULE_MASS` of the mass, and role or language where one carries `RULE_ONLY`.
   Where even `N_TOKENS` tokens do not carry half, the rule names no token: the feature is not about tokens.
4. A feature that never fired gets a label that says so, without a rule.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas.ids import sha256_text
from atlas.schema import arrow_schema
from ingest.labels.rule import Rule
from ingest.labels.texts import Integers, Texts

VERSION = "mechanical-1"
N_TOKENS = 10
"""Tokens of a profile."""
RULE_MASS, RULE_LEAST, RULE_ONLY = 0.9, 0.5, 0.95
SINGLE_TOKEN = 0.9
"""Share of one token from which a label calls the feature a single-token feature."""
EVERY_FEATURE_UP_TO = 1_000_000
"""Features of a run up to which silent ones get a label too; a larger dictionary would be a table of silence."""
Floats = npt.NDArray[np.float64]


def mechanical_tables(
    tables: Mapping[str, pa.Table], texts: Texts, *, transcoder_set: str, source_run: str, now: datetime
) -> dict[str, pa.Table]:
    """Return `feature_profile` and `label`, without run_id, from `feature` and `activation` (`context` where raw rows are not kept)."""
    name = "activation" if "activation" in tables and tables["activation"].num_rows else "context"
    pieces = []
    for layer in sorted(pc.unique(tables[name]["layer"]).to_pylist()):  # one layer at a time: the sorting is what takes memory
        active, basis = active_tokens({name: tables[name].filter(pc.equal(tables[name]["layer"], layer))}, texts)
        pieces.append(profiles(active, texts, basis))
    profile = pa.concat_tables(pieces) if pieces else arrow_schema("feature_profile").empty_table()
    return {"feature_profile": profile, "label": labels(profile, tables["feature"], transcoder_set, source_run, now)}


def active_tokens(tables: Mapping[str, pa.Table], texts: Texts) -> tuple[pa.Table, str]:
    """Return (layer, feature, index into texts, activation) of counted active tokens, sorted by layer and feature, and their basis."""
    if "activation" in tables and tables["activation"].num_rows:
        rows, basis = tables["activation"].rename_columns({"prompt": "item"}), "activations"
    else:
        found = tables["context"]
        rows, basis = (
            found.filter(pc.greater(found["activation"], 0)).select(["layer", "feature", "item", "position", "activation"]),
            "contexts",
        )
        rows = (
            rows.group_by(["layer", "feature", "item", "position"])
            .aggregate([("activation", "max")])
            .rename_columns({"activation_max": "activation"})
        )
    at = texts.index(rows["item"].to_numpy().astype(np.int64), rows["position"].to_numpy().astype(np.int64))
    keep = (at >= 0) & np.append(texts.counted, False)[at]
    rows = rows.append_column("at", pa.array(at)).filter(pa.array(keep))
    layer, feature = rows["layer"].to_numpy(), rows["feature"].to_numpy()
    order = np.lexsort((rows["at"].to_numpy(), feature, layer))
    return rows.select(["layer", "feature", "at", "activation"]).take(pa.array(order)), basis


def profiles(active: pa.Table, texts: Texts, basis: str) -> pa.Table:
    """Return rows of `feature_profile` for the features in `active_tokens`."""
    layer, feature = active["layer"].to_numpy().astype(np.int64), active["feature"].to_numpy().astype(np.int64)
    at, value = active["at"].to_numpy(), active["activation"].to_numpy().astype(np.float64)
    names, which = np.unique(layer << 32 | feature, return_inverse=True)
    n, mass = len(names), np.bincount(which, value, minlength=len(names)).astype(np.float64)
    tokens, shares, distinct, offsets = _top_tokens(which, texts.token[at], value, mass)
    scripts, script_of = _scripts(texts.vocabulary)
    role, role_share = _largest(which, texts.role[at], value, n, len(texts.roles))
    script, script_share = _largest(which, script_of[texts.token[at]], value, n, len(scripts))
    per_token = 1.0 / np.maximum(texts.n_tokens, 1)
    language, language_share = _largest(which, texts.language[at], value * per_token[texts.language[at]], n, len(texts.languages))
    mean = np.bincount(which, value * texts.position[at], minlength=n) / mass
    square = np.bincount(which, value * (texts.position[at] - mean[which]) ** 2, minlength=n) / mass
    return pa.table(
        {
            "layer": pa.array((names >> 32).astype(np.int16)),
            "feature": pa.array((names & 0xFFFF_FFFF).astype(np.int32)),
            "basis": pa.array([basis] * n, pa.string()),
            "n_examples": pa.array(np.bincount(which, minlength=n).astype(np.int32)),
            "top_tokens": pa.ListArray.from_arrays(pa.array(offsets), _named(texts.vocabulary, tokens)),
            "top_shares": pa.ListArray.from_arrays(pa.array(offsets), pa.array(shares)),
            "n_distinct_tokens": pa.array(distinct.astype(np.int32)),
            "single_token_share": pa.array(shares[offsets[:-1]] if n else shares),
            "role": _named(texts.roles, role),
            "role_share": pa.array(role_share),
            "language": _named(texts.languages, language),
            "language_share": pa.array(language_share),
            "script": _named(scripts, script),
            "script_share": pa.array(script_share),
            "position_mean": pa.array(mean),
            "position_sd": pa.array(np.sqrt(square)),
        }
    )


def _top_tokens(which: Integers, token: Integers, value: Floats, mass: Floats) -> tuple[Integers, Floats, Integers, npt.NDArray[np.int32]]:
    """Return the strongest tokens of all features one after the other, their shares, tokens in all, and list offsets (n + 1)."""
    wide = int(token.max(initial=0)) + 1
    pair, inverse = np.unique(which * wide + token, return_inverse=True)
    total = np.bincount(inverse, value, minlength=len(pair))
    owner, code = pair // wide, pair % wide
    order = np.lexsort((code, -total, owner))
    owner, code, total = owner[order], code[order], total[order]
    distinct = np.bincount(owner, minlength=len(mass)).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(distinct)])
    kept = np.arange(len(owner)) - first[owner] < N_TOKENS
    offsets = np.concatenate([[0], np.cumsum(np.minimum(distinct, N_TOKENS))]).astype(np.int32)
    return code[kept], total[kept] / mass[owner[kept]], distinct, offsets


def _largest(which: Integers, group: Integers, value: Floats, n: int, n_groups: int) -> tuple[Integers, Floats]:
    """Return the group with the largest sum of each of n features, and its share."""
    sums = np.bincount(which * n_groups + group, value, minlength=n * n_groups).reshape(n, n_groups)
    best = sums.argmax(axis=1) if n else np.zeros(0, np.int64)
    return best, sums[np.arange(n), best] / sums.sum(axis=1)


def _named(names: tuple[str, ...], codes: Integers) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string())).dictionary_decode()


def _scripts(vocabulary: tuple[str, ...]) -> tuple[tuple[str, ...], Integers]:
    """Return the scripts that occur, and the index of each token's."""
    found = [script_of(text) for text in vocabulary]
    names = tuple(sorted(set(found)))
    return names, np.array([names.index(name) for name in found], np.int64)


@cache
def script_of(text: str) -> str:
    """Name the script of a token's first letter (`Latin`, `Han`, `Cyrillic`, …), or digits, punctuation, space, other."""
    for letter in text:
        if letter.isalpha():
            word = unicodedata.name(letter, "other").split()[0].capitalize()
            return "Han" if word == "Cjk" else word
    stripped = text.strip()
    if not stripped:
        return "space"
    return "digits" if stripped[0].isdigit() else "punctuation" if unicodedata.category(stripped[0])[0] in "PS" else "other"


def labels(profile: pa.Table, feature: pa.Table, transcoder_set: str, source_run: str, now: datetime) -> pa.Table:
    """Return rows of `label`: one for each feature with a profile, and for silent ones of a dictionary that is not too large."""
    cards = _promoted(feature)
    rows = [_label(row, cards.get((row["layer"], row["feature"]), [])) for row in profile.to_pylist()]
    if feature.num_rows <= EVERY_FEATURE_UP_TO:
        known = {(row["layer"], row["feature"]) for row in rows}
        columns = ["layer", "feature", "n_tokens"]
        rows += [_silent(row) for row in feature.select(columns).to_pylist() if (row["layer"], row["feature"]) not in known]
    rows.sort(key=lambda row: (row["layer"], row["feature"]))
    base = f"{VERSION}:{source_run}:{transcoder_set}"
    n = len(rows)
    return pa.table(
        {
            "label_id": pa.array([sha256_text(f"{base}:{row['layer']}:{row['feature']}")[:16] for row in rows], pa.string()),
            "transcoder_set": pa.array([transcoder_set] * n, pa.string()),
            "layer": pa.array([row["layer"] for row in rows], pa.int16()),
            "feature": pa.array([row["feature"] for row in rows], pa.int32()),
            "text": pa.array([row["text"] for row in rows], pa.string()),
            "method": pa.array(["mechanical"] * n, pa.string()),
            "author": pa.array(["feature-atlas"] * n, pa.string()),
            "source_run": pa.array([source_run] * n, pa.string()),
            "version": pa.array([VERSION] * n, pa.string()),
            "rule": pa.array([row["rule"] for row in rows], pa.string()),
            "created_at": pa.array([now] * n, pa.timestamp("us")),
            "retired": pa.array([False] * n, pa.bool_()),
        }
    )


def _promoted(feature: pa.Table) -> dict[tuple[int, int], list[str]]:
    if "promoted_tokens" not in feature.column_names:
        return {}
    some = feature.filter(pc.is_valid(feature["promoted_tokens"]))
    lists = pc.list_slice(some["promoted_tokens"], 0, 3).to_pylist()
    return dict(zip(zip(some["layer"].to_pylist(), some["feature"].to_pylist(), strict=True), lists, strict=True))


def rule_of(profile: Mapping[str, Any]) -> Rule:
    """Return the rule that a profile's shares give."""
    carried, tokens = 0.0, []
    for token, share in zip(profile["top_tokens"], profile["top_shares"], strict=True):
        tokens.append(token)
        carried += share
        if carried >= RULE_MASS:
            break
    role = profile["role"] if profile["role_share"] >= RULE_ONLY else None
    language = profile["language"] if profile["language_share"] >= RULE_ONLY else None
    return Rule(tuple(tokens) if carried >= RULE_LEAST else None, role, language)


def _label(profile: Mapping[str, Any], promoted: list[str]) -> dict[str, Any]:
    """Say a profile in one line."""
    shown = list(zip(profile["top_tokens"][:3], profile["top_shares"], strict=False))
    if profile["single_token_share"] >= SINGLE_TOKEN:
        parts = [f"the token {quoted(shown[0][0])} ({shown[0][1]:.0%})"]
    else:
        parts = [", ".join(f"{quoted(token)} {share:.0%}" for token, share in shown)]
        if profile["n_distinct_tokens"] > len(shown):
            parts[0] += f" of {profile['n_distinct_tokens']} tokens"
    if profile["role_share"] >= 0.6 and profile["role"] != "other":
        parts.append(f"{profile['role']} {profile['role_share']:.0%}")
    if profile["language_share"] >= 0.8:
        parts.append(f"{profile['language']} {profile['language_share']:.0%}")
    if profile["script"] != "Latin" and profile["script_share"] >= 0.6:
        parts.append(f"{profile['script']} {profile['script_share']:.0%}")
    if promoted:
        parts.append("promotes " + ", ".join(quoted(token) for token in promoted))
    return {"layer": profile["layer"], "feature": profile["feature"], "text": " · ".join(parts), "rule": rule_of(profile).to_json()}


def _silent(row: Mapping[str, Any]) -> dict[str, Any]:
    text = "silent" if row["n_tokens"] is None else f"silent on {row['n_tokens']:,} tokens"
    return {"layer": row["layer"], "feature": row["feature"], "text": text, "rule": None}


def quoted(token: str) -> str:
    """Write a token so that its spaces show."""
    return f"“{token}”"
