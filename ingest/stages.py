"""The stages of an ingest: each turns what is known so far into tables of schema.sql, and is committed as one shard.

In: a `Workshop`. Out: table name -> rows without run_id. What a stage computes stands in its own module; this one only chooses
settings from the plan.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from ingest.plan import Plan
from ingest.workshop import Tables, Workshop

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ingest.interventions import InterventionConfig


def prompts(shop: Workshop) -> Tables:
    """Model, transcoders, behaviours, prompts, pairs, tokens."""
    return {**model_tables(shop), **shop.prompts.tables()}


def model_tables(shop: Workshop) -> Tables:
    """Rows of the model and of the layers that are analysed."""
    model_row = shop.model.row()
    transcoders = shop.transcoders.rows(str(model_row["model_id"]))
    return {"model": pa.Table.from_pylist([model_row]), "transcoder": pa.Table.from_pylist(transcoders)}


def corpus(shop: Workshop) -> Tables:
    """What features fire on in a corpus, with their cards and neighbours: the only stage of a run over a corpus."""
    from atlas.schema import arrow_schema
    from ingest.corpus import CorpusConfig, corpus_pass
    from ingest.corpus_source import corpus_files
    from ingest.features import features

    plan = shop.plan
    config = CorpusConfig(
        layers=plan.layers or None,
        languages=plan.languages or None,
        max_tokens=plan.corpus_tokens or None,
        context_length=min(CorpusConfig.context_length, shop.model.max_positions or CorpusConfig.context_length),
        batch_size=plan.batch_size,
        seed=plan.seed,
    )
    shop.scratch.mkdir(parents=True, exist_ok=True)
    files = corpus_files(plan, shop.scratch)
    tables = corpus_pass(shop.model, shop.transcoders, files, config, state=shop.scratch / "corpus", progress=shop.counter("corpus"))
    measured = {**tables, "activation": arrow_schema("activation").empty_table()}
    cards = features(shop.model, shop.transcoders, measured, progress=shop.counter("feature cards"))
    items = tables["document"].select(["document", "language"])
    labelled = mechanical_labels(shop, {**tables, **cards}, tables["token"], items, "document")
    return {**model_tables(shop), **tables, **cards, **labelled}


def mechanical_labels(shop: Workshop, tables: Tables, token: pa.Table, items: pa.Table, source: str) -> Tables:
    """Say of every feature what it fires on, counted: profiles, and labels with a rule."""
    from atlas.catalogue import utc_now
    from ingest.labels.mechanical import mechanical_tables
    from ingest.labels.texts import Texts

    texts = Texts.of_tables(token, items, source)
    return mechanical_tables(tables, texts, transcoder_set=shop.transcoders.name, source_run=shop.writer.run_id, now=utc_now())


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
    """Every active feature, their statistics, contexts, cards, neighbours and mechanical labels."""
    from ingest.activations import ActivationConfig
    from ingest.activations import activations as extract
    from ingest.features import features

    config = ActivationConfig(layers=shop.plan.layers or None, batch_size=shop.plan.batch_size, seed=shop.plan.seed)
    tables = extract(shop.model, shop.transcoders, shop.prompts, config, progress=shop.counter("activations"))
    tables = {**tables, **features(shop.model, shop.transcoders, tables, progress=shop.counter("feature cards"))}
    words = shop.prompts.tables()
    items = words["prompt"].select(["prompt", "language"])
    return {**tables, **mechanical_labels(shop, tables, words["token"], items, "prompt")}


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


def attribution(shop: Workshop) -> Tables:
    """Attribution graphs of train prompts, added up over prompts; balanced over languages and concepts.

    These span all layers whatever the plan's are: the local replacement model replaces every MLP (METHODS section 4). A set without a
    transcoder for every layer gets none, and it is said.
    """
    if shop.plan.attributed_prompts == 0:
        return {}
    missing = sorted(set(range(shop.model.n_layers)) - set(shop.all_transcoders.layers))
    if missing:
        log.warning("no attribution graphs: %s has no layers %s", shop.all_transcoders.name, ", ".join(map(str, missing)))
        return {}
    from ingest.graphs.aggregate import AggregateConfig, attribution_edges
    from ingest.interventions import choose_prompts

    chosen = []
    for behaviour in shop.prompts.behaviours:
        train = [prompt for prompt in shop.prompts.prompts if prompt.behaviour == behaviour.name and prompt.split == "train"]
        chosen += choose_prompts(train, shop.plan.attributed_prompts, shop.plan.seed)
    some = dataclasses.replace(shop.prompts, prompts=tuple(chosen), pairs=())
    first_graph = shop.table("graph", "graph").num_rows
    config = AggregateConfig(seed=shop.plan.seed)
    return attribution_edges(
        shop.model, shop.all_transcoders, some, config, first_graph=first_graph, progress=shop.counter("attribution graphs")
    )


def interventions(shop: Workshop) -> Tables:
    """Ablations, patching, steering and injection, each beside its controls."""
    from ingest.interventions import interventions as intervene

    groups = supernodes_of(shop.table("graph", "graph"), shop.table("graph", "node"), shop.table("communities", "supernode"))
    config = intervention_config(shop.plan)
    return intervene(shop.model, shop.transcoders, shop.prompts, config, supernodes=groups, progress=shop.counter("interventions"))


def supernodes_of(graph: pa.Table, node: pa.Table, supernode: pa.Table) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """Return behaviour -> name -> (layer, feature) of the supernodes with at least two features, largest first."""
    behaviour = {row["graph"]: row["behaviour"] for row in graph.to_pylist()}
    columns = node.select(["graph", "node", "kind", "layer", "feature"]).to_pylist()
    feature = {(row["graph"], row["node"]): (row["layer"], row["feature"]) for row in columns if row["kind"] == "feature"}
    members: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in supernode.to_pylist():
        if (row["graph"], row["node"]) in feature:
            members.setdefault((row["graph"], row["supernode"]), []).append(feature[row["graph"], row["node"]])
    groups: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for (number, name), features in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(features) > 1 and behaviour.get(number) is not None:
            groups.setdefault(behaviour[number], {})[str(name)] = features
    return groups


def intervention_config(plan: Plan) -> InterventionConfig:
    """Return the settings of interventions that a plan asks for."""
    from ingest.interventions import InterventionConfig

    return InterventionConfig(
        layers=plan.layers,
        ablated_features=plan.ablated_features,
        max_prompts=plan.edited_prompts,
        top_features=plan.top_features,
        control_draws=plan.control_draws,
        steering=plan.steering,
        transfer_concepts=plan.transfer_concepts,
        seed=plan.seed,
    )


def circuits(shop: Workshop) -> Tables:
    """Causal edges, paths, circuits with their figures, properties and computation types."""
    from ingest.circuits import CircuitConfig
    from ingest.circuits import circuits as find

    plan = shop.plan
    config = CircuitConfig(
        layers=plan.layers,
        max_prompts=plan.edited_prompts,
        circuit_prompts=plan.circuit_prompts,
        random_circuits=plan.random_circuits,
        interventions=intervention_config(plan),
        seed=plan.seed,
    )
    graphs = {name: shop.table("graph", name) for name in ("graph", "node", "edge")}
    return find(shop.model, shop.transcoders, shop.prompts, graphs, config, progress=shop.counter("circuits"))


STAGE_FUNCTIONS: Mapping[str, Callable[[Workshop], Tables]] = {
    "prompts": prompts,
    "corpus": corpus,
    "baseline": baseline,
    "activations": activations,
    "graph": graph,
    "communities": communities,
    "attribution": attribution,
    "interventions": interventions,
    "circuits": circuits,
}
