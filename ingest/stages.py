"""The stages of an ingest: each turns what is known so far into tables of schema.sql, and is committed as one shard.

In: a `Workshop`. Out: table name -> rows without run_id. What a stage computes stands in its own module; this one only chooses
settings from the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from ingest.pipeline import Tables, Workshop


def prompts(shop: Workshop) -> Tables:
    """Model, transcoders, behaviours, prompts, pairs, tokens."""
    model_row = shop.model.row()
    return {
        "model": pa.Table.from_pylist([model_row]),
        "transcoder": pa.Table.from_pylist(shop.transcoders.rows(str(model_row["model_id"]))),
        **shop.prompts.tables(),
    }


def baseline(shop: Workshop) -> Tables:
    """What the model does unedited, and the gate."""
    from ingest.baseline import BaselineConfig, check_gate
    from ingest.baseline import baseline as measure

    config = BaselineConfig(batch_size=shop.plan.batch_size)
    tables = measure(shop.model, shop.prompts, config, progress=shop.counter("baseline"))
    gates = {behaviour.name: behaviour.gate if shop.plan.gate < 0 else shop.plan.gate for behaviour in shop.prompts.behaviours}
    check_gate(shop.prompts, tables["baseline"], gates)
    return tables


def activations(shop: Workshop) -> Tables:
    """Every active feature, their statistics, contexts, cards and neighbours."""
    from ingest.activations import ActivationConfig
    from ingest.activations import activations as extract
    from ingest.features import features

    config = ActivationConfig(layers=shop.plan.layers or None, batch_size=shop.plan.batch_size, seed=shop.plan.seed)
    tables = extract(shop.model, shop.transcoders, shop.prompts, config, progress=shop.counter("activations"))
    return {**tables, **features(shop.model, shop.transcoders, tables, progress=shop.counter("feature cards"))}


def graph(shop: Workshop) -> Tables:
    """Star and virtual-weight edges over the train prompts, one graph a behaviour."""
    from ingest.graphs.edges import edges
    from ingest.graphs.selection import EdgeConfig

    config = EdgeConfig(
        layers=shop.plan.layers or None, max_nodes=shop.plan.graph_features, batch_size=shop.plan.batch_size, seed=shop.plan.seed
    )
    return edges(shop.model, shop.transcoders, shop.prompts, config, progress=shop.counter("graph"))


def communities(shop: Workshop) -> Tables:
    """Communities and supernodes of each graph."""
    from ingest.graphs.communities import CommunityConfig
    from ingest.graphs.communities import communities as divide

    graphs = {name: shop.table("graph", name) for name in ("graph", "node", "edge")}
    config = CommunityConfig(seed=shop.plan.seed)
    activation = shop.table("activations", "activation")
    return divide(graphs, shop.transcoders, shop.prompts, activation, config, progress=shop.counter("communities"))


def interventions(shop: Workshop) -> Tables:
    """Ablations, patching, steering and injection, each beside its controls."""
    from ingest.interventions import InterventionConfig
    from ingest.interventions import interventions as intervene

    plan = shop.plan
    config = InterventionConfig(
        ablated_features=plan.ablated_features,
        max_prompts=plan.edited_prompts,
        top_features=plan.top_features,
        control_draws=plan.control_draws,
        steering=plan.steering,
        transfer_concepts=plan.transfer_concepts,
        seed=plan.seed,
    )
    return intervene(shop.model, shop.transcoders, shop.prompts, config, progress=shop.counter("interventions"))


STAGE_FUNCTIONS: Mapping[str, Callable[[Workshop], Tables]] = {
    "prompts": prompts,
    "baseline": baseline,
    "activations": activations,
    "graph": graph,
    "communities": communities,
    "interventions": interventions,
}
