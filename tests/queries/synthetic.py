"""A small atlas with known structure: rows for every table of schema.sql, made of seeded numbers, without a model.

Three layers of 40 features on antonym prompts in English and French (8 concepts, 4 pairs, 3 templates) and gated minimal pairs.
Feature f of a layer means: 0-7 the concept f in both languages (it fires a little on the partner too), 8 operator of English, 9 operator of
French, 10 everything, 11 one template only, 12 the correct answer, 13 both behaviours, 14 decision, 15-29 noise, 30-39 dead.
`build(con, seed)` fills a database; `rows(seed)` gives the tables as lists of dicts, for formulations that use no SQL.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

Row = dict[str, Any]
Tables = dict[str, list[Row]]

SCHEMA = Path(__file__).resolve().parents[2] / "schema.sql"
SET = "synthetic-transcoders"
MODEL = "00000000000000aa"
RUN, OLDER, IMPORTED, PUBLISH = "a000000000000001", "b000000000000002", "c000000000000003", "d000000000000004"
N_LAYERS, N_FEATURES = 3, 40
CONCEPTS = ("hot", "cold", "big", "small", "fast", "slow", "rich", "poor")
FRENCH = ("chaud", "froid", "grand", "petit", "rapide", "lent", "riche", "pauvre")
TEMPLATES = ("opposite_of", "antonym", "contrary")
LANGUAGES = ("en", "fr")
WHEN = datetime(2026, 1, 1)


def partner(concept: int) -> int:
    """Return the other pole of an antonym pair."""
    return concept ^ 1


def rows(seed: int = 0) -> Tables:
    """Return all tables as rows."""
    tables: Tables = defaultdict(list)
    _frame(tables)
    for run, offset in ((RUN, 0), (OLDER, 100)):
        _run(tables, run, np.random.default_rng(seed + offset))
    _imported(tables)
    _words(tables)
    for run in (RUN, OLDER, IMPORTED):
        for name in sorted(tables):
            n = sum(row.get("run_id") == run for row in tables[name])
            if n and name not in ("run", "run_table"):
                tables["run_table"].append({"run_id": run, "table_name": name, "n_shards": 1, "n_rows": n, "n_bytes": 10 * n})
    return dict(tables)


def load(con: duckdb.DuckDBPyConnection, tables: Mapping[str, Sequence[Row]]) -> None:
    """Create the schema and insert the rows."""
    con.execute(SCHEMA.read_text(encoding="utf-8"))
    order = [name for (name,) in con.execute("select table_name from duckdb_tables() order by table_oid").fetchall()]
    for name in order:
        if tables.get(name):
            _insert(con, name, tables[name])


def _insert(con: duckdb.DuckDBPyConnection, name: str, some: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(key for row in some for key in row))
    con.register("arrow_rows", pa.table({column: [row.get(column) for row in some] for column in columns}))
    con.execute(f"insert into {name} by name select * from arrow_rows")
    con.unregister("arrow_rows")


def build(con: duckdb.DuckDBPyConnection, seed: int = 0) -> Tables:
    """Fill a database as `publish` would: rows, then every build step. Return the rows."""
    import queries

    tables = rows(seed)
    load(con, tables)
    for step in queries.build_steps():
        step.run(con)
    return tables


def _frame(tables: Tables) -> None:
    """What was used: model, transcoders, runs."""
    tables["atlas"].append(
        {
            "format_version": 1,
            "manifest": 3,
            "manifest_hash": "f" * 64,
            "code_version": "0.1.0",
            "published_at": WHEN,
            "activations_inline": True,
        }
    )
    tables["model"].append(
        {
            "model_id": MODEL,
            "name": "synthetic",
            "source": "embedded:synthetic",
            "architecture": "Qwen3ForCausalLM",
            "dtype": "float32",
            "n_layers": N_LAYERS,
            "d_model": 16,
            "vocab_size": 200,
        }
    )
    for layer in range(N_LAYERS):
        tables["transcoder"].append(
            {
                "transcoder_set": SET,
                "layer": layer,
                "model_id": MODEL,
                "source": "embedded:synthetic",
                "d_transcoder": N_FEATURES,
                "activation": "relu",
                "dtype": "float32",
                "has_skip": False,
                "hook_in": "mlp_in",
                "hook_out": "mlp_out",
                "gain_folded": False,
            }
        )
    kinds = (
        (RUN, "ingest", "synthetic", 3),
        (OLDER, "ingest", "synthetic, another seed", 1),
        (IMPORTED, "import", "imported graph", 2),
        (PUBLISH, "publish", "publish", 4),
    )
    for run, kind, name, day in kinds:
        plan = json.dumps({"name": name})
        tables["run"].append(
            {
                "run_id": run,
                "kind": kind,
                "name": name,
                "state": "complete",
                "attempt": 1,
                "model_id": None if kind == "publish" else MODEL,
                "transcoder_set": None if kind == "publish" else SET,
                "plan": plan,
                "plan_hash": hashlib.sha256(plan.encode()).hexdigest(),
                "prompt_set_hash": None if kind == "publish" else "e" * 64,
                "seed": day,
                "code_version": "0.1.0",
                "method": "edits were written to the wrong place" if kind == "import" else None,
                "started_at": WHEN + timedelta(days=day),
                "finished_at": WHEN + timedelta(days=day, minutes=5),
                "machine": "two cores",
                "seconds": 300.0,
            }
        )


def _run(tables: Tables, run: str, rng: np.random.Generator) -> None:
    prompts = _prompts(tables, run, rng)
    activations = _activations(tables, run, prompts, rng)
    _features(tables, run, prompts, activations, rng)
    _graph(tables, run, activations, rng)
    _interventions(tables, run, prompts, rng)
    _circuits(tables, run, prompts, rng)


def _prompts(tables: Tables, run: str, rng: np.random.Generator) -> list[Row]:
    """Antonym prompts of every concept, template and language, then gated pairs; tokens, answers and baselines with them."""
    prompts: list[Row] = []
    for c, concept in enumerate(CONCEPTS):
        for t, template in enumerate(TEMPLATES):
            for language in LANGUAGES:
                words = CONCEPTS if language == "en" else FRENCH
                prompts.append(
                    {
                        "behaviour": "antonyms",
                        "language": language,
                        "concept": concept,
                        "template": template,
                        "split": ("train", "test", "train")[t],
                        "operand": words[c],
                        "variant": None,
                        "held_out": "template" if t == 1 else None,
                        "_answers": (words[partner(c)], words[c]),
                        "_c": c,
                    }
                )
    for c, concept in enumerate(("garden", "cellar", "attic", "tower")):
        for variant in ("allow", "refuse"):
            for language in LANGUAGES:
                yes, no = ("yes", "no") if language == "en" else ("oui", "non")
                prompts.append(
                    {
                        "behaviour": "gate",
                        "language": language,
                        "concept": concept,
                        "template": "permission",
                        "split": "test" if c == 3 else "train",
                        "operand": concept,
                        "variant": variant,
                        "held_out": None,
                        "_answers": (yes, no) if variant == "allow" else (no, yes),
                        "_c": -1,
                    }
                )
    vocabulary = {word: 100 + k for k, word in enumerate(sorted({f" {answer}" for prompt in prompts for answer in prompt["_answers"]}))}
    for k, prompt in enumerate(prompts):
        roles = ["sink", "template", "operator", "content", "template", "decision"]
        if prompt["template"] == "contrary":
            roles.insert(4, "quote")
        text = f"{prompt['template']} {prompt['operand']} {prompt['variant'] or ''} ({prompt['language']})"
        prompt.update({"run_id": run, "prompt": k, "text": text, "n_tokens": len(roles)})
        prompt["prompt_hash"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        prompt["_roles"] = roles
        for position, role in enumerate(roles):
            token = prompt["operand"] if role == "content" else f"{role}-{prompt['language']}"
            tables["token"].append(
                {
                    "run_id": run,
                    "source": "prompt",
                    "item": k,
                    "position": position,
                    "token_id": (position * 7 + k) % 97,
                    "token": " " + token,
                    "role": role,
                    "char_start": None if role == "sink" else position * 3,
                    "char_end": None if role == "sink" else position * 3 + 3,
                }
            )
        margin = float(rng.normal(2.0 if prompt["language"] == "en" else 0.8, 1.0))
        top = prompt["_answers"][0 if margin > 0 else 1]
        for answer, word in enumerate(prompt["_answers"]):
            logit = 5.0 if answer == 0 else 5.0 - margin
            tables["answer"].append(
                {
                    "run_id": run,
                    "prompt": k,
                    "answer": answer,
                    "role": "correct" if answer == 0 else "contrast",
                    "text": f" {word}",
                    "token_id": vocabulary[f" {word}"],
                    "logit": logit,
                    "logprob": logit - 6.5,
                    "rank": 0 if word == top else 3,
                }
            )
        tables["baseline"].append(
            {
                "run_id": run,
                "prompt": k,
                "margin": margin,
                "correct": margin > 0,
                "top1_token_id": vocabulary[f" {top}"],
                "top1_token": f" {top}",
                "top1_logprob": -0.5,
                "entropy": float(rng.uniform(0.5, 2.0)),
            }
        )
        prompt["_margin"] = margin
    tables["prompt"] += [{key: value for key, value in prompt.items() if not key.startswith("_")} for prompt in prompts]
    _pairs(tables, run, prompts)
    for name, kind in (("antonyms", "abstract_mapping"), ("gate", "gated_decision")):
        tables["behaviour"].append(
            {
                "run_id": run,
                "behaviour": name,
                "title": f"The {name} behaviour",
                "computation_type": kind,
                "languages": list(LANGUAGES),
                "n_prompts": sum(prompt["behaviour"] == name for prompt in prompts),
                "prompt_set_hash": "e" * 64,
                "gate": 0.6,
            }
        )
    for document, language in enumerate((*LANGUAGES, "xx")):
        tables["document"].append(
            {
                "run_id": run,
                "document": document,
                "language": language,
                "source": "corpus.txt",
                "n_tokens": 40,
                "text_hash": f"{document:016d}",
            }
        )
    return prompts


def _pairs(tables: Tables, run: str, prompts: Sequence[Row]) -> None:
    pairs: list[tuple[str, int, int]] = []
    for a in prompts:
        for b in prompts:
            same = all(a[key] == b[key] for key in ("behaviour", "concept", "template"))
            if same and a["variant"] == b["variant"] and (a["language"], b["language"]) == LANGUAGES:
                pairs.append(("translation", a["prompt"], b["prompt"]))
            if same and a["language"] == b["language"] and (a["variant"], b["variant"]) == ("allow", "refuse"):
                pairs.append(("minimal", a["prompt"], b["prompt"]))
    for k, (kind, a_id, b_id) in enumerate(pairs):
        tables["prompt_pair"].append({"run_id": run, "pair": k, "kind": kind, "prompt_a": a_id, "prompt_b": b_id})


def _activations(tables: Tables, run: str, prompts: Sequence[Row], rng: np.random.Generator) -> list[Row]:
    some: list[Row] = []
    for prompt in prompts:
        for layer in range(N_LAYERS):
            for position, role in enumerate(prompt["_roles"]):
                for feature in range(30):
                    chance, level = _chance(feature, prompt, role, layer)
                    if rng.random() < chance:
                        value = float(np.float32(abs(rng.normal(level, 0.3)) + 0.05))
                        some.append(
                            {
                                "run_id": run,
                                "layer": layer,
                                "feature": feature,
                                "prompt": prompt["prompt"],
                                "position": position,
                                "activation": value,
                            }
                        )
    some.sort(key=lambda row: (row["layer"], row["feature"], row["prompt"], row["position"]))
    tables["activation"] += some
    tables["activation_by_prompt"] += sorted(some, key=lambda row: (row["prompt"], row["position"], row["layer"], row["feature"]))
    return some


def _chance(feature: int, prompt: Row, role: str, layer: int) -> tuple[float, float]:
    """Return the planted probability and size of an activation."""
    if role == "sink":
        return (1.0 if feature == 10 else 0.0), 9.0
    if feature < 8:
        shared = 0.6 + 0.15 * layer
        near = {prompt["_c"]: shared, partner(prompt["_c"]) if prompt["_c"] >= 0 else -9: 0.15}
        return (near.get(feature, 0.0) if role in ("content", "decision") else 0.0), 2.0
    if feature in (8, 9):
        return (0.95 if role == "operator" and prompt["language"] == LANGUAGES[feature - 8] else 0.0), 1.5
    if feature == 10:
        return 1.0, 1.0
    if feature == 11:
        return (0.9 if prompt["template"] == "opposite_of" and role == "template" else 0.0), 1.0
    if feature == 12:
        return (0.9 if prompt["_margin"] > 0 and role == "decision" else 0.0), 1.0
    if feature == 13:
        return (0.7 if role == "operator" else 0.0), 1.2
    if feature == 14:
        return (0.8 if role == "decision" else 0.0), 1.0
    return 0.03, 0.5


def _features(tables: Tables, run: str, prompts: Sequence[Row], activations: Sequence[Row], rng: np.random.Generator) -> None:
    """Statistics of every feature, sinks left out, in plain Python."""
    at = {(prompt["prompt"], k): (prompt["language"], role) for prompt in prompts for k, role in enumerate(prompt["_roles"])}
    n_tokens: dict[str, int] = defaultdict(int)
    n_role: dict[tuple[str, str], int] = defaultdict(int)
    for language, role in at.values():
        n_role[language, role] += 1
        n_tokens[language] += role != "sink"
    n_prompts = {language: sum(prompt["language"] == language for prompt in prompts) for language in LANGUAGES}
    grouped: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in activations:
        grouped[row["layer"], row["feature"]].append(row)
    for layer in range(N_LAYERS):
        for feature in range(N_FEATURES):
            mine = [row for row in grouped[layer, feature] if at[row["prompt"], row["position"]][1] != "sink"]
            values = np.array([row["activation"] for row in mine])
            total = sum(n_tokens.values())
            tables["feature"].append(
                {
                    "run_id": run,
                    "layer": layer,
                    "feature": feature,
                    "n_tokens": total,
                    "n_active": len(mine),
                    "n_prompts_active": len({row["prompt"] for row in mine}),
                    "density": len(mine) / total,
                    "max_activation": float(values.max()) if mine else None,
                    "mean_activation": float(values.mean()) if mine else None,
                    "sd_activation": float(values.std()) if mine else None,
                    "encoder_norm": 1.0 + 0.01 * feature,
                    "decoder_norm": 1.0 + float(rng.uniform(0, 0.5)),
                    "promoted_token_ids": [100, 101],
                    "promoted_tokens": [" cold", " froid"] if feature == 0 else [" yes", " no"],
                    "promoted_weights": [2.0, 1.0],
                    "suppressed_token_ids": [102, 103],
                    "suppressed_tokens": [" hot", " chaud"],
                    "suppressed_weights": [-2.0, -1.0],
                }
            )
            if not mine:
                continue
            for language in LANGUAGES:
                here = [row for row in mine if at[row["prompt"], row["position"]][0] == language]
                tables["feature_language"].append(
                    {
                        "run_id": run,
                        "layer": layer,
                        "feature": feature,
                        "language": language,
                        "n_tokens": n_tokens[language],
                        "n_active": len(here),
                        "n_prompts": n_prompts[language],
                        "n_prompts_active": len({row["prompt"] for row in here}),
                        "sum_activation": sum(row["activation"] for row in here),
                        "sum_squares": sum(row["activation"] ** 2 for row in here),
                        "max_activation": max((row["activation"] for row in here), default=0.0),
                    }
                )
                for role in dict.fromkeys(at[row["prompt"], row["position"]][1] for row in here):
                    some = [row for row in here if at[row["prompt"], row["position"]][1] == role]
                    tables["feature_role"].append(
                        {
                            "run_id": run,
                            "layer": layer,
                            "feature": feature,
                            "language": language,
                            "role": role,
                            "n_tokens": n_role[language, role],
                            "n_active": len(some),
                            "sum_activation": sum(row["activation"] for row in some),
                        }
                    )
            _samples(tables, run, (layer, feature), mine, at)
    for layer in range(-1, N_LAYERS):
        for language in LANGUAGES:
            tables["transcoder_quality"].append(
                {
                    "run_id": run,
                    "layer": layer,
                    "language": language,
                    "n_tokens": n_tokens[language],
                    "l0": 8.0 + layer,
                    "fvu": 0.05,
                    "n_dead": 10,
                    "kl": 0.02,
                    "top1_agreement": 0.98,
                }
            )


def _samples(tables: Tables, run: str, name: tuple[int, int], mine: Sequence[Row], at: Mapping[tuple[int, int], tuple[str, str]]) -> None:
    """Histogram, contexts and neighbours of one feature."""
    layer, feature = name
    head = {"run_id": run, "layer": layer, "feature": feature}
    values = [row["activation"] for row in mine]
    counts, edges = np.histogram(values, bins=4)
    for k, n in enumerate(counts):
        tables["histogram"].append({**head, "bin": k, "low": float(edges[k]), "high": float(edges[k + 1]), "n": int(n)})
    strongest = sorted(mine, key=lambda row: (-row["activation"], row["prompt"], row["position"]))[:5]
    for rank, row in enumerate(strongest):
        tables["context"].append(
            {
                **head,
                "kind": "top",
                "rank": rank,
                "source": "prompt",
                "item": row["prompt"],
                "position": row["position"],
                "language": at[row["prompt"], row["position"]][0],
                "activation": row["activation"],
                "quantile": 9,
                "window_start": max(row["position"] - 2, 0),
                "window_end": row["position"],
                "window_activations": [0.0] * min(row["position"], 2) + [row["activation"]],
            }
        )
    if layer + 1 < N_LAYERS:
        for kind, similarity in (("decoder_cosine", 0.9), ("coactivation", 0.5)):
            tables["neighbour"].append(
                {
                    **head,
                    "kind": kind,
                    "rank": 0,
                    "neighbour_layer": layer + 1,
                    "neighbour_feature": feature,
                    "similarity": similarity - 0.01 * feature,
                }
            )


def _graph(tables: Tables, run: str, activations: Sequence[Row], rng: np.random.Generator) -> None:
    """A graph over prompts with star, virtual-weight and causal edges, and a small attribution graph of prompt 0."""
    features = [(layer, feature) for layer in range(N_LAYERS) for feature in range(10)]
    n_prompts = len({row["prompt"] for row in activations})
    by_prompt: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for row in activations:
        key = (row["layer"], row["feature"])
        by_prompt[key][row["prompt"]] = max(row["activation"], by_prompt[key].get(row["prompt"], 0.0))
    language = {row["prompt"]: row["language"] for row in tables["prompt"] if row["run_id"] == run}
    output = len(features)
    edges: list[Row] = []
    for node, (layer, feature) in enumerate(features):
        values = by_prompt[layer, feature]
        array = np.array(list(values.values()))
        tables["node"].append(
            {
                "run_id": run,
                "graph": 0,
                "node": node,
                "kind": "feature",
                "layer": layer,
                "feature": feature,
                "role": "content" if feature < 8 else "operator",
                "label": f"L{layer}_F{feature}",
                "n_prompts": len(values),
                "frequency": len(values) / n_prompts,
                "mean_activation": float(array.mean()) if values else None,
                "sd_activation": float(array.std()) if values else None,
                "selection_frequency": float(rng.uniform(0.3, 1.0)),
                "kept": True,
            }
        )
        for name in LANGUAGES:
            mine = np.array([value for prompt, value in values.items() if language[prompt] == name])
            tables["node_language"].append(
                {
                    "run_id": run,
                    "graph": 0,
                    "node": node,
                    "language": name,
                    "n_prompts": len(mine),
                    "frequency": len(mine) / sum(tongue == name for tongue in language.values()),
                    "mean_activation": float(mine.mean()) if len(mine) else None,
                    "sd_activation": float(mine.std()) if len(mine) else None,
                }
            )
        for kind in ("star_total", "star_direct"):
            edges.append(_edge(run, kind, (node, layer, feature), (output, None, None), float(rng.normal(0, 1)), len(values)))
        for target, (later, other) in enumerate(features):
            if later > layer and (other == feature or rng.random() < 0.1):
                weight = float(rng.normal(0, 1))
                source, sink = (node, layer, feature), (target, later, other)
                edges.append(_edge(run, "virtual_weight", source, sink, weight, len(values)))
                causal = weight * (0.8 if rng.random() < 0.9 else -0.8)
                edges.append(_edge(run, "causal", source, sink, causal, len(values)))
    tables["node"].append({"run_id": run, "graph": 0, "node": output, "kind": "output", "label": "margin", "kept": True})
    tables["edge"] += edges
    _edge_details(tables, run, edges, language, rng)
    tables["graph"].append(
        {
            "run_id": run,
            "graph": 0,
            "kind": "prompt_set",
            "name": "antonyms",
            "behaviour": "antonyms",
            "n_prompts": n_prompts,
            "n_nodes": len(features) + 1,
            "n_edges": len(edges),
            "parameters": json.dumps({"max_nodes": 30, "universal": {"rate": 0.8}}),
        }
    )
    _partitions(tables, run, features)
    _attribution(tables, run)


def _edge(run: str, kind: str, source: tuple[int, int, int], target: tuple[int, int | None, int | None], weight: float, n: int) -> Row:
    is_output = target[1] is None
    return {
        "run_id": run,
        "graph": 0,
        "kind": kind,
        "source": source[0],
        "target": target[0],
        "source_layer": source[1],
        "source_feature": source[2],
        "target_kind": "output" if is_output else "feature",
        "target_layer": target[1],
        "target_feature": target[2],
        "weight": weight,
        "sd": 0.5,
        "n_prompts": n,
        "frequency": 1.0,
        "static_weight": weight if kind == "virtual_weight" else None,
        "attribution": weight * 0.5 if kind == "virtual_weight" else None,
        "target_weighted": weight * 0.6 if kind == "virtual_weight" else None,
        "selection_frequency": 0.5 + 0.5 * min(abs(weight), 1.0),
        "sign_stability": 0.5 + 0.5 * min(abs(weight), 1.0),
        "ci_low": weight - 0.3,
        "ci_high": weight + 0.3,
        "p_value": float(np.exp(-abs(weight) * 5)) if kind == "causal" else None,
        "q_value": float(min(1.0, 2 * np.exp(-abs(weight) * 5))) if kind == "causal" else None,
        "accepted": kind != "causal" or abs(weight) > 0.3,
    }


def _edge_details(tables: Tables, run: str, edges: Sequence[Row], language: Mapping[int, str], rng: np.random.Generator) -> None:
    for edge in edges:
        key = {name: edge[name] for name in ("run_id", "graph", "kind", "source", "target")}
        for name, share in zip(LANGUAGES, (1.2, 0.8), strict=True):
            tables["edge_language"].append({**key, "language": name, "n_prompts": 24, "weight": share * edge["weight"], "sd": 0.4})
        if edge["kind"] == "star_total" and edge["source"] < 4:
            for prompt in range(0, len(language), 4):
                weight = edge["weight"] + float(rng.normal(0, 0.5))
                tables["edge_prompt"].append({**key, "prompt": prompt, "weight": weight, "conditional": True})
    for node in sorted({edge["target"] for edge in edges}):
        weights = [edge["weight"] for edge in edges if edge["target"] == node and edge["kind"] == "virtual_weight"]
        tables["target_total"].append(
            {
                "run_id": run,
                "graph": 0,
                "node": node,
                "absolute_total": 1.2 * sum(map(abs, weights)),
                "absolute_selected": sum(map(abs, weights)),
                "signed_total": sum(weights),
                "constant": 0.1,
            }
        )


def _partitions(tables: Tables, run: str, features: Sequence[tuple[int, int]]) -> None:
    common = {"run_id": run, "graph": 0}
    for partition, kind in enumerate(("community", "supernode")):
        tables["partition"].append(
            {
                **common,
                "partition": partition,
                "kind": kind,
                "algorithm": "louvain" if kind == "community" else "average linkage",
                "seed": 0,
                "resolution": 1.0,
                "quality": 0.6,
                "n_groups": 3,
                "stability": 0.9,
            }
        )
    for node, (_, feature) in enumerate(features):
        group = 0 if feature < 8 else feature - 7
        tables["community"].append({**common, "partition": 0, "node": node, "community": group, "stability": 0.9})
        tables["supernode"].append({**common, "partition": 1, "node": node, "supernode": group, "name": f"group {group}", "stability": 0.8})


def _attribution(tables: Tables, run: str) -> None:
    kinds = (("token", None, None), ("error", 0, None), ("feature", 0, 0), ("feature", 1, 0), ("logit", None, None))
    for node, (kind, layer, feature) in enumerate(kinds):
        tables["node"].append(
            {
                "run_id": run,
                "graph": 1,
                "node": node,
                "kind": kind,
                "layer": layer,
                "feature": feature,
                "position": 3,
                "token_id": 100 if kind in ("token", "logit") else None,
                "label": f"{kind} {node}",
                "influence": 0.5 / (node + 1),
                "probability": 0.8 if kind == "logit" else None,
                "kept": True,
            }
        )
    for source, target, weight in ((0, 2, 0.7), (1, 3, 0.2), (2, 3, 0.9), (3, 4, 1.5), (2, 4, -0.4)):
        tables["edge"].append(
            {
                "run_id": run,
                "graph": 1,
                "kind": "attribution",
                "source": source,
                "target": target,
                "source_layer": kinds[source][1],
                "source_feature": kinds[source][2],
                "target_kind": kinds[target][0],
                "target_layer": kinds[target][1],
                "target_feature": kinds[target][2],
                "weight": weight,
                "n_prompts": 1,
                "accepted": True,
            }
        )
    tables["graph"].append(
        {
            "run_id": run,
            "graph": 1,
            "kind": "attribution",
            "name": "prompt 0",
            "behaviour": "antonyms",
            "prompt": 0,
            "n_prompts": 1,
            "n_nodes": 5,
            "n_edges": 5,
            "replacement_score": 0.7,
            "completeness_score": 0.8,
            "unexplained_share": 0.2,
            "node_threshold": 0.8,
            "edge_threshold": 0.98,
        }
    )


def _interventions(tables: Tables, run: str, prompts: Sequence[Row], rng: np.random.Generator) -> None:
    """Single, joint and scaled edits with controls, and swaps with what they transferred."""
    antonyms = [prompt for prompt in prompts if prompt["behaviour"] == "antonyms"]
    for layer in range(N_LAYERS):
        for feature in (0, 2, 8, 9, 12):
            effect = {0: (-1.0, -0.8), 2: (-0.5, -0.6), 8: (-0.7, 0.3), 9: (0.1, -0.7), 12: (0.2, 0.2)}[feature]
            one = _intervene(tables, run, antonyms, rng, "zero", [(layer, feature)], effect)
            for draw in range(20):
                _intervene(
                    tables,
                    run,
                    antonyms,
                    rng,
                    "zero",
                    [(layer, 15 + draw % 15)],
                    (-0.02, -0.02),
                    control_of=one,
                    control="matched_random",
                    draw=draw,
                )
    for rule in ("mean", "resample"):
        _intervene(tables, run, antonyms, rng, rule, [(1, 0)], (-0.9, -0.7))
    for strength in (-1.0, 0.5, 1.5, 2.0):
        scale = strength - 1.0
        _intervene(tables, run, antonyms, rng, "scale", [(1, 0)], (scale, 0.8 * scale), strength=strength)
    _intervene(tables, run, antonyms, rng, "zero", [(1, 0), (1, 2)], (-1.2, -1.1))
    _intervene(tables, run, antonyms, rng, "no_op", [(1, 0)], (0.0, 0.0))
    swap = _intervene(tables, run, [], rng, "swap", [(layer, 0) for layer in range(N_LAYERS)], (0.0, 0.0))
    control = _intervene(
        tables, run, [], rng, "swap", [(layer, 15) for layer in range(N_LAYERS)], (0.0, 0.0), control_of=swap, control="matched_random"
    )
    for intervention, mean in ((swap, 2.0), (control, 0.1)):
        _transfer(tables, run, antonyms, rng, intervention, mean, None if intervention == swap else "matched_random")


def _intervene(
    tables: Tables,
    run: str,
    prompts: Sequence[Row],
    rng: np.random.Generator,
    rule: str,
    members: Sequence[tuple[int, int]],
    effect: tuple[float, float],
    *,
    strength: float | None = None,
    control_of: int | None = None,
    control: str | None = None,
    draw: int | None = None,
) -> int:
    number = sum(row["run_id"] == run for row in tables["intervention"])
    names = " ".join(f"L{layer}_F{feature}" for layer, feature in members)
    tables["intervention"].append(
        {
            "run_id": run,
            "intervention": number,
            "name": f"{rule} {names}",
            "behaviour": "antonyms",
            "rule": rule,
            "mode": "free",
            "positions": "decision",
            "strength": strength,
            "hook": "mlp_out",
            "keeps_error": True,
            "sound": True,
            "n_members": len(members),
            "layer_low": min(layer for layer, _ in members),
            "layer_high": max(layer for layer, _ in members),
            "control_of": control_of,
            "control": control,
            "draw": draw,
            "n_pool": None if control is None else 15,
            "distinct_sets": 15.0 if control else None,
            "seed": 0,
            "noise_floor": 1e-6,
        }
    )
    for layer, feature in members:
        tables["intervention_member"].append(
            {
                "run_id": run,
                "intervention": number,
                "layer": layer,
                "feature": feature,
                "position": -1,
                "value": 0.0 if rule == "zero" else None,
            }
        )
    for prompt in prompts:
        mean = effect[LANGUAGES.index(prompt["language"])]
        # A layer and a concept have effects of their own, so that the shares of variance are not trivial.
        change = 0.0 if rule == "no_op" else mean + 0.1 * members[0][0] + float(rng.normal(0, 0.2))
        before = prompt["_margin"]
        top = [row["token_id"] for row in tables["answer"] if row["run_id"] == run and row["prompt"] == prompt["prompt"]]
        tables["outcome"].append(
            {
                "run_id": run,
                "intervention": number,
                "prompt": prompt["prompt"],
                "source_prompt": -1,
                "margin_before": before,
                "margin_after": before + change,
                "effect": change,
                "kl": abs(change) * 0.1,
                "top1_before": top[0 if before > 0 else 1],
                "top1_after": top[0 if before + change > 0 else 1],
                "predicted_gradient": change * 0.9 if len(members) == 1 else None,
                "predicted_integrated": change * 0.98,
                "n_edited": len(members) if change else 0,
                "delta_norm": abs(change),
            }
        )
        for answer, token in enumerate(top):
            shift = change / 2 if answer == 0 else -change / 2
            tables["outcome_answer"].append(
                {
                    "run_id": run,
                    "intervention": number,
                    "prompt": prompt["prompt"],
                    "source_prompt": -1,
                    "answer": answer,
                    "token_id": token,
                    "logit_before": 5.0 - answer * before,
                    "logit_after": 5.0 - answer * before + shift,
                    "logprob_before": -1.5 - answer * before,
                    "logprob_after": -1.5 - answer * before + shift,
                }
            )
    return number


def _transfer(
    tables: Tables, run: str, prompts: Sequence[Row], rng: np.random.Generator, intervention: int, mean: float, control: str | None
) -> None:
    for source in prompts:
        for target in prompts:
            if source["language"] == target["language"] or source["concept"] == target["concept"]:
                continue
            if source["template"] != "opposite_of" or target["template"] != "opposite_of":
                continue
            rise = float(rng.normal(mean, 0.5))
            head = {"run_id": run, "intervention": intervention, "prompt": target["prompt"], "source_prompt": source["prompt"]}
            tables["transfer"].append(
                {
                    **head,
                    "source_language": source["language"],
                    "target_language": target["language"],
                    "source_concept": source["concept"],
                    "target_concept": target["concept"],
                    "expected_token_id": 100,
                    "rise": rise,
                    "rise_source_language": rise * 0.5,
                    "rise_partner": rise * 0.3,
                    "prefers_expected": target["_margin"] < rise,
                    "control": control,
                }
            )
            tables["outcome"].append(
                {
                    **head,
                    "margin_before": target["_margin"],
                    "margin_after": target["_margin"] - rise,
                    "effect": -rise,
                    "n_edited": 3,
                }
            )


def _circuits(tables: Tables, run: str, prompts: Sequence[Row], rng: np.random.Generator) -> None:
    members = [(0, 0), (1, 0), (2, 0), (1, 2)]
    for circuit, control_of in ((0, None), (1, 0)):
        tables["circuit"].append(
            {
                "run_id": run,
                "circuit": circuit,
                "graph": 0,
                "name": "antonyms" if control_of is None else "random match",
                "behaviour": "antonyms",
                "method": "paths",
                "reference": "mean",
                "control_of": control_of,
                "n_features": 4,
                "n_edges": 1,
            }
        )
        for member, (layer, feature) in enumerate(members):
            tables["circuit_member"].append(
                {
                    "run_id": run,
                    "circuit": circuit,
                    "member": member,
                    "kind": "feature",
                    "layer": layer,
                    "feature": feature + circuit * 15,
                    "role": "content",
                }
            )
        tables["circuit_member"].append(
            {
                "run_id": run,
                "circuit": circuit,
                "member": 4,
                "kind": "edge",
                "layer": 0,
                "feature": circuit * 15,
                "target_layer": 1,
                "target_feature": circuit * 15,
                "edge_kind": "causal",
                "weight": 0.7,
            }
        )
    for rank in range(3):
        tables["path"].append(
            {
                "run_id": run,
                "graph": 0,
                "kind": "causal",
                "rank": rank,
                "circuit": 0,
                "nodes": [rank, 10 + rank, 20 + rank, 30],
                "weights": [0.5, 0.4, 0.9],
                "score": 0.18 / (rank + 1),
                "target": "margin",
            }
        )
    _evaluations(tables, run)


def _evaluations(tables: Tables, run: str) -> None:
    def add(property_: str, value: float, **more: Any) -> None:
        number = sum(row["run_id"] == run for row in tables["evaluation"])
        tables["evaluation"].append(
            {
                "run_id": run,
                "evaluation": number,
                "subject": "circuit 0",
                "circuit": 0,
                "behaviour": "antonyms",
                "property": property_,
                "language": "all",
                "split": "test",
                "value": value,
                "ci_low": value - 0.1,
                "ci_high": value + 0.1,
                "control_mean": 0.1,
                "control_low": 0.0,
                "control_high": 0.2,
                "n_controls": 100,
                "n_prompts": 16,
                "n_clusters": 8,
                "p_value": 0.0099,
                "supports": True,
                **more,
            }
        )

    for share, value in ((0.0, 0.0), (0.25, 0.5), (0.5, 0.8), (1.0, 1.0)):
        add("faithfulness", value, x=share, reference="mean", error_mode="clean")
        if share != 0.5:
            add("completeness", 1 - value * value, x=share, reference="mean", error_mode="clean")
    add("necessity", 0.6)
    for name, value in (("directionality", 0.9), ("persistence", 0.7), ("replaceability", 0.5)):
        add(name, value, subject="antonyms", circuit=None)
    for kind in ("hidden_state_transfer", "candidate_set_filtering", "abstract_mapping", "gated_decision"):
        for behaviour in ("antonyms", "gate"):
            fits = (kind == "gated_decision") == (behaviour == "gate")
            add(
                "type_test",
                0.8 if fits else 0.1,
                subject=behaviour,
                circuit=None,
                behaviour=behaviour,
                computation_type=kind,
                supports=fits,
            )


def _imported(tables: Tables) -> None:
    """One imported graph with unsound interventions, as files of other tools bring them."""
    tables["graph"].append(
        {"run_id": IMPORTED, "graph": 0, "kind": "prompt_set", "name": "imported", "n_prompts": 96, "n_nodes": 2, "n_edges": 1}
    )
    for node in range(2):
        tables["node"].append(
            {
                "run_id": IMPORTED,
                "graph": 0,
                "node": node,
                "kind": "feature",
                "layer": node,
                "feature": 0,
                "label": f"L{node}_F0",
                "kept": True,
            }
        )
    tables["edge"].append(_edge(IMPORTED, "virtual_weight", (0, 0, 0), (1, 1, 0), 0.5, 96))
    tables["prompt"].append(
        {
            "run_id": IMPORTED,
            "prompt": 0,
            "behaviour": "antonyms",
            "prompt_hash": "1" * 16,
            "language": "en",
            "concept": "hot",
            "template": "quoted",
            "split": "train",
            "text": "The opposite of hot is",
            "n_tokens": 6,
            "operand": "hot",
        }
    )
    written = {"token_ids": [2, 3], "tokens": [" cold", "."], "token_logprobs": [-0.5, -0.25], "text": " cold."}
    for sample in (0, 1):
        here = {"run_id": IMPORTED, "intervention": 0, "prompt": 0, "sample": sample, "temperature": 0.8, "seed": 1, "kl": 0.25}
        tables["continuation"].append({**here, **written})
    place = {"run_id": IMPORTED, "intervention": 0, "prompt": 0}
    tables["next_token"].append({**place, "token_id": 2, "token": " cold", "logprob_before": -0.5, "logprob_after": -1.5})
    tables["feature_change"].append({**place, "layer": 1, "feature": 2, "position": 3, "before": 0.5, "after": 1.5})
    tables["reference_baseline"].append(
        {"run_id": IMPORTED, "prompt": 0, "source": "baseline.csv", "model": "another model", "margin": 2.0, "correct": True}
    )
    tables["intervention"].append(
        {
            "run_id": IMPORTED,
            "intervention": 0,
            "name": "zero L0_F0",
            "behaviour": "antonyms",
            "rule": "zero",
            "mode": "free",
            "positions": "all",
            "hook": "mlp_in",
            "keeps_error": False,
            "sound": False,
            "n_members": 1,
            "layer_low": 0,
            "layer_high": 0,
        }
    )
    tables["intervention_member"].append({"run_id": IMPORTED, "intervention": 0, "layer": 0, "feature": 0, "position": -1})
    tables["outcome"].append(
        {
            "run_id": IMPORTED,
            "intervention": 0,
            "prompt": 0,
            "source_prompt": -1,
            "margin_before": 5.0,
            "margin_after": 5.1,
            "effect": 0.1,
            "n_edited": 1,
        }
    )


def _words(tables: Tables) -> None:
    """Labels, notes, stars, saved queries."""
    head = {"transcoder_set": SET, "layer": 1, "feature": 0}
    tables["label"].append(
        {
            **head,
            "label_id": "1" * 16,
            "text": "heat and its opposite",
            "method": "manual",
            "author": "somebody",
            "created_at": WHEN,
            "retired": False,
        }
    )
    _label_scores(tables)
    _matches(tables)
    tables["note"].append({**head, "note_id": "2" * 16, "subject": "feature", "text": "look again", "created_at": WHEN, "deleted": False})
    tables["star"].append({**head, "created_at": WHEN})
    tables["saved_query"].append({"name": "mine", "sql": "select 1", "parameters": "{}", "created_at": WHEN})
    tables["claim"].append(
        {
            "claim_id": "written-by-hand",
            "statement": "The imported graph has one edge.",
            "source": "a text",
            "published": "1",
            "query": "graphs/summary",
            "verdict": "reproduced",
            "run_id": IMPORTED,
        }
    )


def _label_scores(tables: Tables) -> None:
    """Scores of the manual label, which holds in English only by fuzzing; a mechanical label; what labelling runs leave beside."""
    mechanical = {"transcoder_set": SET, "layer": 1, "feature": 2, "label_id": "3" * 16, "text": "the token “ big”", "method": "mechanical"}
    tables["label"].append({**mechanical, "created_at": WHEN, "retired": False, "source_run": RUN, "rule": '{"tokens": [" big"]}'})
    scored = (("1", "detection", "en", 0.9), ("1", "detection", "fr", 0.8), ("1", "fuzzing", "en", 0.95), ("1", "fuzzing", "fr", 0.5))
    for label, score, language, value in (*scored, ("3", "detection", "en", 0.7), ("3", "detection", "fr", 1.0)):
        interval = {"ci_low": value - 0.15, "ci_high": min(value + 0.15, 1.0), "sensitivity": value, "specificity": value, "auc": value}
        about = {"label_id": label * 16, "score": score, "language": language, "prompt_version": f"{score}-1", "value": value}
        tables["label_score"].append({**about, **interval, "n_examples": 20, "n_activating": 10, "source_run": RUN, "model": "a scorer"})
    for run in (RUN, OLDER):
        for layer, feature in ((1, 0), (2, 9)):
            head = {"run_id": run, "layer": layer, "feature": feature}
            shares = {"top_tokens": [" hot", " big"], "top_shares": [0.95, 0.05], "n_distinct_tokens": 2, "single_token_share": 0.95}
            where = {"role": "content", "role_share": 0.9, "language": "en", "language_share": 0.5, "script": "Latin", "script_share": 1.0}
            more = {"basis": "activations", "n_examples": 30 + layer, "position_mean": 3.0, "position_sd": 0.5}
            tables["feature_profile"].append({**head, **shares, **where, **more})
            for language, value in (("en", 0.9), ("fr", 0.3 if feature else 0.8)):
                tried = {"value": value, "chance": 0.2, "n_trials": 10, "ci_low": value - 0.2, "ci_high": min(value + 0.2, 1.0)}
                about = {"source_run": run, "transcoder_set": SET, "language": language, "prompt_version": "intruder-1"}
                tables["intruder_score"].append({**head, **about, **tried})
        failed = {"layer": 1, "feature": 3, "step": "write", "reason": "no answer within 2 s", "attempts": 4}
        tables["label_failure"].append({"run_id": run, "failure": 0, **failed})
        judged = {"label_id": "1" * 16, "layer": 1, "feature": 0, "score": "detection", "language": "en", "source": "prompt", "position": 2}
        for example, activating in enumerate((True, False)):
            said = {"item": example, "activating": activating, "predicted": True, "quantile": 9 if activating else None}
            tables["label_example"].append({"run_id": run, **judged, "example": example, **said})


def _matches(tables: Tables) -> None:
    """Two comparisons of the run with an older one: pairs, a split, features of one alone."""
    pairs = (("identical", 0, 0), ("matched", 1, 2), ("split", 3, 3), ("split", 3, 4), ("merged", 5, 6), ("merged", 7, 6), ("weak", 8, 9))
    for run in (RUN, OLDER):
        about = {"run_id": run, "run_a": RUN, "run_b": OLDER, "transcoder_set_a": SET, "transcoder_set_b": SET}
        for measure in ("decoder", "coactivation"):
            for match, (relation, a, b) in enumerate((*pairs, ("gone", 10, None), ("new", None, 11))):
                likeness = None if a is None or b is None else round(1.0 - 0.07 * match - 0.01 * (run == OLDER), 4)
                side_a = {"layer_a": None if a is None else 1, "feature_a": a}
                side_b = {"layer_b": None if b is None else 1, "feature_b": b}
                more = {"relation": relation, "similarity": likeness, "cosine": likeness, "jaccard": likeness}
                tables["feature_match"].append({**about, "measure": measure, "match": match, **side_a, **side_b, **more})
