"""Attribution graphs: METHODS section 4 against autograd through plain transformers, identities, and perturbations."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atlas.errors import InputError, UsageError
from ingest.graphs.attribution import AttributionConfig, AttributionGraph, attribute
from ingest.model import LanguageModel, from_module
from ingest.taps import Captured, freeze_for
from ingest.transcoder import TranscoderSet
from tests.ingest.families import FAMILIES, LAYERS, TOKENS, WIDTH, at, random_hf, random_weights
from tests.ingest.graphs.brute import edges_into, frozen_pass

KINDS = ["relu", "skip", "jump_relu", "topk", "cross_layer"]
CASES = [(family, "skip") for family in FAMILIES] + [("qwen3", kind) for kind in KINDS if kind != "skip"]
CASES += [("gemma2", "cross_layer"), ("gpt2", "jump_relu")]


def world(
    family: str, kind: str, dtype: torch.dtype = torch.float64, n_features: int = 40
) -> tuple[LanguageModel, TranscoderSet, dict[int, dict[str, Tensor]]]:
    weights, config = random_weights(kind, n_features=n_features, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    transcoders = TranscoderSet.from_weights(weights, config=config, dtype=name)
    return from_module(random_hf(family, dtype=dtype)), transcoders, weights


def graph_of(model: LanguageModel, transcoders: TranscoderSet, tokens: list[int] | None = None, **settings: Any) -> AttributionGraph:
    (graph,) = attribute(model, transcoders, [tokens or TOKENS], AttributionConfig(**settings))
    return graph


def targets(graph: AttributionGraph) -> Tensor:
    """Return what edges and constants must add up to: pre-activations, then logits without the vocabulary's mean."""
    logits = graph.last_logits - graph.last_logits.mean()
    return torch.cat([graph.pre_activation, logits[graph.logit_token_ids]])


def rows(graph: AttributionGraph, per_node: Tensor) -> Tensor:
    return torch.cat([per_node[: len(graph.active)], per_node[graph.order.logits :]])


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_every_edge_is_what_autograd_through_the_frozen_model_gives(family: str, kind: str) -> None:
    model, transcoders, weights = world(family, kind)
    graph = graph_of(model, transcoders, max_n_logits=3)
    hf = random_hf(family)
    frozen = frozen_pass(hf, family, weights, TOKENS)
    adjacency = graph.edges.dense()
    active = [(int(layer), int(position), int(feature)) for layer, position, feature in graph.active]
    sources = (weights, active, graph.activation, graph.error_vectors, frozen.embeddings[0].detach())
    assert 0.1 < len(active) / (LAYERS * len(TOKENS) * 40) < 0.9
    for row in range(0, len(active), max(1, len(active) // 25)):
        layer, position, feature = active[row]
        pre = weights[layer]["W_enc"][feature] @ frozen.mlp_in[layer][position]
        torch.testing.assert_close(adjacency[row, : graph.order.logits], edges_into(frozen, pre, *sources), atol=1e-11, rtol=1e-9)
    unembedding = hf.get_output_embeddings().weight
    for rank, token in enumerate(graph.logit_token_ids.tolist()):
        logit = (unembedding[token] - unembedding.mean(0)) @ frozen.final[-1]
        torch.testing.assert_close(
            adjacency[graph.order.logits + rank, : graph.order.logits],
            edges_into(frozen, logit, *sources),
            atol=1e-11,
            rtol=1e-9,
        )


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_edges_and_constants_add_up_to_the_pre_activation_to_1e_12(family: str, kind: str) -> None:
    model, transcoders, _ = world(family, kind)
    model.logit_softcap = None  # the identity speaks of logits before the softcap
    graph = graph_of(model, transcoders)
    added = rows(graph, graph.edges.row_sums(absolute=False)) + graph.constants
    size = rows(graph, graph.row_l1) + graph.constants.abs()
    assert float(((added - targets(graph)).abs() / size).max()) < 1e-12


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_edges_and_constants_add_up_in_float32(family: str, kind: str) -> None:
    model, transcoders, _ = world(family, kind, torch.float32)
    model.logit_softcap = None
    graph = graph_of(model, transcoders)
    added = rows(graph, graph.edges.row_sums(absolute=False)) + graph.constants
    size = rows(graph, graph.row_l1) + graph.constants.abs()
    assert float(((added - targets(graph)).abs() / size).max()) < 1e-5


def measured(model: LanguageModel, transcoders: TranscoderSet, graph: AttributionGraph, captured: Captured) -> Tensor:
    """Return (B, A + K) pre-activations of the graph's features and its demeaned logits in another pass."""
    pre: list[Tensor] = []
    for layer in range(LAYERS):
        here = graph.active[graph.active[:, 0] == layer]
        pre.append(transcoders.pre_activations(layer, captured.mlp_in[layer])[:, here[:, 1], here[:, 2]])
    logits = model.logits(captured.final[:, -1])
    return torch.cat([*pre, (logits - logits.mean(1, keepdim=True))[:, graph.logit_token_ids]], dim=1)


def source_vectors(graph: AttributionGraph, weights: dict[int, dict[str, Tensor]], sources: list[int]) -> tuple[Tensor, Tensor]:
    """Return what each source node adds to MLP outputs (S, L, T, D) and to embeddings (S, T, D)."""
    order, n_positions = graph.order, len(TOKENS)
    written = torch.zeros(len(sources), LAYERS, n_positions, WIDTH, dtype=graph.activation.dtype)
    embedded = torch.zeros(len(sources), n_positions, WIDTH, dtype=graph.activation.dtype)
    for index, source in enumerate(sources):
        if source < order.errors:
            layer, position, feature = graph.active[source].tolist()
            decoder = weights[layer]["W_dec"][feature].view(-1, WIDTH)
            written[index, layer : layer + len(decoder), position] = graph.activation[source] * decoder
        elif source < order.tokens:
            layer, position = divmod(source - order.errors, n_positions)
            written[index, layer, position] = graph.error_vectors[layer, position]
        else:
            embedded[index, source - order.tokens] = graph.token_vectors[source - order.tokens]
    return written, embedded


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("family", "kind"), [("qwen3", "relu"), ("qwen3", "skip"), ("gemma3_text", "skip"), ("gpt2", "cross_layer")])
def test_adding_a_source_once_more_moves_every_target_by_its_column(family: str, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    """Every error, every token, 100 features doubled: with all else frozen, the change is the column."""
    model, transcoders, weights = world(family, kind, dtype)
    model.logit_softcap = None
    graph = graph_of(model, transcoders)
    clean = model.capture(torch.tensor([TOKENS]), patterns=True, denominators=True)
    features = torch.randperm(len(graph.active), generator=torch.Generator().manual_seed(0))[:100].tolist()
    sources = [*features, *range(graph.order.errors, graph.order.logits)]
    written, embedded = source_vectors(graph, weights, sources)
    freeze = freeze_for(
        "direct", clean, skip=transcoders.skip if transcoders.has_skip else None, rows=torch.zeros(len(sources), dtype=torch.int64)
    )
    embedding = at(model.hf, model.adapter.embedding)
    embedding.register_forward_hook(lambda _module, _inputs, vectors: vectors + embedded)
    after = model.capture(torch.tensor([TOKENS] * len(sources)), edit=lambda layer, _x, m: m + written[:, layer], freeze=freeze)
    change = measured(model, transcoders, graph, after) - measured(model, transcoders, graph, clean)
    columns = rows(graph, graph.edges.dense()[:, sources]).T
    torch.testing.assert_close(change, columns, atol=tolerance, rtol=tolerance)


def test_the_effect_of_a_source_does_not_depend_on_the_tokens() -> None:
    """With patterns, denominators and MLP outputs held, other embeddings change no derivative."""
    model, transcoders, _ = world("qwen3", "skip")
    graph = graph_of(model, transcoders)
    clean = model.capture(torch.tensor([TOKENS]), patterns=True, denominators=True)
    freeze = freeze_for("direct", clean, skip=transcoders.skip)

    def pushed(tokens: list[int]) -> Tensor:
        def edit(layer: int, _x: Tensor, m: Tensor) -> Tensor:
            return m + graph.error_vectors[layer] if layer == 0 else m

        runs = [model.capture(torch.tensor([tokens]), edit=chosen, freeze=freeze) for chosen in (edit, None)]
        edited, plain = (measured(model, transcoders, graph, run) for run in runs)
        return edited - plain

    torch.testing.assert_close(pushed(TOKENS), pushed([0, 30, 31, 32, 33, 34]), atol=1e-12, rtol=1e-9)


def test_left_padding_and_company_change_no_graph() -> None:
    model, transcoders, _ = world("qwen3", "skip")
    together = list(attribute(model, transcoders, [TOKENS, TOKENS[:3], TOKENS[:5]]))
    for graph, tokens in zip(together, [TOKENS, TOKENS[:3], TOKENS[:5]], strict=True):
        alone = graph_of(model, transcoders, tokens)
        assert torch.equal(graph.active, alone.active)
        assert graph.tokens.tolist() == tokens
        torch.testing.assert_close(graph.edges.dense(), alone.edges.dense(), atol=1e-11, rtol=1e-9)
        torch.testing.assert_close(graph.constants, alone.constants, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("kind", ["skip", "cross_layer"])
@pytest.mark.parametrize("batch_elements", [1, 500, 3000])
def test_edges_do_not_depend_on_how_many_targets_go_at_once(kind: str, batch_elements: int) -> None:
    model, transcoders, _ = world("qwen3", kind)
    whole = graph_of(model, transcoders).edges.dense()
    pieces = graph_of(model, transcoders, batch_elements=batch_elements).edges.dense()
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("left_out", [0, 1, 3])
def test_left_out_positions_have_no_features_and_stay_constants(left_out: int) -> None:
    model, transcoders, _ = world("qwen3", "skip")
    graph = graph_of(model, transcoders, left_out=left_out)
    assert int(graph.active[:, 1].min()) == left_out
    assert not bool(graph.error_vectors[:, :left_out].any())
    added = rows(graph, graph.edges.row_sums(absolute=False)) + graph.constants
    torch.testing.assert_close(added, targets(graph), atol=1e-11, rtol=1e-9)


def test_a_prompt_of_the_sink_alone_has_only_its_token() -> None:
    model, transcoders, _ = world("qwen3", "relu")
    graph = graph_of(model, transcoders, [0])
    assert len(graph.active) == 0
    adjacency = graph.edges.dense()
    assert bool((adjacency[graph.order.logits :, graph.order.tokens] != 0).all())
    assert graph.prune().node_mask[graph.order.tokens :].all()


def test_negative_thresholds_keep_negative_activations_as_sources() -> None:
    model, transcoders, _ = world("qwen3", "jump_relu")
    graph = graph_of(model, transcoders)
    assert bool((graph.activation < 0).any())


def test_fewer_feature_nodes_are_the_most_influential_rows_of_the_whole_graph() -> None:
    model, transcoders, _ = world("qwen3", "relu", n_features=60)
    whole = graph_of(model, transcoders)
    part = graph_of(model, transcoders, max_feature_nodes=50, targets_per_update=10)
    assert int(part.attributed.sum()) == 50
    wanted = torch.cat([part.selected, torch.arange(len(whole.active), whole.order.n_nodes)])
    torch.testing.assert_close(part.node_edges().dense(), whole.edges.dense()[wanted][:, wanted], atol=1e-12, rtol=1e-10)
    attributed = torch.cat([part.selected, torch.arange(whole.order.logits, whole.order.n_nodes)])
    torch.testing.assert_close(part.row_l1[attributed], whole.row_l1[attributed])
    assert bool((part.row_l1[attributed] >= part.node_edges().row_sums()[part.node_edges().row_sums() > 0].min()).all())

    # The first ten were ranked by the logits' rows alone.
    weights = torch.zeros(whole.order.n_nodes, dtype=torch.float64)
    weights[whole.order.logits :] = whole.logit_probabilities
    logits_only = whole.edges.dense()
    logits_only[: len(whole.active)] = 0
    shares = logits_only.abs() / logits_only.abs().sum(1, keepdim=True).clamp(min=1e-10)
    first = (weights @ shares)[: len(whole.active)].argsort(descending=True)[:10]
    assert set(first.tolist()) <= set(part.selected.tolist())


def test_chosen_logits_are_taken_in_their_order() -> None:
    model, transcoders, _ = world("qwen3", "relu")
    (graph,) = attribute(model, transcoders, [TOKENS], targets=[[7, 3]])
    assert graph.logit_token_ids.tolist() == [7, 3]
    probabilities = torch.softmax(graph.last_logits, 0)
    torch.testing.assert_close(graph.logit_probabilities, probabilities[[7, 3]])


@pytest.mark.parametrize(("most", "probability"), [(10, 0.5), (2, 1.0), (40, 1.0)])
def test_the_fewest_logits_that_hold_the_probability(most: int, probability: float) -> None:
    model, transcoders, _ = world("qwen3", "relu")
    graph = graph_of(model, transcoders, max_n_logits=most, logit_probability=probability)
    held = np.sort(torch.softmax(graph.last_logits, 0).numpy())[::-1].cumsum()
    assert len(graph.logit_token_ids) == min(most, int((held < probability).sum()) + 1)


def test_the_causal_cone_takes_less_than_the_matrix() -> None:
    model, transcoders, _ = world("qwen3", "relu")
    graph = graph_of(model, transcoders)
    adjacency = graph.edges.dense()
    assert graph.edges.n_edges >= int((adjacency != 0).sum())
    assert graph.edges.n_edges < 0.4 * adjacency.numel()


def test_transcoders_must_cover_every_layer() -> None:
    model, transcoders, weights = world("qwen3", "relu")
    with pytest.raises(InputError, match="no layer 2"):
        graph_of(model, TranscoderSet.from_weights({0: weights[0], 1: weights[1]}, dtype="float64"))
    with pytest.raises(UsageError, match="no token"):
        list(attribute(model, transcoders, [[]]))


def test_bfloat16_models_are_attributed_in_float32() -> None:
    model, transcoders, _ = world("qwen3", "relu", torch.bfloat16)
    graph = graph_of(model, transcoders)
    assert graph.edges.dtype == torch.float32
    added = rows(graph, graph.edges.row_sums(absolute=False)) + graph.constants
    size = rows(graph, graph.row_l1) + graph.constants.abs()
    assert float(((added - targets(graph)).abs() / size).max()) < 0.05
