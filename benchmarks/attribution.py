"""Attribution graphs: this project against autograd, side by side in one process.

In: sizes of a random-weight Qwen3 and its transcoders (defaults: the medium model). Out: a table on stdout with seconds
for attribution and for pruning, peak memory, and the largest difference between the two adjacency matrices.

The autograd side was written for this comparison, after the way circuit-tracer goes: the forward pass of a batch of
copies of the prompt with patterns, norm denominators and MLP outputs detached; per batch of targets one backward pass
with an injected gradient; at each MLP output the gradients at all positions are gathered for the layer's active features
and multiplied with their decoder vectors; a dense adjacency matrix, pruned with dense matrices.

    python -m benchmarks.attribution                      # medium model, one thread
    python -m benchmarks.attribution --quick              # small sizes, seconds
    python -m benchmarks.attribution --many               # 100,000 active features, 5,000 attributed, without autograd
    python -m benchmarks.attribution --full-size          # Qwen3-4B's shape in bfloat16 storage, one GPU, no autograd side
"""

import argparse
import gc
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import TypeVar

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from ingest.graphs.attribution import AttributionConfig, AttributionGraph, attribute
from ingest.graphs.frozen import FrozenPrompt
from ingest.graphs.prune import Pruned
from ingest.model import LanguageModel, from_module
from ingest.transcoder import TranscoderSet

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """What is built."""

    layers: int = 8
    d_model: int = 256
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    features: int = 4096
    tokens: int = 24
    vocabulary: int = 2000
    active_share: float = 0.0204
    """Share of features active at a position: about 15,000 active features in the medium model."""
    dtype: str = "float32"
    device: str = "cpu"


QUICK = Sizes(layers=3, d_model=64, heads=4, kv_heads=2, head_dim=32, features=256, tokens=8, vocabulary=200, active_share=0.2)
FULL = Sizes(
    layers=36, d_model=2560, heads=32, kv_heads=8, head_dim=128, features=163_840, tokens=24, vocabulary=151_936,
    active_share=0.0006, dtype="bfloat16", device="cuda",
)  # fmt: skip

MANY = Sizes(layers=36, heads=8, kv_heads=4, features=8192, tokens=30, active_share=0.0117)
"""About 100,000 active features, as one prompt of Qwen3-4B can have; memory is that of the edges."""


def build(sizes: Sizes, seed: int = 0) -> tuple[LanguageModel, TranscoderSet, list[int]]:
    """Return a random-weight model, random ReLU transcoders with about `active_share` active, and a prompt."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.d_model,
        intermediate_size=3 * sizes.d_model,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=max(512, sizes.tokens),
        tie_word_embeddings=True,
    )
    dtype = getattr(torch, sizes.dtype)
    # Attribution computes in float32 whatever the storage; the model runs in float32 unless it would not fit.
    with torch.device(sizes.device):
        hf = Qwen3ForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, sizes.d_model**-0.5)
    model = from_module(hf, name="random Qwen3")
    weights: dict[int, dict[str, Tensor]] = {}
    # x has unit mean square after the norm, so pre-activations without bias are N(0, 1).
    bias = NormalDist().inv_cdf(sizes.active_share)
    for layer in range(sizes.layers):
        shape = (sizes.features, sizes.d_model)
        weights[layer] = {
            "W_enc": torch.randn(shape, dtype=dtype, device=sizes.device) * sizes.d_model**-0.5,
            "W_dec": torch.randn(shape, dtype=dtype, device=sizes.device) * sizes.d_model**-0.5 * 0.3,
            "b_enc": torch.full((sizes.features,), bias, dtype=dtype, device=sizes.device),
            "b_dec": torch.randn(sizes.d_model, dtype=dtype, device=sizes.device) * 0.1,
        }
    transcoders = TranscoderSet.from_weights(weights, dtype="float32", device=sizes.device)
    transcoders.residency.budget = 0 if sizes.dtype != "float32" else None
    prompt = torch.randint(1, sizes.vocabulary, (sizes.tokens,), generator=torch.Generator().manual_seed(seed))
    return model, transcoders, prompt.tolist()


# ---- the autograd side ------------------------------------------------------------------------------------------------


class AutogradAttribution:
    """Attribution by a backward pass per batch of targets. ReLU transcoders without skip, RMSNorm models."""

    def __init__(self, model: LanguageModel, transcoders: TranscoderSet, graph: AttributionGraph, prompt: list[int]) -> None:
        self.model, self.graph = model, graph
        captured = model.capture(torch.tensor([prompt]), patterns=True, denominators=True)
        self.frozen = FrozenPrompt(model, captured, 0)
        self.captured = captured
        layers = range(model.n_layers)
        members = [graph.active[graph.active[:, 0] == layer] for layer in layers]
        self.positions = [rows[:, 1] for rows in members]
        self.encoder = torch.cat([transcoders.encoder_rows(layer, rows[:, 2]) for layer, rows in enumerate(members)])
        self.decoder = [
            transcoders.decoder_rows(layer, rows[:, 2]) * graph.activation[graph.active[:, 0] == layer][:, None]
            for layer, rows in enumerate(members)
        ]

    def adjacency(self, batch_size: int) -> Tensor:
        """Return the dense (N, N) adjacency in the graph's node order."""
        graph, order = self.graph, self.graph.order
        n_active = len(graph.active)
        adjacency = torch.zeros(order.n_nodes, order.n_nodes)
        read = self._forward(batch_size)
        layers, positions = graph.active[:, 0], graph.active[:, 1]
        unembedding = self.model.unembedding
        logits = unembedding[graph.logit_token_ids] - unembedding.mean(0)
        last = torch.full((order.n_logits,), order.n_positions - 1)
        top = torch.full((order.n_logits,), order.n_layers)
        adjacency[order.logits :, : order.logits] = self._rows(read, top, last, logits)
        for start in range(0, n_active, batch_size):
            batch = slice(start, start + batch_size)
            rows = self._rows(read, layers[batch], positions[batch], self.encoder[batch])
            adjacency[batch, : order.logits][: len(rows)] = rows
        return adjacency

    def _forward(self, batch_size: int) -> list[Tensor]:
        """Run copies of the prompt with everything nonlinear detached; hooks contract gradients with sources."""
        model, captured, order = self.model, self.captured, self.graph.order
        self.batch_size = batch_size
        self.buffer = torch.zeros(order.logits, batch_size)
        residual = self.frozen.token_vectors.expand(batch_size, -1, -1).clone().requires_grad_(True)
        residual.register_hook(self._contract_tokens)  # type: ignore[no-untyped-call]
        read: list[Tensor] = []
        for layer in range(model.n_layers):
            norm, parts = model.norm(layer, "attention"), model.value_output(layer)
            assert norm is not None
            r = captured.denominators[(model.adapter.attention_norm, layer)]
            value = norm.forward(residual, r) @ parts.value.T
            value = value.view(batch_size, -1, parts.n_kv_heads, parts.head_dim).transpose(1, 2)
            value = value.repeat_interleave(parts.n_heads // parts.n_kv_heads, dim=1)
            mixed = captured.patterns[layer].detach() @ value
            residual = residual + mixed.transpose(1, 2).reshape(batch_size, -1, parts.n_heads * parts.head_dim) @ parts.output.T
            mlp_norm = model.norm(layer, "mlp")
            assert mlp_norm is not None
            read.append(mlp_norm.forward(residual, captured.denominators[(model.adapter.mlp_norm, layer)]))
            # The MLP's output is a constant through which no gradient flows, but whose own gradient is looked at.
            written = (read[-1] * 0) + (captured.mlp_out[layer] - read[-1] * 0).detach()
            written.register_hook(partial(self._contract, layer))  # type: ignore[no-untyped-call]
            residual = residual + written
        read.append(model.final_norm.forward(residual, captured.denominators[("final", model.n_layers)]))
        return read

    def _rows(self, read: list[Tensor], layers: Tensor, positions: Tensor, vectors: Tensor) -> Tensor:
        """Return rows (n, sources) for targets, by one backward pass from the last of their layers."""
        self.buffer.zero_()
        index = torch.arange(len(layers))

        def inject(members: Tensor) -> Callable[[Tensor], Tensor]:
            def hook(gradient: Tensor) -> Tensor:
                out = gradient.clone()
                out[index[members], positions[members]] = vectors[members]
                return out

            return hook

        present = torch.unique(layers).tolist()
        handles = [read[layer].register_hook(inject(layers == layer)) for layer in present]
        try:
            read[max(present)].backward(torch.zeros_like(read[max(present)]), retain_graph=True)
        finally:
            for handle in handles:
                handle.remove()
        return self.buffer.T[: len(layers)]

    def _contract(self, layer: int, gradient: Tensor) -> None:
        order, before = self.graph.order, int((self.graph.active[:, 0] < layer).sum())
        gathered = gradient[:, self.positions[layer]]  # (batch, n, D)
        features = torch.einsum("bnd,nd->nb", gathered, self.decoder[layer])
        self.buffer[before : before + len(features)] += features
        first = order.errors + layer * order.n_positions
        errors = torch.einsum("btd,td->tb", gradient, self.graph.error_vectors[layer])
        self.buffer[first : first + order.n_positions] += errors

    def _contract_tokens(self, gradient: Tensor) -> None:
        order = self.graph.order
        self.buffer[order.tokens : order.logits] += torch.einsum("btd,td->tb", gradient, self.graph.token_vectors)


def prune_densely(graph: AttributionGraph, adjacency: Tensor) -> tuple[Tensor, Tensor]:
    """Prune with dense matrices and power iteration; return node and edge mask."""
    order = graph.order
    weights = torch.zeros(order.n_nodes)
    weights[order.logits :] = graph.logit_probabilities

    def normalised(matrix: Tensor) -> Tensor:
        return matrix.abs() / matrix.abs().sum(1, keepdim=True).clamp(min=1e-10)

    def influence(matrix: Tensor) -> Tensor:
        current = weights @ matrix
        total = current.clone()
        while current.any():
            current = current @ matrix
            total += current
        return total

    def threshold(values: Tensor, share: float) -> Tensor:
        ordered = torch.sort(values, descending=True).values
        return ordered[min(int(torch.searchsorted(torch.cumsum(ordered, 0) / ordered.sum(), share)), len(ordered) - 1)]

    scores = influence(normalised(adjacency))
    nodes = scores >= threshold(scores, 0.8)
    nodes[order.tokens :] = True
    kept = adjacency.clone()
    kept[~nodes] = 0
    kept[:, ~nodes] = 0
    kept = normalised(kept)
    edge_scores = kept * (influence(kept) + weights)[:, None]
    edges = edge_scores >= threshold(edge_scores.flatten(), 0.98)
    while True:
        left = nodes.clone()
        left[: order.tokens] &= edges[:, : order.tokens].any(0)
        left[: order.n_features] &= edges[: order.n_features].any(1)
        edges[~left] = False
        edges[:, ~left] = False
        if bool((left == nodes).all()):
            return nodes, edges
        nodes = left


# ---- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seconds:
    """How long something took: by the clock, and on this process's processors (what a shared machine does not distort)."""

    wall: float
    cpu: float

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of processor)"


def timed(work: Callable[[], T], device: str) -> tuple[T, Seconds]:
    """Return what work returns and how long it took."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def times_as_fast(other: Seconds, ours: Seconds) -> str:
    """Return both ratios."""
    return f"{other.wall / ours.wall:.1f} by the clock, {other.cpu / ours.cpu:.1f} by processor time"


def peak_megabytes(device: str) -> float:
    """Return the process's (GPU: the device's) peak memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def run(sizes: Sizes, *, batch_size: int, repeats: int, compare: bool, most: int | None) -> list[tuple[str, str]]:
    """Measure; return (what, value) lines. This project runs first, so that its peak memory is its own."""
    model, transcoders, prompt = build(sizes)
    base = peak_megabytes(sizes.device)
    config = AttributionConfig(max_feature_nodes=most)
    with torch.no_grad():
        next(attribute(model, transcoders, [prompt[:4]], config)).prune()  # reads matrices, warms up
    ours = [_ours(model, transcoders, prompt, config, sizes.device) for _ in range(repeats)]
    graph, pruned = ours[-1][0], ours[-1][1]
    attribution = min((times[2] for times in ours), key=lambda seconds: seconds.wall)
    pruning = min((times[3] for times in ours), key=lambda seconds: seconds.wall)
    lines = [
        ("active features", f"{len(graph.active):,}, {int(graph.attributed.sum()):,} attributed"),
        ("edges in the causal cone", f"{graph.edges.n_edges:,} ({graph.edges.nbytes / 1e6:,.0f} MB)"),
        ("this project: attribution", str(attribution)),
        ("this project: pruning and scores", str(pruning)),
        ("this project: peak memory", f"{peak_megabytes(sizes.device):,.0f} MB ({base:,.0f} MB before)"),
        ("this project: kept", f"{int(pruned.node_mask.sum()):,} nodes, {len(pruned.source):,} edges"),
    ]
    if not compare:
        return lines
    del ours
    gc.collect()
    other = AutogradAttribution(model, transcoders, graph, prompt)
    adjacency, seconds = timed(lambda: other.adjacency(batch_size), sizes.device)
    (nodes, edges), prune_seconds = timed(lambda: prune_densely(graph, adjacency), sizes.device)
    difference = float((adjacency - graph.edges.dense()).abs().max())
    kept = torch.zeros_like(edges)
    kept[pruned.target, pruned.source] = True
    return [
        *lines,
        ("autograd: attribution", f"{seconds}, batches of {batch_size}"),
        ("autograd: pruning", str(prune_seconds)),
        ("autograd: peak memory", f"{peak_megabytes(sizes.device):,.0f} MB"),
        ("largest difference of an edge", f"{difference:.1e} (largest edge {float(adjacency.abs().max()):.2f})"),
        ("nodes, edges kept by one side only", f"{int((nodes != pruned.node_mask).sum())}, {int((edges != kept).sum())}"),
        ("times as fast: attribution", times_as_fast(seconds, attribution)),
        ("times as fast: attribution and pruning", times_as_fast(seconds + prune_seconds, attribution + pruning)),
    ]


def _ours(
    model: LanguageModel, transcoders: TranscoderSet, prompt: list[int], config: AttributionConfig, device: str
) -> tuple[AttributionGraph, Pruned, Seconds, Seconds]:
    gc.collect()
    graph, attribution = timed(lambda: next(attribute(model, transcoders, [prompt], config)), device)
    pruned, pruning = timed(graph.prune, device)
    return graph, pruned, attribution, pruning


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument("--many", action="store_true", help="100,000 active features, 5,000 attributed, this project only")
    parser.add_argument("--max-feature-nodes", type=int, help="attribute only the most influential features")
    parser.add_argument("--full-size", action="store_true", help="Qwen3-4B's shape on a GPU, without the autograd side")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--tokens", type=int, help="length of the prompt")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=512, help="targets in a backward pass of the autograd side")
    parser.add_argument("--repeats", type=int, default=3, help="runs of this project; the fastest counts")
    parser.add_argument("--no-autograd", action="store_true", help="measure this project only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = QUICK if arguments.quick else FULL if arguments.full_size else MANY if arguments.many else Sizes()
    sizes = replace(sizes, layers=arguments.layers or sizes.layers, tokens=arguments.tokens or sizes.tokens)
    if sizes.device == "cuda" and not torch.cuda.is_available():
        parser.error("--full-size needs a GPU with 80 GB (or --layers 8 with 24 GB); none is here")
    most = arguments.max_feature_nodes or (5000 if arguments.many else None)
    compare = not (arguments.no_autograd or arguments.full_size or most)
    lines = run(sizes, batch_size=arguments.batch_size, repeats=arguments.repeats, compare=compare, most=most)
    where = torch.cuda.get_device_name() if sizes.device == "cuda" else platform.processor() or platform.machine()
    print(f"{where}, {arguments.threads} thread(s), torch {torch.__version__}")
    print(sizes)
    width = max(len(what) for what, _ in lines)
    for what, value in lines:
        print(f"{what:<{width}}  {value}")


if __name__ == "__main__":
    main()
