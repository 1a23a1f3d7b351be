"""Random atlases without structure, small enough for hundreds of examples: rows of one run, as polars frames and in a database.

The frames are what independent formulations read; the database is what questions read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb
import numpy as np
import polars as pl

RUN = "9" * 16
ROLES = ("sink", "template", "operator", "content", "decision")


@dataclass
class World:
    """One run."""

    prompt: pl.DataFrame
    token: pl.DataFrame
    activation: pl.DataFrame
    baseline: pl.DataFrame
    node: pl.DataFrame
    node_language: pl.DataFrame
    edge: pl.DataFrame
    community: pl.DataFrame
    intervention: pl.DataFrame
    member: pl.DataFrame
    outcome: pl.DataFrame
    n_layers: int = 2
    n_features: int = 6
    languages: tuple[str, str] = field(default=("en", "fr"))

    def active(self) -> pl.DataFrame:
        """Activations beside prompt and role, sinks left out."""
        at = self.token.select(pl.col("item").alias("prompt"), "position", "role")
        return self.activation.join(at, on=["prompt", "position"]).join(self.prompt, on="prompt").filter(pl.col("role") != "sink")


def world(seed: int) -> World:
    """Draw a run."""
    rng = np.random.default_rng(seed)
    n_concepts, n_templates = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    prompts = [
        {"behaviour": "b", "language": language, "concept": f"c{c}", "template": f"t{t}", "split": "train" if t else "test"}
        for c in range(n_concepts)
        for t in range(n_templates)
        for language in ("en", "fr")
        if rng.random() < 0.9 or (c < 2 and t == 0)
    ]
    for k, row in enumerate(prompts):
        row |= {"prompt": k, "prompt_hash": f"{k:016d}", "text": f"prompt {k}", "n_tokens": len(ROLES), "operand": row["concept"]}
    tokens = [
        {"source": "prompt", "item": k, "position": position, "token": f"t{position}", "role": role}
        for k in range(len(prompts))
        for position, role in enumerate(ROLES)
    ]
    density = rng.choice([0.05, 0.3, 0.7])
    activations = [
        {
            "layer": layer,
            "feature": feature,
            "prompt": k,
            "position": position,
            "activation": float(np.float32(rng.choice([0.5, 1.0, 2.0]) if rng.random() < 0.5 else rng.exponential())) + 0.01,
        }
        for layer in range(2)
        for feature in range(6)
        for k in range(len(prompts))
        for position in range(len(ROLES))
        if rng.random() < density
    ]
    baseline = [
        {"prompt": k, "margin": float(margin), "correct": bool(margin > 0)} for k, margin in enumerate(rng.normal(0.3, 1, len(prompts)))
    ]
    return World(
        prompt=pl.DataFrame(prompts),
        token=pl.DataFrame(tokens),
        activation=pl.DataFrame(activations, schema=_ACTIVATION),
        baseline=pl.DataFrame(baseline),
        **_graph(rng),
        **_interventions(rng, len(prompts)),
    )


_ACTIVATION = {"layer": pl.Int64, "feature": pl.Int64, "prompt": pl.Int64, "position": pl.Int64, "activation": pl.Float64}


def _graph(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    n = int(rng.integers(3, 10))
    layers = np.sort(rng.integers(0, 4, n)).tolist()
    nodes = [
        {"graph": 0, "node": k, "kind": "feature", "layer": layers[k], "feature": k, "label": f"L{layers[k]}_F{k}", "kept": True}
        for k in range(n)
    ]
    nodes.append({"graph": 0, "node": n, "kind": "output", "layer": None, "feature": None, "label": "margin", "kept": True})
    edges = [
        _edge("causal", nodes[a], nodes[b], float(rng.normal()), bool(rng.random() < 0.8))
        for a in range(n)
        for b in range(n)
        if layers[a] < layers[b] and rng.random() < 0.5
    ]
    edges += [_edge("star_total", nodes[a], nodes[n], float(rng.normal()), True) for a in range(n) if a == 0 or rng.random() < 0.7]
    counts = [
        {"graph": 0, "node": k, "language": language, "n_prompts": int(rng.integers(0, 9)), "frequency": 0.5}
        for k in range(n)
        for language in ("en", "fr")
        if rng.random() < 0.9
    ]
    groups = [
        {"graph": 0, "partition": 0, "node": k, "community": int(rng.integers(0, 3)), "stability": float(rng.random())} for k in range(n)
    ]
    return {
        "node": pl.DataFrame(nodes),
        "node_language": pl.DataFrame(
            counts, schema={"graph": pl.Int64, "node": pl.Int64, "language": pl.String, "n_prompts": pl.Int64, "frequency": pl.Float64}
        ),
        "edge": pl.DataFrame(edges),
        "community": pl.DataFrame(groups),
    }


def _edge(kind: str, source: dict[str, object], target: dict[str, object], weight: float, accepted: bool) -> dict[str, object]:
    return {
        "graph": 0,
        "kind": kind,
        "source": source["node"],
        "target": target["node"],
        "source_layer": source["layer"],
        "source_feature": source["feature"],
        "target_kind": target["kind"],
        "target_layer": target["layer"],
        "target_feature": target["feature"],
        "weight": weight,
        "accepted": accepted,
    }


def _interventions(rng: np.random.Generator, n_prompts: int) -> dict[str, pl.DataFrame]:
    interventions: list[dict[str, object]] = []
    members: list[dict[str, object]] = []
    outcomes: list[dict[str, object]] = []
    for subject in range(int(rng.integers(1, 4))):
        first = len(interventions)
        for draw in range(-1, 3):
            number = len(interventions)
            control = draw >= 0
            interventions.append(
                {
                    "intervention": number,
                    "name": f"zero {number}",
                    "rule": "zero",
                    "mode": "free",
                    "positions": "all",
                    "hook": "mlp_out",
                    "keeps_error": True,
                    "sound": True,
                    "n_members": 1,
                    "layer_low": subject % 2,
                    "layer_high": subject % 2,
                    "control_of": first if control else None,
                    "control": "matched_random" if control else None,
                    "draw": draw if control else None,
                    "distinct_sets": 500.0 if control else None,
                }
            )
            members.append({"intervention": number, "layer": subject % 2, "feature": number, "position": -1})
            for prompt in range(n_prompts):
                if rng.random() < 0.95:
                    effect = float(np.float32(rng.normal(-0.5 if not control else 0.0, 0.5)))
                    outcomes.append(
                        {
                            "intervention": number,
                            "prompt": prompt,
                            "source_prompt": -1,
                            "margin_before": 1.0,
                            "margin_after": 1.0 + effect,
                            "effect": effect,
                        }
                    )
    return {
        "intervention": pl.DataFrame(interventions, infer_schema_length=None),
        "member": pl.DataFrame(members),
        "outcome": pl.DataFrame(outcomes),
    }


def insert(con: duckdb.DuckDBPyConnection, drawn: World) -> None:
    """Put a world into an atlas with an empty schema, in the order that shards have."""
    con.execute(
        "insert into run by name select ? as run_id, 'ingest' as kind, 'random' as name, 'complete' as state, 1 as attempt, '{}' as plan, "
        "'0' as plan_hash, '0' as code_version",
        [RUN],
    )
    by_prompt = drawn.activation.sort("prompt", "position", "layer", "feature")
    for table, frame in (
        ("prompt", drawn.prompt),
        ("token", drawn.token),
        ("activation", drawn.activation),
        ("activation_by_prompt", by_prompt),
        ("baseline", drawn.baseline),
        ("node", drawn.node),
        ("node_language", drawn.node_language),
        ("edge", drawn.edge),
        ("community", drawn.community),
        ("intervention", drawn.intervention),
        ("intervention_member", drawn.member),
        ("outcome", drawn.outcome),
        ("feature", features(drawn)),
    ):
        con.register("frame", frame.with_columns(pl.lit(RUN).alias("run_id")).to_arrow())
        con.execute(f"insert into {table} by name select * from frame")
        con.unregister("frame")


def features(drawn: World) -> pl.DataFrame:
    """Table feature: counts of all features, dead ones too."""
    counts = (
        drawn.active()
        .group_by("layer", "feature")
        .agg(
            pl.len().alias("n_active"),
            pl.col("prompt").n_unique().alias("n_prompts_active"),
            pl.col("activation").max().alias("max_activation"),
        )
    )
    everything = pl.DataFrame(
        {"layer": layer, "feature": feature} for layer in range(drawn.n_layers) for feature in range(drawn.n_features)
    )
    n_tokens = len(drawn.token.filter(pl.col("role") != "sink"))
    return everything.join(counts, on=["layer", "feature"], how="left").with_columns(
        pl.col("n_active").fill_null(0),
        pl.col("n_prompts_active").fill_null(0),
        pl.lit(n_tokens).alias("n_tokens"),
        (pl.col("n_active").fill_null(0) / n_tokens).alias("density"),
    )
