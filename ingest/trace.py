"""Trace one prompt: its attribution graph, to a file or as rows for an atlas. Behind `atlas trace`.

In: paths of a model and its transcoders, a text or token ids, thresholds. Out: `Traced`; `.json` opens in
circuit-tracer's front end and Neuronpedia, `.npz` has the reference's arrays, `tables` are rows of graph, node and edge.
Arguments are checked before the model loads.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import torch

from atlas.errors import UsageError
from atlas.export.graph import graph_json, write_listed
from ingest.graphs.attribution import AttributionConfig, AttributionGraph, attribute
from ingest.graphs.export_npz import check_size, graph_arrays, write_npz
from ingest.graphs.prune import Pruned
from ingest.graphs.tables import graph_tables
from ingest.model import LanguageModel, load_model
from ingest.transcoder import TranscoderSet

DEFAULT_BUDGET = 2 << 30
"""Bytes of transcoder matrices kept in memory; the rest is read when it is needed."""


@dataclass(frozen=True)
class Traced:
    """A traced prompt."""

    graph: AttributionGraph
    pruned: Pruned
    model: LanguageModel
    transcoders: TranscoderSet
    prompt: str
    token_texts: tuple[str, ...]
    logit_texts: tuple[str, ...]
    config: AttributionConfig
    node_threshold: float
    edge_threshold: float

    def summary(self) -> str:
        """Return one line for a person."""
        n_kept = int(self.pruned.node_mask.sum())
        return (
            f"{len(self.graph.active):,} active features, {self.graph.edges.n_edges:,} edges; "
            f"{n_kept:,} nodes and {len(self.pruned.source):,} edges kept; "
            f"replacement {self.pruned.replacement_score:.3f}, completeness {self.pruned.completeness_score:.3f}"
        )

    def write(self, path: Path, *, slug: str | None = None) -> None:
        """Write `.json` or `.npz`, by the path's ending."""
        check_ending(path)
        if path.suffix == ".json":
            tables = self.tables(name=slug or path.stem)
            (row,) = tables["graph"].to_pylist()
            content = graph_json(
                tables["node"].to_pylist(),
                tables["edge"].to_pylist(),
                row,
                prompt=self.prompt,
                tokens=self.token_texts,
                scan=self.transcoders.name,
                n_layers=self.graph.order.n_layers,
            )
            write_listed(content, path)
            return
        meta = {"backend": "feature-atlas", "dtype": str(self.graph.edges.dtype).removeprefix("torch."), **self._parameters()}
        write_npz(graph_arrays(self.graph, self.pruned, self.transcoders, logit_texts=self.logit_texts, meta=meta), path)

    def tables(
        self, *, ordinal: int = 0, name: str | None = None, behaviour: str | None = None, prompt: int | None = None
    ) -> dict[str, pa.Table]:
        """Return rows of graph, node and edge for an atlas."""
        return graph_tables(
            self.graph,
            self.pruned,
            ordinal=ordinal,
            name=name or self.prompt,
            token_texts=self.token_texts,
            logit_texts=self.logit_texts,
            node_threshold=self.node_threshold,
            edge_threshold=self.edge_threshold,
            behaviour=behaviour,
            prompt=prompt,
            parameters=self._parameters(),
        )

    def _parameters(self) -> dict[str, object]:
        return {"model": self.model.name, "transcoders": self.transcoders.name, **asdict(self.config)}


def trace(
    model: str | Path,
    transcoders: str | Path,
    *,
    prompt: str | None = None,
    tokens: Sequence[int] | None = None,
    out: Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
    max_n_logits: int = 10,
    logit_probability: float = 0.95,
    max_feature_nodes: int | None = None,
    targets_per_update: int = 2048,
    prepend: bool = True,
    memory_budget: int | None = DEFAULT_BUDGET,
    slug: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Traced:
    """Compute the attribution graph of one prompt, given as text or as token ids, and write it where `out` says.

    Text is tokenised with the model's special token in front (`prepend`); token ids are taken as they are. With
    `max_feature_nodes`, influence is ranked anew after every `targets_per_update` features (circuit-tracer: four batches of
    its `batch_size`, 2,048 by default). Raises
    UsageError for arguments that do not go together, InputError for files, ModelError for an unknown family.
    """
    _check(prompt, tokens, out, dtype, node_threshold, edge_threshold, max_n_logits, logit_probability, max_feature_nodes)
    opened = TranscoderSet.open(transcoders, dtype=dtype, device=device, memory_budget=memory_budget)
    loaded = load_model(model, dtype=dtype, device=device)
    return trace_loaded(
        loaded,
        opened,
        prompt=prompt,
        tokens=tokens,
        out=out,
        config=AttributionConfig(
            max_n_logits=max_n_logits,
            logit_probability=logit_probability,
            max_feature_nodes=max_feature_nodes,
            targets_per_update=targets_per_update,
        ),
        node_threshold=node_threshold,
        edge_threshold=edge_threshold,
        prepend=prepend,
        slug=slug,
        progress=progress,
    )


def trace_loaded(
    model: LanguageModel,
    transcoders: TranscoderSet,
    *,
    prompt: str | None = None,
    tokens: Sequence[int] | None = None,
    out: Path | None = None,
    config: AttributionConfig | None = None,
    node_threshold: float = 0.8,
    edge_threshold: float = 0.98,
    prepend: bool = True,
    slug: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Traced:
    """Do what `trace` does with a model and transcoders that are open already."""
    config = config or AttributionConfig()
    ids = model.tokenise([prompt or ""], prepend=prepend).row(0) if tokens is None else list(tokens)
    (graph,) = attribute(model, transcoders, [ids], config, progress=progress)
    if out is not None and out.suffix == ".npz":
        check_size(graph)
    traced = Traced(
        graph=graph,
        pruned=graph.prune(node_threshold, edge_threshold),
        model=model,
        transcoders=transcoders,
        prompt=_text(model, ids),
        token_texts=tuple(model.token_texts(ids)),
        logit_texts=tuple(model.token_texts(graph.logit_token_ids.tolist())),
        config=config,
        node_threshold=node_threshold,
        edge_threshold=edge_threshold,
    )
    if out is not None:
        traced.write(out, slug=slug)
    return traced


def parse_tokens(text: str) -> list[int]:
    """Return the ids of `--tokens 0,5,17`. Raises UsageError that names the part that is no id."""
    ids: list[int] = []
    for part in text.split(","):
        if not part.strip().isdigit():
            raise UsageError(f"{part!r} in --tokens is not a token id", hint="write ids with commas: --tokens 0,5,17")
        ids.append(int(part))
    return ids


def check_ending(path: Path) -> None:
    """Raise UsageError for a file that is neither .json nor .npz, or whose folder is missing."""
    if path.suffix not in (".json", ".npz"):
        raise UsageError(f"--out {path} ends in {path.suffix!r}", hint="end it in .json (front end) or .npz (arrays)")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"the folder of --out {path} does not exist", hint=f"make it: mkdir -p {path.parent}")


def _text(model: LanguageModel, ids: Sequence[int]) -> str:
    if model.tokenizer is None:
        return " ".join(model.token_texts(ids))
    return str(model.tokenizer.decode(torch.tensor(list(ids))))


def _check(
    prompt: str | None,
    tokens: Sequence[int] | None,
    out: Path | None,
    dtype: str,
    node_threshold: float,
    edge_threshold: float,
    max_n_logits: int,
    logit_probability: float,
    max_feature_nodes: int | None,
) -> None:
    """Refuse what cannot work before anything is loaded."""
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", hint='for example --prompt "The opposite of the word hot is"')
    if (prompt is None) == (tokens is None):
        raise UsageError("give either a prompt or token ids", hint='--prompt "The opposite of hot is", or --tokens 0,5,17')
    if dtype not in ("float32", "float64"):
        raise UsageError(f"--dtype {dtype} is not exact enough for attribution", hint="use float32 or float64")
    for name, share in (
        ("--node-threshold", node_threshold),
        ("--edge-threshold", edge_threshold),
        ("--logit-probability", logit_probability),
    ):
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"{name} is {share}, it must lie between 0 and 1")
    if max_n_logits < 1:
        raise UsageError(f"--max-logits is {max_n_logits}, at least 1 is needed")
    if max_feature_nodes is not None and max_feature_nodes < 1:
        raise UsageError(f"--max-feature-nodes is {max_feature_nodes}, at least 1 is needed")
    if out is not None:
        check_ending(out)
