"""Attribution graphs of single prompts in the local replacement model.

In: a model, its transcoders, prompts as token ids. Out: `AttributionGraph`, one a prompt: token, error, feature and
logit nodes, and every edge between them (METHODS section 4; Ameisen et al. 2025, Circuit Tracing). Steps:

1. One forward run of all prompts: MLP inputs and outputs, attention patterns, norm denominators.
2. Active features, error vectors (0 at left-out positions) and source vectors (a W_dec, errors) per layer.
3. Forwards: token vectors and the constant path through the frozen map, layer by layer; contracted with every target's
   encoder row they give the edges from tokens and each target's constant. There are few of them, so no gradient
   has to pass layer 0.
4. Backwards: the targets of one position, from the last layer down. A target enters at its own layer and position,
   reaches earlier positions by one hop of attention, and is carried on with all later targets as one matrix; at each
   layer and position it meets the source vectors there in one product. Nothing outside the causal cone is computed.
5. With fewer feature nodes than active features, the targets next in influence are attributed, in batches.

Edge s -> t = (source vector of s) . J . (encoder row of t, or logit row without the vocabulary's mean), on t's
pre-activation; pre-activation of t = sum of its edges + its constant.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.errors import UsageError
from ingest.adapters import upcast
from ingest.graphs.backward import Backward, LayerSources
from ingest.graphs.blocks import TOKENS, Block, Edges
from ingest.graphs.frozen import FrozenPrompt
from ingest.graphs.prune import NodeOrder, Pruned, prune, scores
from ingest.model import LanguageModel, pad_left
from ingest.taps import Captured
from ingest.transcoder import Sparse, TranscoderSet


@dataclass(frozen=True)
class AttributionConfig:
    """What is attributed, and how much at a time."""

    max_n_logits: int = 10
    """Most logit nodes."""
    logit_probability: float = 0.95
    """Top tokens are taken until they hold this much of the probability."""
    max_feature_nodes: int | None = None
    """Attribute only the features of most influence; None: all active ones."""
    left_out: int = 1
    """How many first positions have no features and no error (the attention sink, METHODS section 1)."""
    batch_elements: int = 1 << 24
    """Most numbers in one batch of gradients (positions x targets x d_model)."""
    targets_per_update: int = 2048
    """Features attributed before influence is ranked again, with `max_feature_nodes`."""


@dataclass(frozen=True)
class AttributionGraph:
    """The attribution graph of one prompt. Node ids: active features, errors (layer-major), tokens, logits."""

    tokens: Tensor
    """(T,) int64, without padding."""
    active: Tensor
    """(A, 3) int64 layer, position, feature, sorted."""
    activation: Tensor
    """(A,)."""
    pre_activation: Tensor
    """(A,)."""
    attributed: Tensor
    """(A,) bool: features whose incoming edges were computed."""
    constants: Tensor
    """(A + K,) the part of a feature's pre-activation, and of a demeaned logit, that is no edge."""
    error_vectors: Tensor
    """(L, T, D)."""
    token_vectors: Tensor
    """(T, D)."""
    logit_token_ids: Tensor
    """(K,) int64, most probable first."""
    logit_probabilities: Tensor
    """(K,)."""
    last_logits: Tensor
    """(V,) of the last position."""
    edges: Edges
    """Over all active features; targets are the attributed ones and the logits."""
    row_l1: Tensor
    """(N,) sum of absolute weights into each node over all sources."""
    order: NodeOrder
    """Of all active features."""

    @property
    def selected(self) -> Tensor:
        """(S,) indices into `active` of the attributed features, the feature nodes of the graph."""
        return self.attributed.nonzero()[:, 0]

    def node_order(self) -> NodeOrder:
        """Return the order of the graph's nodes: attributed features only."""
        return NodeOrder(len(self.selected), self.order.n_layers, self.order.n_positions, self.order.n_logits)

    def node_edges(self) -> Edges:
        """Return the edges between the graph's nodes, numbered by `node_order`."""
        if bool(self.attributed.all()):
            return self.edges
        keep = torch.ones(self.order.n_nodes, dtype=torch.bool)
        keep[: len(self.active)] = self.attributed
        return self.edges.subgraph(keep, torch.cumsum(keep, 0) - 1)

    def prune(self, node_threshold: float = 0.8, edge_threshold: float = 0.98) -> Pruned:
        """Prune as circuit-tracer does: rows normalised over the graph's own nodes."""
        return prune(
            self.node_edges(),
            self.node_order(),
            self.logit_probabilities,
            node_threshold=node_threshold,
            edge_threshold=edge_threshold,
        )

    def scores_over_all_sources(self) -> tuple[float, float]:
        """Return replacement and completeness with rows normalised over all active features, attributed or not."""
        weights = torch.zeros(self.order.n_nodes, dtype=self.edges.dtype)
        weights[self.order.logits :] = self.logit_probabilities.to(self.edges.dtype)
        counted = torch.ones(self.order.n_nodes, dtype=self.edges.dtype)
        counted[: len(self.active)] = self.attributed.to(self.edges.dtype)
        influence = self.edges.influence(weights, self.row_l1)
        return scores(self.edges, self.order, influence, weights, self.row_l1, counted)


def attribute(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: Sequence[Sequence[int]],
    config: AttributionConfig | None = None,
    *,
    targets: Sequence[Sequence[int]] | None = None,
    only: Mapping[int, Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[AttributionGraph]:
    """Yield the attribution graph of each prompt (token ids), after one forward run over all of them.

    `targets` gives the logit tokens of each prompt (default: its most probable ones); `only`, layer -> features, attributes
    no other features than these, whatever `max_feature_nodes` says. `progress(done, total)` counts
    attributed targets of the prompt under way. Transcoders must cover every layer of the model.

    Raises InputError where the transcoders do not fit, UsageError for an empty prompt.
    """
    config = config or AttributionConfig()
    if any(len(prompt) == 0 for prompt in prompts):
        raise UsageError("a prompt has no token", hint="give at least one token id")
    transcoders.bind(model, range(model.n_layers))
    with torch.no_grad():
        ids, mask = pad_left(prompts)
        captured = model.capture(ids, mask, patterns=True, denominators=True)
        logits = model.logits(captured.final[:, -1])
        active = [encode_prompts(transcoders, layer, captured, config.left_out) for layer in range(model.n_layers)]
        for row in range(len(prompts)):
            wanted = None if targets is None else torch.tensor(list(targets[row]), dtype=torch.int64)
            prompt = _Prompt(model, transcoders, captured, row, [layer[row] for layer in active], config)
            yield prompt.graph(logits[row], wanted, progress, only)


def encode_prompts(transcoders: TranscoderSet, layer: int, captured: Captured, left_out: int) -> list[Sparse]:
    """Return each prompt's active features of a layer; tokens count from its first unpadded position."""
    position = captured.mask.long().cumsum(1) - 1  # (B, T)
    row, column = captured.mask.nonzero(as_tuple=True)
    found = transcoders.encode_sparse(layer, captured.mlp_in[layer][row, column])
    place = position[row, column][found.token]
    prompt = row[found.token]
    kept: list[Sparse] = []
    for index in range(len(captured.tokens)):
        mine = (prompt == index) & (place >= left_out)
        kept.append(Sparse(place[mine], found.feature[mine], found.value[mine], found.pre[mine]))
    return kept


def salient_logits(logits: Tensor, max_n_logits: int, probability: float) -> Tensor:
    """Return the fewest most probable tokens that hold `probability`, at most `max_n_logits`."""
    top, tokens = torch.softmax(logits, -1).topk(min(max_n_logits, len(logits)))
    n = int(torch.searchsorted(torch.cumsum(top, 0), probability)) + 1
    return tokens[:n]


class _Prompt:
    """One prompt on its way to a graph."""

    def __init__(
        self,
        model: LanguageModel,
        transcoders: TranscoderSet,
        captured: Captured,
        row: int,
        active: list[Sparse],
        config: AttributionConfig,
    ) -> None:
        self.model = model
        self.transcoders = transcoders
        self.config = config
        self.frozen = FrozenPrompt(model, captured, row)
        self.active = active
        kept = captured.mask[row]
        self.mlp_in = [upcast(captured.mlp_in[layer][row][kept]) for layer in range(model.n_layers)]
        self.mlp_out = [upcast(captured.mlp_out[layer][row][kept]) for layer in range(model.n_layers)]
        self.dtype = self.mlp_in[0].dtype
        counts = [len(layer.feature) for layer in active]
        self.first_feature = [sum(counts[:layer]) for layer in range(len(counts) + 1)]
        self.sources, self.errors = self._sources()

    # ---- step 2 -----------------------------------------------------------------------------------------------

    def _sources(self) -> tuple[list[LayerSources], Tensor]:
        """Return each layer's source vectors, sorted by position, and the error vectors (L, T, D)."""
        layers, positions, width = self.model.n_layers, self.frozen.n_positions, self.model.d_model
        device = self.frozen.embeddings.device
        predicted = [torch.zeros(positions, width, dtype=self.dtype, device=device) for _ in range(layers)]
        scaled: list[dict[int, Tensor]] = []
        for layer, found in enumerate(self.active):
            vectors = {}
            for target in self.transcoders.writes_to(layer):
                rows = upcast(self.transcoders.decoder_rows(layer, found.feature, target=target))
                vectors[target] = rows * upcast(found.value)[:, None]
                predicted[target].index_add_(0, found.token, vectors[target])
            scaled.append(vectors)
        errors = torch.zeros(layers, positions, width, dtype=self.dtype, device=device)
        sources: list[LayerSources] = []
        n_active = self.first_feature[-1]
        for layer, found in enumerate(self.active):
            constant = upcast(self.transcoders.decoder_bias(layer)) + upcast(self.transcoders.skip(layer, self.mlp_in[layer]))
            error = self.mlp_out[layer] - predicted[layer] - constant
            errors[layer, self.config.left_out :] = error[self.config.left_out :]
            places = torch.arange(self.config.left_out, positions, device=device)
            sources.append(
                LayerSources.build(
                    layer,
                    positions=torch.cat([found.token, places]),
                    nodes=torch.cat(
                        [
                            torch.arange(self.first_feature[layer], self.first_feature[layer + 1], device=device),
                            n_active + layer * positions + places,
                        ]
                    ),
                    vectors=scaled[layer],
                    own=errors[layer, self.config.left_out :],
                    n_positions=positions,
                )
            )
        return sources, errors

    # ---- step 3 -----------------------------------------------------------------------------------------------

    def _forwards(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return edges from tokens (A + K, T) and constants (A + K,) of all features and of logits (K, D)."""
        frozen, transcoders = self.frozen, self.transcoders
        n_active, positions = self.first_feature[-1], frozen.n_positions
        edges = torch.zeros(n_active + len(directions), positions, dtype=self.dtype, device=directions.device)
        constants = torch.zeros(n_active + len(directions), dtype=self.dtype, device=directions.device)
        tokens = torch.diag_embed(upcast(frozen.token_vectors).T).permute(1, 2, 0)  # (T, T, D)
        path = (frozen.embeddings - upcast(frozen.token_vectors))[None]  # (1, T, D), position embeddings
        for layer, found in enumerate(self.active):
            tokens = frozen.attend(layer, tokens)
            path = frozen.attend(layer, path, constant=True)
            read = frozen.read[layer]
            rows = slice(self.first_feature[layer], self.first_feature[layer + 1])
            encoder = upcast(transcoders.encoder_rows(layer, found.feature))  # (n, D)
            gradient = read.backward(encoder, found.token)
            for position, start, end in _runs(found.token):
                edges[rows][start:end, : position + 1] = gradient[start:end] @ tokens[: position + 1, position].T
            seen = read.forward(path, bias=True)  # (1, T, D)
            constants[rows] = (encoder * seen[0, found.token]).sum(1)
            constants[rows] += upcast(transcoders.encoder_bias(layer)[found.feature])
            if transcoders.has_skip:
                tokens = tokens + upcast(transcoders.skip(layer, read.forward(tokens, bias=False)))
            path = path + self._constant_output(layer, seen)
        last = positions - 1
        gradient = frozen.final.backward(directions, last)
        edges[n_active:] = gradient @ tokens[:, last].T
        constants[n_active:] = directions @ frozen.final.forward(path, bias=True)[0, last]
        return edges, constants

    def _constant_output(self, layer: int, seen: Tensor) -> Tensor:
        """Return what an MLP writes on the constant path (1, T, D), whose transcoder reads `seen`.

        b_dec where there are features; at left-out positions the MLP's whole output, less the skip connection, which
        stays live everywhere.
        """
        transcoders = self.transcoders
        written = upcast(transcoders.decoder_bias(layer)).expand_as(seen).clone()
        left = slice(0, self.config.left_out)
        written[0, left] = self.mlp_out[layer][left] - upcast(transcoders.skip(layer, self.mlp_in[layer][left]))
        return written + upcast(transcoders.skip(layer, seen))

    # ---- steps 4 and 5 ----------------------------------------------------------------------------------------

    def graph(
        self,
        logits: Tensor,
        targets: Tensor | None,
        progress: Callable[[int, int], None] | None,
        only: Mapping[int, Sequence[int]] | None,
    ) -> AttributionGraph:
        """Attribute the logits, then the features."""
        config, model, frozen = self.config, self.model, self.frozen
        chosen = salient_logits(logits, config.max_n_logits, config.logit_probability) if targets is None else targets.to(logits.device)
        probabilities = torch.softmax(logits, -1)[chosen]
        unembedding = model.unembedding
        directions = upcast(unembedding[chosen]) - upcast(unembedding.mean(0))  # (K, D)
        token_edges, constants = self._forwards(directions)
        bias = model.unembedding_bias
        if bias is not None:
            constants[self.first_feature[-1] :] += upcast(bias[chosen] - bias.mean())

        n_active, last = self.first_feature[-1], frozen.n_positions - 1
        order = NodeOrder(n_active, model.n_layers, frozen.n_positions, len(chosen))
        backward = Backward(frozen, self.transcoders, self.sources, config.left_out, config.batch_elements, self.dtype)
        blocks = backward.logits(directions, order.logits + torch.arange(len(chosen), device=directions.device))
        blocks.append(self._token_block(order, torch.arange(n_active, n_active + len(chosen)), token_edges, last))
        attributed = torch.zeros(n_active, dtype=torch.bool)
        listed = None if only is None else self._listed(only)
        wanted = n_active if config.max_feature_nodes is None else min(config.max_feature_nodes, n_active)
        wanted = wanted if listed is None else len(listed)
        done = 0
        while done < wanted:
            batch = self._next_targets(blocks, order, probabilities, attributed, wanted - done) if listed is None else listed
            for position, per_layer in self._by_position(batch):
                blocks += backward.features(position, per_layer)
                members = torch.cat([nodes.cpu() for nodes, _ in per_layer.values()])
                blocks.append(self._token_block(order, members, token_edges, position))
                done += len(members)
                if progress is not None:
                    progress(done, wanted)
            attributed[batch] = True
        edges = Edges(blocks, order.n_nodes, self.dtype)
        return AttributionGraph(
            tokens=frozen.tokens.cpu(),
            active=self._active_features(),
            activation=torch.cat([upcast(layer.value) for layer in self.active]).cpu(),
            pre_activation=torch.cat([upcast(layer.pre) for layer in self.active]).cpu(),
            attributed=attributed,
            constants=constants.cpu(),
            error_vectors=self.errors.cpu(),
            token_vectors=upcast(frozen.token_vectors).cpu(),
            logit_token_ids=chosen.cpu(),
            logit_probabilities=probabilities.cpu(),
            last_logits=logits.cpu(),
            edges=edges,
            row_l1=edges.row_sums(),
            order=order,
        )

    def _active_features(self) -> Tensor:
        columns = [
            torch.stack([torch.full_like(found.token, layer), found.token, found.feature], dim=1) for layer, found in enumerate(self.active)
        ]
        return torch.cat(columns).cpu()

    def _token_block(self, order: NodeOrder, rows: Tensor, token_edges: Tensor, position: int) -> Block:
        """Return the edges from tokens up to a position into targets; rows past the features are logits."""
        n_active = self.first_feature[-1]
        nodes = torch.where(rows < n_active, rows, rows - n_active + order.logits)
        sources = order.tokens + torch.arange(position + 1)
        return Block(nodes, sources, token_edges[rows.to(token_edges.device), : position + 1].cpu(), TOKENS)

    def _next_targets(self, blocks: list[Block], order: NodeOrder, probabilities: Tensor, attributed: Tensor, missing: int) -> Tensor:
        """Return the features to attribute next: all that are missing, or the most influential ones so far."""
        open_features = (~attributed).nonzero()[:, 0]
        if missing == len(open_features):
            return open_features
        weights = torch.zeros(order.n_nodes, dtype=self.dtype)
        weights[order.logits :] = probabilities.cpu().to(self.dtype)
        influence = Edges(blocks, order.n_nodes, self.dtype).influence(weights)[: len(attributed)]
        ranked = torch.argsort(influence, descending=True, stable=True)
        ranked = ranked[~attributed[ranked]]
        return ranked[: min(self.config.targets_per_update, missing)]

    def _listed(self, only: Mapping[int, Sequence[int]]) -> Tensor:
        """Return the active features that are among layer -> features."""
        found = [
            self.first_feature[layer] + torch.isin(sparse.feature.cpu(), torch.tensor(list(only.get(layer, ())))).nonzero()[:, 0]
            for layer, sparse in enumerate(self.active)
        ]
        return torch.cat(found)

    def _by_position(self, batch: Tensor) -> Iterator[tuple[int, dict[int, tuple[Tensor, Tensor]]]]:
        """Yield (position, layer -> (nodes, encoder rows)) of features to attribute, a batch at a time."""
        chosen = torch.zeros(self.first_feature[-1], dtype=torch.bool)
        chosen[batch] = True
        rows: list[tuple[Tensor, Tensor]] = []
        for layer, found in enumerate(self.active):
            mine = chosen[self.first_feature[layer] : self.first_feature[layer + 1]].nonzero()[:, 0].to(found.token.device)
            rows.append((mine, found.token[mine]))
        for position in range(self.config.left_out, self.frozen.n_positions):
            limit = max(1, self.config.batch_elements // ((position + 1) * self.model.d_model))
            part: dict[int, tuple[Tensor, Tensor]] = {}
            size = 0
            for layer, (mine, token) in enumerate(rows):
                here = mine[token == position]
                for piece in torch.split(here, limit) if len(here) else ():
                    if size and size + len(piece) > limit:
                        yield position, part
                        part, size = {}, 0
                    part[layer] = self._targets(layer, piece)
                    size += len(piece)
            if part:
                yield position, part

    def _targets(self, layer: int, index: Tensor) -> tuple[Tensor, Tensor]:
        found = self.active[layer]
        encoder = upcast(self.transcoders.encoder_rows(layer, found.feature[index]))
        return self.first_feature[layer] + index, encoder


def _runs(positions: Tensor) -> Iterator[tuple[int, int, int]]:
    """Yield (position, start, end) of the runs of equal values in a sorted vector."""
    values, counts = torch.unique_consecutive(positions, return_counts=True)
    start = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield int(value), start, start + int(count)
        start += int(count)
