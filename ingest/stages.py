"""The stages of an ingest: each turns what is known so far into tables of schema.sql, shard by shard.

In: a `Workshop` and shards of one kind. Out: (shard, table name -> rows without run_id), each as soon as it is computed, so that it
can be committed before the next one begins. What a stage computes stands in its own module; this one only chooses settings from the
plan.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from atlas.schema import arrow_schema
from ingest.plan import Plan
from ingest.plan_shards import NUMBERED, Shard
from ingest.prompts import PromptSet
from ingest.workshop import Tables, Workshop

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ingest.activations import Extraction
    from ingest.corpus import CorpusConfig
    from ingest.interventions import InterventionConfig
    from ingest.labels.texts import Texts

Computed = Iterator[tuple[Shard, Tables]]


def each(compute: Callable[[Workshop, Shard], Tables]) -> Callable[[Workshop, Sequence[Shard]], Computed]:
    """Make a stage of what computes one shard."""

    def stage(shop: Workshop, shards: Sequence[Shard]) -> Computed:
        for shard in shards:
            yield shard, compute(shop, shard)

    return stage


def prompts(shop: Workshop, _: Shard) -> Tables:
    """Model, transcoders, behaviours, prompts, pairs, tokens."""
    return {**model_tables(shop), **shop.prompts.tables()}


def model_tables(shop: Workshop) -> Tables:
    """Rows of the model and of the layers that are analysed."""
    model_row = shop.model.row()
    transcoders = shop.transcoders.rows(str(model_row["model_id"]))
    return {"model": pa.Table.from_pylist([model_row]), "transcoder": pa.Table.from_pylist(transcoders)}


# ---- a corpus -----------------------------------------------------------------------------------------------------


def corpus(shop: Workshop, shards: Sequence[Shard]) -> Computed:
    """What features fire on in a corpus, with their cards: one reading for as many layers as have room for their contexts."""
    from ingest.corpus_buffers import buffer_bytes
    from ingest.rates import total_memory

    config, widths = corpus_config(shop), shop.transcoders.d_transcoder
    left, room = list(shards), total_memory(shop.model.device) // 2
    while left:
        n, used = 0, 0
        for shard in left:
            used += sum(buffer_bytes(widths(layer), config.n_top + config.n_reservoir, config.window) for layer in shard.layers)
            if n and used > room:
                break
            n += 1
        yield from one_pass(shop, left[:n])
        del left[:n]


def one_pass(shop: Workshop, shards: Sequence[Shard]) -> Computed:
    """Read the corpus once for the layers of the shards."""
    from ingest.corpus import corpus_layers
    from ingest.corpus_source import corpus_files
    from ingest.features import cards

    config = dataclasses.replace(corpus_config(shop), layers=tuple(layer for shard in shards for layer in shard.layers))
    shop.scratch.mkdir(parents=True, exist_ok=True)
    state = shop.scratch / "-".join(("corpus", *(shard.name.removeprefix("corpus-") for shard in shards)))[:100]
    layers = corpus_layers(
        shop.model, shop.transcoders, corpus_files(shop.plan, shop.scratch), config, state=state, progress=shop.counter("corpus")
    )
    with_cards = ((layer, {**tables, "feature": cards(shop.model, shop.transcoders, tables["feature"], layer)}) for layer, tables in layers)
    yield from by_shard(shards, with_cards)


def corpus_config(shop: Workshop) -> CorpusConfig:
    """Return how a plan's corpus is read, without its layers."""
    from ingest.corpus import CorpusConfig

    plan = shop.plan
    return CorpusConfig(
        languages=plan.languages or None,
        max_tokens=plan.corpus_tokens or None,
        context_length=min(CorpusConfig.context_length, shop.model.max_positions or CorpusConfig.context_length),
        batch_size=plan.batch_size,
        seed=plan.seed,
    )


def documents(shop: Workshop, shard: Shard) -> Tables:
    """Model, transcoders, the documents of a corpus, and the tokens that any layer's contexts show."""
    from ingest.corpus import corpus_documents
    from ingest.corpus_source import corpus_files

    columns = ("item", "window_start", "window_end")
    contexts = (shop.rows(name, "context", columns) for name in shard.needs)
    shop.scratch.mkdir(parents=True, exist_ok=True)
    files = corpus_files(shop.plan, shop.scratch)
    tables = corpus_documents(shop.model, shop.transcoders, files, corpus_config(shop), contexts, shop.scratch / f"{shard.name}.bin")
    return {**model_tables(shop), **tables}


def labels(shop: Workshop, shards: Sequence[Shard]) -> Computed:
    """Mechanical labels of a corpus run's features, from their contexts."""
    from ingest.labels.texts import Texts

    document = shop.rows("corpus-documents", "document", ("document", "language"))
    texts = Texts.of_tables(shop.rows("corpus-documents", "token"), document, "document")
    for shard in shards:
        found = [
            mechanical_labels(shop, {name: shop.of_layer(name, layer) for name in ("feature", "context")}, texts) for layer in shard.layers
        ]
        yield shard, joined(found)


def mechanical_labels(shop: Workshop, tables: Tables, texts: Texts) -> Tables:
    """Say of every feature of a layer what it fires on, counted: profiles, and labels with a rule."""
    from atlas.catalogue import utc_now
    from ingest.labels.mechanical import EVERY_FEATURE_UP_TO, mechanical_tables

    feature = tables["feature"]
    if sum(shop.transcoders.d_transcoder(layer) for layer in shop.layers) > EVERY_FEATURE_UP_TO:
        feature = feature.filter(pc.greater(feature["n_active"], 0))
    return mechanical_tables(
        {**tables, "feature": feature}, texts, transcoder_set=shop.transcoders.name, source_run=shop.writer.run_id, now=utc_now()
    )


# ---- prompts ------------------------------------------------------------------------------------------------------


def baseline(shop: Workshop, _: Shard) -> Tables:
    """What the model does unedited, and the gate."""
    from ingest.baseline import BaselineConfig, check_gate
    from ingest.baseline import baseline as measure

    config = BaselineConfig(batch_size=shop.plan.batch_size)
    tables = measure(shop.model, shop.prompts, config, progress=shop.counter("baseline"))
    gates = {behaviour.name: behaviour.gate if shop.plan.gate < 0 else shop.plan.gate for behaviour in shop.prompts.behaviours}
    check_gate(shop.prompts, tables["baseline"], gates)
    return tables


def activations(shop: Workshop, shards: Sequence[Shard]) -> Computed:
    """Every active feature of the shards' layers, their statistics, contexts, cards and mechanical labels."""
    from ingest.features import cards
    from ingest.labels.texts import Texts

    words = shop.prompts.tables()
    texts = Texts.of_tables(words["token"], words["prompt"].select(["prompt", "language"]), "prompt")

    def finished() -> Iterator[tuple[int, Tables]]:
        for layer, tables in extraction(shop).of_layers([layer for shard in shards for layer in shard.layers]):
            tables["feature"] = cards(shop.model, shop.transcoders, tables["feature"], layer)
            yield layer, {**tables, **mechanical_labels(shop, tables, texts)}

    yield from by_shard(shards, finished())


def extraction(shop: Workshop) -> Extraction:
    """Return what the layers of the plan's extraction share; kept, with the clean model's log-probabilities, for the stage's shards."""
    from ingest.activations import ActivationConfig, Extraction

    if shop.extraction is None:
        config = ActivationConfig(layers=shop.plan.layers or None, batch_size=shop.plan.batch_size, seed=shop.plan.seed)
        shop.extraction = Extraction(shop.model, shop.transcoders, shop.prompts, config, shop.counter("activations"))
    return shop.extraction


def replaced(shop: Workshop, _: Shard) -> Tables:
    """How the model does with the MLPs of all layers replaced at once; the last thing that the clean model's values are kept for."""
    table = extraction(shop).all_replaced()
    shop.extraction = None
    return {"transcoder_quality": table}


def neighbours(shop: Workshop, shards: Sequence[Shard]) -> Computed:
    """Features that write alike, and (over prompts) features that fire together."""
    from ingest.features import Coactivity, active_features, cosine_neighbours

    report = shop.counter("neighbours")
    active = {layer: active_features(shop.of_layer("feature", layer, ("feature", "n_active"))) for layer in shop.layers}
    together = None if shop.plan.corpus else Coactivity(shop.layers, lambda layer, columns: shop.of_layer("activation", layer, columns))
    n_layers = sum(len(shard.layers) for shard in shards)
    done = 0
    for shard in shards:
        found = []
        for layer in shard.layers:
            found.append(cosine_neighbours(shop.transcoders, layer, active))
            if together is not None:
                found.append(together.neighbours(layer))
            done += 1
            if report is not None:
                report(done, n_layers)
        yield shard, {"neighbour": pa.concat_tables(found)}


def by_shard(shards: Sequence[Shard], layers: Iterator[tuple[int, Tables]]) -> Computed:
    """Join the layers of each shard, which come one after the other."""
    for shard in shards:
        yield shard, joined([next(layers)[1] for _ in shard.layers])


def joined(parts: Sequence[Tables]) -> Tables:
    """Join the tables of several layers."""
    return {name: pa.concat_tables([part[name] for part in parts]) for name in parts[0]}


def of_behaviour(shop: Workshop, shard: Shard, chosen: Callable[..., bool] = lambda _: True) -> PromptSet:
    """Return the prompts of a shard's behaviour; pairs stay, they name prompts of the run."""
    own = [prompt for prompt in shop.prompts.prompts if prompt.behaviour == shard.behaviour and chosen(prompt)]
    return dataclasses.replace(shop.prompts, prompts=tuple(own))


def graph(shop: Workshop, shard: Shard) -> Tables:
    """Star and virtual-weight edges over the train prompts of a behaviour."""
    from ingest.graphs.edges import edges
    from ingest.graphs.selection import EdgeConfig

    plan, own = shop.plan, of_behaviour(shop, shard)
    config = EdgeConfig(layers=plan.layers or None, max_nodes=plan.graph_features, batch_size=plan.batch_size, seed=plan.seed)
    return edges(shop.model, shop.transcoders, own, config, first_graph=shard.ordinal, progress=shop.counter(shard.name))


def communities(shop: Workshop, shard: Shard) -> Tables:
    """Communities and supernodes of a behaviour's graph."""
    from ingest.graphs.communities import CommunityConfig
    from ingest.graphs.communities import communities as divide

    graphs = {name: shop.table("graph", name, shard.behaviour) for name in ("graph", "node", "edge")}
    return divide(graphs, shop.transcoders, shop.prompts, activations_of(shop, graphs["node"]), CommunityConfig(seed=shop.plan.seed))


def activations_of(shop: Workshop, node: pa.Table) -> pa.Table:
    """Return the activations of a graph's features alone."""
    columns = ("layer", "feature", "prompt", "position")
    parts = [arrow_schema("activation").empty_table().select(list(columns))]
    for layer in shop.layers:
        own = node.filter(pc.equal(node["layer"], layer))["feature"].unique()
        if len(own):
            rows = shop.of_layer("activation", layer, columns)
            parts.append(rows.filter(pc.is_in(rows["feature"], own)))
    return pa.concat_tables(parts)


def attribution(shop: Workshop, shard: Shard) -> Tables:
    """Attribution graphs of a behaviour's train prompts, added up over prompts; balanced over languages and concepts.

    These span all layers whatever the plan's are: the local replacement model replaces every MLP (METHODS section 4). A set without a
    transcoder for every layer gets none, and it is said. Graphs are numbered after those of stage `graph`.
    """
    if shop.plan.attributed_prompts == 0:
        return {}
    missing = sorted(set(range(shop.model.n_layers)) - set(shop.all_transcoders.layers))
    if missing:
        log.warning("no attribution graphs: %s has no layers %s", shop.all_transcoders.name, ", ".join(map(str, missing)))
        return {}
    from ingest.graphs.aggregate import AggregateConfig, attribution_edges
    from ingest.interventions import choose_prompts

    own = of_behaviour(shop, shard, lambda prompt: prompt.split == "train")
    chosen = choose_prompts(own.prompts, shop.plan.attributed_prompts, shop.plan.seed)
    some = dataclasses.replace(own, prompts=tuple(chosen), pairs=())
    first = sum(other.kind == "graph" for other in shop.shards) + shard.ordinal
    config = AggregateConfig(seed=shop.plan.seed)
    return attribution_edges(shop.model, shop.all_transcoders, some, config, first_graph=first, progress=shop.counter(shard.name))


def interventions(shop: Workshop, shard: Shard) -> Tables:
    """Ablations, patching, steering and injection on a behaviour, each beside its controls."""
    from ingest.interventions import interventions as intervene

    graph, node = (shop.table("graph", name, shard.behaviour) for name in ("graph", "node"))
    groups = supernodes_of(graph, node, shop.table("communities", "supernode", shard.behaviour))
    return intervene(
        shop.model,
        shop.transcoders,
        shop.prompts,
        intervention_config(shop.plan),
        behaviours=[str(shard.behaviour)],
        supernodes=groups,
        progress=shop.counter(shard.name),
    )


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


def circuits(shop: Workshop, shard: Shard) -> Tables:
    """Causal edges, paths, circuits with their figures, properties and computation types of a behaviour."""
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
    graphs = {name: shop.table("graph", name, shard.behaviour) for name in ("graph", "node", "edge")}
    return find(shop.model, shop.transcoders, shop.prompts, graphs, config, progress=shop.counter(shard.name))


def numbered(shop: Workshop, shard: Shard) -> Tables:
    """Take a draft, and add to its numbers what the behaviours before it have counted."""
    draft, *before = shard.needs
    offsets = {name: sum(shop.rows_in(earlier, name) for earlier in before) for name in NUMBERED[shard.stage]}
    return {name: renumbered(name, table, offsets) for name, table in shop.draft(draft).items()}


def renumbered(name: str, table: pa.Table, offsets: Mapping[str, int]) -> pa.Table:
    """Add offsets to a table's own numbers and to those that it refers to (a column is named after the table it refers to)."""
    columns = {**offsets, **({"control_of": offsets[name]} if name in offsets else {})}
    for column, offset in columns.items():
        if column in table.column_names:
            place = table.column_names.index(column)
            table = table.set_column(place, table.field(column), pc.add(table[column], pa.scalar(offset, table.field(column).type)))
    return table


FUNCTIONS: Mapping[str, Callable[[Workshop, Sequence[Shard]], Computed]] = {
    "prompts": each(prompts),
    "corpus": corpus,
    "documents": each(documents),
    "labels": labels,
    "baseline": each(baseline),
    "activations": activations,
    "replaced": each(replaced),
    "neighbours": neighbours,
    "graph": each(graph),
    "communities": each(communities),
    "attribution": each(attribution),
    "interventions": each(interventions),
    "circuits": each(circuits),
    "numbered": each(numbered),
}
"""What computes the shards of each kind; it is given several, so that they share a pass of the model, and yields them in order."""
