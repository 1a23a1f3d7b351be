"""What a plan would take: time, memory, rows and bytes of each stage, before anything runs.

In: a plan, the folder of the atlas. Out: an `Estimate`; `refuse` raises where the plan cannot fit. No weights of a large model are read:
shapes come from config.json (the model is built on the meta device, without numbers) and from the headers of the transcoders' files.

1. Shapes, and how many prompts and tokens there are: counted with the tokenizer, or estimated from the texts' lengths where there is none.
2. Rates of this machine (`ingest.rates`): matrix products and one decoder layer of the real shape, writing, reading, hashing.
3. Active features a token: measured on a few prompts where the model is small, else TopK's k, else assumed (`--active`).
4. Arithmetic: FLOPs and tokens of each stage (the counts below name where they come from) over the rates.

It is an estimate: the number of active features is the largest unknown, and time for small models is mostly overhead, not arithmetic.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from atlas.errors import InputError, ModelError, StoreError
from ingest.plan import Plan
from ingest.plan_shards import Shard, plan_shards
from ingest.prompts import load_behaviour
from ingest.rates import Rates, disk_rates, free_memory, layer_seconds, matmul_rate

ASSUMED_ACTIVE = 100
"""Active features a token and layer, where nothing tells: ReLU sets of Qwen3-4B have tens to hundreds, with outliers of thousands."""
SMALL_MODEL = 1 << 28
"""Bytes of weights up to which a model is loaded to measure how many features are active."""
LARGE_LAYER = 1 << 30
"""Bytes of a decoder layer beyond which it is not made to measure it."""
FEATURE_BYTES, CONTEXT_BYTES, OTHER_BYTES, OUTCOME_BYTES = 190.0, 12.0, 8.0, 22.0
"""Bytes a row in Parquet of feature, context, the small statistics, and outcome, from `atlas runs show` of the demo atlas."""
CONTEXTS, NEIGHBOURS, BINS = 33, 20, 10
"""Rows of context, neighbour and histogram an active feature (same atlas)."""
ARROW_ROW = 3 * 18
"""Bytes of host memory a row of activation: three copies while it is sorted."""


@dataclass(frozen=True)
class Shapes:
    """Sizes of model and transcoders."""

    n_layers: int
    d_model: int
    vocab_size: int
    body: int
    """Parameters without embeddings."""
    parameters: int
    width: int
    """Features of a layer."""
    layers: tuple[int, ...]
    """Analysed layers."""
    set_layers: int
    """Layers of the transcoder set."""
    item: int
    """Bytes of a number in the dtype it runs in."""
    files: int
    """Bytes on disk of model and set."""
    widths: Mapping[int, int]
    """Analysed layer -> its features."""
    cross_layer: bool

    @property
    def matrix(self) -> int:
        """Bytes of one encoder or decoder."""
        return self.width * self.d_model * self.item

    @property
    def model_bytes(self) -> int:
        """Bytes of the model's weights."""
        return self.parameters * self.item


@dataclass(frozen=True)
class Amount:
    """What is run."""

    prompts: int
    tokens: int
    longest: int
    languages: int
    train: float
    """Share of the prompts in the train split."""
    counted: bool
    """Whether a tokenizer counted the tokens."""


@dataclass(frozen=True)
class StageEstimate:
    """One row of the answer."""

    stage: str
    seconds: float
    rows: int
    bytes: int
    device_bytes: int
    host_bytes: int


@dataclass
class Estimate:
    """All stages, what was measured, and what does not fit."""

    plan: Plan
    shapes: Shapes
    amount: Amount
    rates: Rates
    active: float
    active_from: Literal["given", "measured", "TopK's k", "assumed"]
    shards: tuple[Shard, ...] = ()
    """What can be computed apart, and is committed one by one."""
    stages: list[StageEstimate] = field(default_factory=list)
    free_device: int = 0
    free_host: int = 0
    free_disk: int = 0
    elsewhere: bool = False
    """Whether rates and memory of another machine were given."""

    def rows(self) -> list[dict[str, object]]:
        """Return a row a stage, and their sum (memory: the largest)."""
        stages = [
            *self.stages,
            StageEstimate(
                "all",
                sum(stage.seconds for stage in self.stages),
                sum(stage.rows for stage in self.stages),
                sum(stage.bytes for stage in self.stages),
                max(stage.device_bytes for stage in self.stages),
                max(stage.host_bytes for stage in self.stages),
            ),
        ]
        committed = Counter(shard.stage for shard in self.shards if not shard.draft)
        committed["all"] = committed.total()
        return [
            {
                "stage": stage.stage,
                "shards": committed[stage.stage],
                "seconds": round(stage.seconds, 1),
                "time": duration(stage.seconds),
                "rows": stage.rows,
                "disk": size(stage.bytes),
                "device_memory": size(stage.device_bytes),
                "host_memory": size(stage.host_bytes),
            }
            for stage in stages
        ]

    def shard_rows(self) -> list[dict[str, object]]:
        """Return a row a shard: what it is of, and what it waits for."""
        return [
            {
                "shard": shard.name,
                "stage": shard.stage,
                "layers": ",".join(map(str, shard.layers)) or None,
                "behaviour": shard.behaviour,
                "committed": not shard.draft,
                "needs": ",".join(shard.needs) or None,
            }
            for shard in self.shards
        ]

    def narration(self) -> Iterator[str]:
        """Say what was measured and what was assumed."""
        shapes, amount, rates = self.shapes, self.amount, self.rates
        yield (
            f"{self.plan.title}: {shapes.parameters:,} parameters, {shapes.n_layers} layers of width {shapes.d_model:,}; "
            f"{len(shapes.layers)} layers of {shapes.width:,} features analysed ({size(shapes.matrix)} a matrix in {self.plan.dtype})"
        )
        how = "counted with the tokenizer" if amount.counted else "estimated from the texts' lengths"
        what = "pieces of a corpus" if self.plan.corpus else "prompts"
        yield (
            f"{amount.prompts:,} {what}, {amount.tokens:,} tokens ({how}); "
            f"{self.active:.0f} active features a token and layer ({self.active_from})"
        )
        if self.elsewhere:
            yield (
                f"given, not measured: matrix products {rates.matmul / 1e12:,.1f} TFLOP/s; reading {size(rates.read)}/s, writing "
                f"{size(rates.write)}/s, SHA-256 {size(rates.hashing)}/s are this machine's; host memory is not judged"
            )
            return
        layer = f"one decoder layer {1 / rates.layer:,.0f} tokens/s, " if rates.layer else "decoder layer from the matrix-product rate, "
        yield (
            f"measured here on {self.plan.device}: matrix products {rates.matmul / 1e9:,.1f} GFLOP/s, {layer}"
            f"writing {size(rates.write)}/s of Parquet, {rates.row_bytes:.1f} bytes a row, reading {size(rates.read)}/s, "
            f"SHA-256 {size(rates.hashing)}/s"
        )
        yield (
            f"free: {size(self.free_device)} on {self.plan.device}, {size(self.free_host)} of host memory, "
            f"{size(self.free_disk)} where the atlas would stand"
        )

    def refuse(self) -> None:
        """Raise what keeps the plan from running.

        Raises:
            InputError: a memory budget that holds not even one encoder.
            ModelError: a stage that needs more device or host memory than there is.
            StoreError: a disk that is too small.
        """
        from ingest.workshop import parse_bytes

        budget = parse_bytes(self.plan.memory_budget)
        if budget is not None and budget < self.shapes.matrix:
            raise InputError(
                f"the memory budget is {size(budget)}, one encoder of {self.plan.dtype} is {size(self.shapes.matrix)}",
                hint=f"give --memory-budget {size(self.shapes.matrix * 2)} or more, or a smaller --dtype",
            )
        on_device = max(self.stages, key=lambda stage: stage.device_bytes)
        if on_device.device_bytes > self.free_device:
            raise ModelError(
                f"stage {on_device.stage} needs {size(on_device.device_bytes)} on {self.plan.device}, {size(self.free_device)} are free",
                hint=self._smaller(budget),
            )
        on_host = max(self.stages, key=lambda stage: stage.host_bytes)
        if on_host.host_bytes > self.free_host:
            raise ModelError(
                f"stage {on_host.stage} needs {size(on_host.host_bytes)} of host memory, {size(self.free_host)} are free",
                hint="take fewer --layers at a time (a run each), or fewer --max-concepts",
            )
        needed = 2 * sum(stage.bytes for stage in self.stages)
        if needed > self.free_disk:
            raise StoreError(
                f"shards and the published file need about {size(needed)} of disk, {size(self.free_disk)} are free",
                hint="put the atlas on another disk (--atlas), or take fewer --layers",
            )

    def _smaller(self, budget: int | None) -> str:
        left = self.free_device - self.shapes.model_bytes
        if left <= 2 * self.shapes.matrix:
            return "the weights alone leave no room for an encoder: use --dtype bfloat16, another device, or --device cpu"
        if budget is None:
            return f"let layers stream: --memory-budget {left * 0.6 / 1e9:.0f}GB"
        return "take fewer --layers at a time (a run each), a smaller --memory-budget, or a smaller --batch-size"


def estimate(
    plan: Plan, folder: Path, *, active: int | None = None, tflops: float | None = None, device_memory: int | None = None
) -> Estimate:
    """Estimate a plan whose atlas would stand in `folder`; takes a few seconds.

    Args:
        plan: what would run.
        folder: where the atlas would stand; it need not be there.
        active: active features a token and layer, where they are known.
        tflops: matrix-product rate (10^12 FLOP/s) of another machine, in place of what is measured here.
        device_memory: bytes of that machine's device; its host memory is not judged.

    Raises:
        InputError: model or transcoders are missing, or do not fit each other.
        ModelError: a family without an adapter, or a device that is not there.
    """
    from ingest.batches import ONE_THREAD_BELOW
    from ingest.model import DTYPES

    device = _device(plan) if tflops is None else torch.device("cpu")
    config, shapes, model_path = _shapes(plan)
    amount = _corpus_amount(plan, config) if plan.corpus else _prompt_amount(plan, model_path)
    dtype = DTYPES[plan.dtype]
    batch = min(plan.batch_size, max(amount.prompts, 1))
    length = max(amount.tokens // max(amount.prompts, 1), 2)
    per_layer = shapes.body // shapes.n_layers
    layer: float | None = None
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    read, write, row_bytes, hashing = disk_rates(existing)
    threads = torch.get_num_threads()
    if device.type == "cpu" and shapes.d_model < ONE_THREAD_BELOW:
        torch.set_num_threads(1)  # as the pipeline does
    try:
        if tflops is None and per_layer * shapes.item <= LARGE_LAYER:
            layer = layer_seconds(config, device, dtype, min(batch, max(1, 512 // length)) if device.type == "cpu" else batch, length)
        matmul = matmul_rate(device, dtype, shapes.d_model, shapes.width) if tflops is None else 0.0
    finally:
        torch.set_num_threads(threads)
    if tflops is not None:
        matmul, layer = tflops * 1e12, None
    rates = Rates(matmul, layer, read, write, row_bytes, hashing)
    found = Estimate(plan, shapes, amount, rates, *_active(plan, shapes, active))
    behaviours = [] if plan.corpus else list(dict.fromkeys(load_behaviour(behaviour).name for behaviour in plan.behaviours))
    found.shards = plan_shards(plan, behaviours, shapes.widths, cross_layer=shapes.cross_layer)
    found.stages = [STAGES[stage](found) for stage in plan.stages()]
    found.elsewhere = tflops is not None
    found.free_device, found.free_host = free_memory(device), free_memory(torch.device("cpu"))
    if found.elsewhere:
        found.free_device, found.free_host = device_memory or 1 << 62, 1 << 62
    found.free_disk = shutil.disk_usage(existing).free
    return found


# ---- shapes and amounts -------------------------------------------------------------------------------------------


def _device(plan: Plan) -> torch.device:
    try:
        device = torch.device(plan.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"there is no device {plan.device!r} here: {error}", hint="give --device cpu, or run on the machine that has it"
        ) from error
    return device


def _shapes(plan: Plan) -> tuple[Any, Shapes, Path]:
    from transformers import AutoModelForCausalLM

    from ingest.fit import check_fit
    from ingest.model import DTYPES

    model_path, set_path = _local(plan.model, "model"), _local(plan.transcoders, "transcoders")
    config, opened = check_fit(model_path, set_path, plan.layers, dtype=plan.dtype)
    text = config.get_text_config()
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    embeddings = {id(layer.weight): layer.weight.numel() for layer in (module.get_input_embeddings(), module.get_output_embeddings())}
    layers = plan.layers or opened.layers
    files = sum(file.stat().st_size for file in model_path.glob("*.safetensors"))
    files += sum(path.stat().st_size for layer in layers for path in opened.files.layers[layer].paths())
    shapes = Shapes(
        n_layers=int(text.num_hidden_layers),
        d_model=int(text.hidden_size),
        vocab_size=int(text.vocab_size),
        body=parameters - sum(embeddings.values()),
        parameters=parameters,
        width=max(opened.d_transcoder(layer) for layer in layers),
        layers=tuple(layers),
        set_layers=len(opened.layers),
        item=torch.empty(0, dtype=DTYPES[plan.dtype]).element_size(),
        files=files,
        widths={layer: opened.d_transcoder(layer) for layer in layers},
        cross_layer=opened.cross_layer,
    )
    return text, shapes, model_path


def _local(text: str, kind: Literal["model", "transcoders"]) -> Path:
    """Find a source without downloading anything."""
    from ingest.sources import resolve_source

    if text.startswith("embedded:") or Path(text).expanduser().is_dir() or text.count("/") != 1:
        return resolve_source(text, kind).path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(text, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{text!r} is not on this machine, and a plan downloads nothing.",
            hint=f"`hf download {text}` fetches it (docs/qwen3-4b.md says how large it is).",
        ) from error


def _prompt_amount(plan: Plan, model_path: Path) -> Amount:
    from ingest.job import tokenised
    from ingest.prompts import load_behaviour
    from ingest.sources import Source

    if any(model_path.glob("tokenizer*")) or (model_path / "vocab.json").exists():
        prompts = tokenised(plan, Source(model_path.name, model_path)).prompts
        lengths = [len(prompt.token_ids) for prompt in prompts]
        train = sum(prompt.split == "train" for prompt in prompts) / len(prompts)
        return Amount(len(prompts), sum(lengths), max(lengths), len({prompt.language for prompt in prompts}), train, counted=True)
    lengths, languages, n_train = [], set(), 0
    for behaviour in map(load_behaviour, plan.behaviours):
        share = min(1.0, (plan.max_concepts or len(behaviour.concepts)) / len(behaviour.concepts))
        for template in behaviour.templates:
            if plan.languages and template.language not in plan.languages:
                continue
            for concept in behaviour.concepts[: max(1, round(share * len(behaviour.concepts)))]:
                n_cases = len(concept.cases.get(template.language, ()))
                lengths += [2 + len(template.text) // 4 + 2] * n_cases
                languages.add(template.language)
                n_train += n_cases * (template.split == concept.split == "train")
    if not lengths:
        raise InputError(f"no prompt is left of {', '.join(plan.behaviours)}", hint=f"Languages asked for: {', '.join(plan.languages)}.")
    return Amount(len(lengths), sum(lengths), max(lengths), len(languages), n_train / len(lengths), counted=False)


def _corpus_amount(plan: Plan, config: Any) -> Amount:
    """Return pieces and tokens of a corpus: a token is taken as 4 bytes of text where `corpus_tokens` does not say."""
    from ingest.corpus import CorpusConfig
    from ingest.corpus_files import CorpusFiles
    from ingest.corpus_source import EMBEDDED, embedded_documents

    n_bytes = (
        len(embedded_documents())
        if plan.corpus == EMBEDDED
        else sum(file.stat().st_size for file in CorpusFiles((Path(plan.corpus).expanduser(),)).files())
    )
    tokens = min(plan.corpus_tokens or n_bytes, max(n_bytes // 4, 1))
    length = min(CorpusConfig.context_length, getattr(config, "max_position_embeddings", 1 << 15))
    return Amount(max(1, tokens // length), tokens, length, len(plan.languages) or 2, 1.0, counted=False)


def _active(plan: Plan, shapes: Shapes, given: int | None) -> tuple[float, Literal["given", "measured", "TopK's k", "assumed"]]:
    from ingest.transcoder import TranscoderSet

    if given is not None:
        return float(given), "given"
    set_path = _local(plan.transcoders, "transcoders")
    opened = TranscoderSet.open(set_path, dtype=plan.dtype)
    if opened.files.k is not None:
        return float(opened.files.k), "TopK's k"
    model_path = _local(plan.model, "model")
    if plan.corpus or shapes.files > SMALL_MODEL or not any(model_path.glob("*.safetensors")):
        return float(ASSUMED_ACTIVE), "assumed"
    return _measured_active(plan, shapes, opened, model_path), "measured"


def _measured_active(plan: Plan, shapes: Shapes, transcoders: Any, model_path: Path) -> float:
    from ingest.batches import pad_right
    from ingest.job import tokenised
    from ingest.model import load_model
    from ingest.sources import Source

    model = load_model(model_path, dtype=plan.dtype)
    transcoders.bind(model, shapes.layers)
    prompts = tokenised(dataclasses.replace(plan, max_concepts=plan.max_concepts or 16), Source(model_path.name, model_path)).prompts
    captured = model.capture(*pad_right([prompt.token_ids for prompt in prompts[:: max(1, len(prompts) // 16)][:16]]))
    counts = [len(transcoders.encode_sparse(layer, captured.mlp_in[layer][captured.mask]).token) for layer in shapes.layers]
    return sum(counts) / (len(counts) * int(captured.mask.sum()))


# ---- stages -------------------------------------------------------------------------------------------------------


def _forward(found: Estimate, tokens: float) -> float:
    """Seconds of running tokens through all decoder layers."""
    shapes = found.shapes
    if found.rates.layer is not None:
        return tokens * shapes.n_layers * found.rates.layer
    return tokens * 2 * shapes.body / found.rates.matmul


def _logits(found: Estimate, rows: float) -> float:
    return rows * 2 * found.shapes.vocab_size * found.shapes.d_model / found.rates.matmul


def _encode(found: Estimate, tokens: float, layers: int | None = None) -> float:
    """Seconds of pre-activations of tokens in all analysed layers."""
    shapes = found.shapes
    return tokens * (len(shapes.layers) if layers is None else layers) * 2 * shapes.d_model * shapes.width / found.rates.matmul


def _resident(found: Estimate, layers: int) -> int:
    """Bytes of transcoder matrices on the device: all that are used, or what the budget allows (one matrix at least)."""
    from ingest.workshop import parse_bytes

    everything = 2 * layers * found.shapes.matrix
    budget = parse_bytes(found.plan.memory_budget)
    return everything if budget is None else min(everything, max(budget, found.shapes.matrix))


def _working(found: Estimate, tokens: int) -> int:
    """Bytes of a batch: dense pre-activations of a block (with their mask and indices), and a forward pass."""
    block = 1 << 22 if found.plan.device == "cpu" else 1 << 27
    batch = min(tokens, found.plan.batch_size * found.amount.longest)
    return block * (found.shapes.item + 1) + batch * found.shapes.d_model * found.shapes.item * (12 + 2 * found.shapes.n_layers)


def _stage(
    found: Estimate, name: str, seconds: float, *, rows: float = 0, stored: float = 0, layers: int = 0, host: float = 0, device: float = 0
) -> StageEstimate:
    shapes = found.shapes
    on_device = shapes.model_bytes + _resident(found, layers) + int(device) + _working(found, found.amount.tokens)
    on_host = int(host) + (1 << 29)
    if found.plan.device == "cpu":
        on_host += on_device
    return StageEstimate(name, seconds + stored / found.rates.write, int(rows), int(stored), on_device, on_host)


def _prompts(found: Estimate) -> StageEstimate:
    """Model and files are read once and hashed once."""
    rates, files = found.rates, found.shapes.files
    rows = found.amount.tokens + 2 * found.amount.prompts + len(found.shapes.layers)
    return _stage(found, "prompts", files / rates.read + files / rates.hashing, rows=rows, stored=rows * OTHER_BYTES)


def _baseline(found: Estimate) -> StageEstimate:
    amount = found.amount
    rows = 8 * amount.prompts
    return _stage(found, "baseline", _forward(found, amount.tokens) + _logits(found, amount.prompts), rows=rows, stored=rows * 14)


def _alive(found: Estimate) -> float:
    """Features of a layer that are active somewhere: at most all, and at most one a (token, active feature)."""
    return min(float(found.shapes.width), found.amount.tokens * found.active)


def _cards(found: Estimate) -> float:
    """Seconds of promoted tokens and of decoder cosines with five layers."""
    shapes, alive = found.shapes, _alive(found)
    products = alive * shapes.vocab_size + min(5, len(shapes.layers)) * alive * alive
    return len(shapes.layers) * 2 * shapes.d_model * products / found.rates.matmul


def _feature_rows(found: Estimate) -> tuple[float, float, float]:
    """Rows, bytes of Parquet and bytes of host memory of what is kept for each feature, if as many are active as can be."""
    shapes, alive = found.shapes, _alive(found) * len(found.shapes.layers)
    contexts, small = CONTEXTS * alive, (NEIGHBOURS + BINS + 3 * found.amount.languages) * alive
    features = float(shapes.width * len(shapes.layers))
    stored = features * FEATURE_BYTES + contexts * CONTEXT_BYTES + small * OTHER_BYTES
    return features + contexts + small, stored, features * 600 + contexts * 150 + small * 30


def _activations(found: Estimate) -> StageEstimate:
    """Encoding, then each layer replaced on up to 200 prompts a language, then the cards."""
    amount, shapes = found.amount, found.shapes
    active = amount.tokens * len(shapes.layers) * found.active
    checked = min(amount.tokens, 200 * amount.languages * amount.tokens / amount.prompts)
    seconds = _forward(found, amount.tokens) + _encode(found, amount.tokens)
    seconds += _forward(found, checked * (len(shapes.layers) + 1)) + 2 * _encode(found, checked) + _cards(found)
    seconds += 2 * len(shapes.layers) * shapes.matrix * max(1, amount.tokens >> 16) / found.rates.read
    rows, stored, kept = _feature_rows(found)
    # MLP inputs and outputs wait on the device for their encoder, up to 4 GiB; then the model runs again for the next layers.
    waiting = min(2 * len(shapes.layers) * amount.tokens * shapes.d_model * shapes.item, 1 << 32)
    at_once = max((len(shard.layers) for shard in found.shards if shard.kind == "activations"), default=len(shapes.layers))
    share = at_once / len(shapes.layers)
    # One shard's rows are in memory, or for co-activation the active features of all layers on at most 50,000 tokens.
    together = min(amount.tokens, 50_000) * len(shapes.layers) * found.active * 12 + active * share * 40
    host = max((active * ARROW_ROW + kept) * share, together)
    return _stage(
        found,
        "activations",
        seconds,
        rows=rows + active,
        stored=stored + active * found.rates.row_bytes,
        layers=len(shapes.layers),
        host=host,
        device=waiting + 2 * shapes.width * shapes.d_model * shapes.item,
    )


def _corpus(found: Estimate) -> StageEstimate:
    """One pass; buffers of fixed size a feature stay on the device, for all layers (20 strongest, 40 sampled, windows of 17)."""
    amount, shapes = found.amount, found.shapes
    chunks = max(1, amount.tokens >> 15)
    seconds = _forward(found, amount.tokens) + _encode(found, amount.tokens) + _cards(found)
    seconds += 2 * len(shapes.layers) * shapes.matrix * chunks / found.rates.read
    rows, stored, kept = _feature_rows(found)
    buffers = shapes.width * len(shapes.layers) * (60 * (17 * 4 + 20) + amount.languages * 40)
    waiting = 2 * len(shapes.layers) * min(amount.tokens, 1 << 15) * shapes.d_model * shapes.item
    files = shapes.files / found.rates.hashing
    return _stage(
        found, "corpus", seconds + files, rows=rows, stored=stored, layers=len(shapes.layers), host=kept, device=buffers + waiting
    )


def _graph(found: Estimate) -> StageEstimate:
    """Forward and backward over the train prompts (three forwards' worth), encoders, and weights of the chosen nodes."""
    amount, plan = found.amount, found.plan
    train = amount.tokens * amount.train
    rows = plan.graph_features * amount.train * amount.prompts * 0.6 + 4000 * amount.languages
    seconds = 3 * _forward(found, train) + _encode(found, train)
    return _stage(found, "graph", seconds, rows=rows, stored=rows * 6, layers=len(found.shapes.layers), host=rows * 200)


def _communities(found: Estimate) -> StageEstimate:
    return _stage(found, "communities", 2.0, rows=2 * found.plan.graph_features, stored=4000)


def _attribution(found: Estimate) -> StageEstimate:
    """Every active feature of a prompt is a target: hops of two products a layer, and one product with all earlier sources.

    Edges of the causal cone are a quarter of nodes squared, 4 bytes each (docs/attribution.md: 15,703 nodes, 57.7 million edges).
    """
    shapes, plan, amount = found.shapes, found.plan, found.amount
    if plan.attributed_prompts == 0 or shapes.set_layers < shapes.n_layers:
        return _stage(found, "attribution", 0.0)
    length = amount.tokens / amount.prompts
    nodes = (length - 1) * shapes.n_layers * found.active
    prompts = min(plan.attributed_prompts, amount.prompts * amount.train)
    hops = nodes * shapes.n_layers / 2 * length / 2 * 4 * shapes.d_model**2
    products = nodes * nodes / 2 * 2 * shapes.d_model
    seconds = prompts * ((hops + products) / found.rates.matmul) + _forward(found, prompts * length)
    seconds += _encode(found, prompts * length, shapes.n_layers)
    return _stage(
        found,
        "attribution",
        seconds,
        rows=4000 * (2 + amount.languages + prompts / 4),
        stored=4000 * (2 + amount.languages + prompts / 4) * 10,
        layers=shapes.n_layers,
        device=2 * nodes * shapes.d_model * shapes.item + nodes * nodes,
        host=nodes * nodes,
    )


def _interventions(found: Estimate) -> StageEstimate:
    """Rows of the battery: every active feature at the decision position alone; sets, pairs and injections with their controls.

    A row runs from its layer on (half of them, on average): one position where the decision is edited, all positions for sets.
    """
    plan, amount, shapes = found.plan, found.amount, found.shapes
    prompts = min(plan.edited_prompts, amount.prompts)
    length = amount.tokens / amount.prompts
    controls, twice = plan.control_draws + 4, 2 * plan.control_draws + 4  # headline sets are drawn raw and at their own length
    singles = prompts * found.active * len(shapes.layers)
    sets = prompts / 2 * (controls + twice + len(plan.steering))
    pairs = prompts * controls
    injected = plan.transfer_concepts * max(plan.transfer_concepts - 1, 0) * 2 * max(amount.languages, 1) * twice
    at_decision, everywhere = singles + pairs, sets + injected
    seconds = _forward(found, (at_decision + everywhere * length) / 2) + _logits(found, at_decision + everywhere)
    seconds += _encode(found, prompts * length)
    rows = sets + pairs + injected + plan.ablated_features * prompts / 2
    clean = min(1 << 31, prompts * length * shapes.n_layers * shapes.d_model * 6 * shapes.item)
    return _stage(
        found, "interventions", seconds, rows=rows, stored=rows * OUTCOME_BYTES, layers=len(shapes.layers), host=rows * 300, device=clean
    )


def _circuits(found: Estimate) -> StageEstimate:
    """Dense replacement runs: every layer is encoded and decoded again for each circuit, variant and prompt; and the battery once more."""
    plan, amount, shapes = found.plan, found.amount, found.shapes
    prompts = 2 * min(plan.circuit_prompts, amount.prompts)
    length = amount.tokens / amount.prompts
    circuits = 9 + plan.random_circuits + 8 * 6 + 12
    tokens = prompts * length * circuits
    seconds = _forward(found, tokens) + 2 * _encode(found, tokens) + 0.5 * _interventions(found).seconds
    rows = 300 * amount.languages + plan.random_circuits * plan.graph_features * 2
    return _stage(found, "circuits", seconds, rows=rows, stored=rows * 8, layers=len(shapes.layers), host=rows * 300, device=1 << 30)


STAGES = {
    "corpus": _corpus,
    "prompts": _prompts,
    "baseline": _baseline,
    "activations": _activations,
    "graph": _graph,
    "communities": _communities,
    "attribution": _attribution,
    "interventions": _interventions,
    "circuits": _circuits,
}


def size(n: float) -> str:
    """Write bytes for people, in powers of 1000 as --memory-budget reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f}{unit}" if unit == "B" or n >= 100 else f"{n:.1f}{unit}"
        n /= 1000
    return f"{n:.1f}TB"


def duration(seconds: float) -> str:
    """Write seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} d"
