"""Activation extraction and the corpus pass: this project beside the obvious ways and the floor of the arithmetic, in one process.

In: sizes of a random-weight Qwen3 and its transcoders (default: a medium model on one CPU thread). Out: two tables on stdout.

Prompt set. All sides give the same: active (layer, feature, prompt, position, value), counts per language, the 20 strongest tokens.
  ours        `ingest.activations` without its quality check: one run of the model, active entries only leave the device.
  dense       one run of the model; layer by layer the dense activations are moved to the host and worked on there with NumPy.
  per layer   the same in a loop over layers, each with its own run of the model up to that layer's hook (the obvious script).
  floor       (2 D F layers + 2 parameters) FLOPs a token at the rate of a large matrix product, measured here.

Corpus. Both sides give the same counts per feature and the 20 strongest tokens; disk waits are not in the CPU time.
  ours        `ingest.corpus`: one pass, buffers of fixed size.
  store first every active entry is written to disk (feature, token, value; delphi's way), then read back and sorted per layer.

    python -m benchmarks.activations                 # medium model, one thread
    python -m benchmarks.activations --quick         # small sizes, seconds
    python -m benchmarks.activations --full-size     # Qwen3-4B's shape in bfloat16, one GPU with 80 GB (--layers 8: 24 GB)
"""

import argparse
import gc
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from ingest.activations import ActivationConfig, activations, cache_inputs, encode_rows
from ingest.batches import pad_right
from ingest.contexts import ContextConfig
from ingest.corpus import CorpusConfig, corpus_pass
from ingest.corpus_files import CorpusFiles
from ingest.model import LanguageModel, from_module
from ingest.prompts import Answer, Prompt, PromptSet
from ingest.quality import QualityConfig
from ingest.transcoder import TranscoderSet

T = TypeVar("T")
N_TOP = 20
LANGUAGES = ("en", "fr")


@dataclass(frozen=True)
class Sizes:
    """What is built and run."""

    layers: int = 8
    d_model: int = 256
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    features: int = 4096
    vocabulary: int = 2000
    active_share: float = 0.005
    """Share of features active at a token."""
    prompts: int = 200
    tokens: int = 16
    corpus_documents: int = 60
    corpus_tokens: int = 128
    batch_size: int = 64
    dtype: str = "float32"
    device: str = "cpu"


QUICK = Sizes(layers=3, d_model=64, heads=4, kv_heads=2, head_dim=32, features=1024, prompts=60, corpus_documents=20)
FULL = Sizes(
    layers=36, d_model=2560, heads=32, kv_heads=8, head_dim=128, features=163_840, vocabulary=151_936, active_share=0.0006,
    prompts=4096, corpus_documents=512, corpus_tokens=256, batch_size=256, dtype="bfloat16", device="cuda",
)  # fmt: skip


def build(sizes: Sizes, seed: int = 0) -> tuple[LanguageModel, TranscoderSet]:
    """Return a random-weight model with a tokenizer of numbers, and random ReLU transcoders with about `active_share` active."""
    torch.manual_seed(seed)
    dtype = getattr(torch, sizes.dtype)
    config = Qwen3Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.d_model,
        intermediate_size=9728 if sizes.d_model == 2560 else 3 * sizes.d_model,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=max(512, sizes.corpus_tokens),
        tie_word_embeddings=True,
        pad_token_id=None,
    )
    with torch.device(sizes.device):
        hf = Qwen3ForCausalLM(config).to(dtype)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, sizes.d_model**-0.5)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(sizes.vocabulary)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model = from_module(hf, PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0"), name="random Qwen3")
    bias = NormalDist().inv_cdf(sizes.active_share)  # pre-activations without bias are N(0, 1)
    weights: dict[int, dict[str, Tensor]] = {}
    for layer in range(sizes.layers):
        shape = (sizes.features, sizes.d_model)
        weights[layer] = {
            "W_enc": torch.randn(shape, dtype=dtype, device=sizes.device) * sizes.d_model**-0.5,
            "W_dec": torch.zeros(1, dtype=dtype, device=sizes.device).expand(shape),  # not read here: no memory for it
            "b_enc": torch.full((sizes.features,), bias, dtype=dtype, device=sizes.device),
            "b_dec": torch.zeros(sizes.d_model, dtype=dtype, device=sizes.device),
        }
    return model, TranscoderSet.from_weights(weights, dtype=sizes.dtype, device=sizes.device)


def make_prompts(sizes: Sizes, seed: int = 1) -> PromptSet:
    """Return prompts of random tokens in two languages."""
    drawn = np.random.default_rng(seed).integers(1, sizes.vocabulary, (sizes.prompts, sizes.tokens - 1))
    prompts = []
    for number, row in enumerate(drawn.tolist()):
        ids = (0, *row)
        prompts.append(
            Prompt(
                prompt=number,
                behaviour="random",
                prompt_hash=f"{number:016x}",
                language=LANGUAGES[number % 2],
                concept=str(number // 2),
                cluster=str(number // 2),
                template="random",
                split="train",
                held_out=None,
                text="",
                operand="",
                variant=None,
                token_ids=ids,
                tokens=tuple(f"w{token}" for token in ids),
                roles=("sink", *["template"] * (len(ids) - 2), "decision"),
                offsets=(None,) * len(ids),
                content_positions=(1,),
                answers=(Answer("correct", "w1", 1), Answer("contrast", "w2", 2)),
            )
        )
    return PromptSet((), tuple(prompts), ())


# ---- prompt set: the other sides --------------------------------------------------------------------------------------


def _host_work(dense: np.ndarray, prompt: np.ndarray, position: np.ndarray, language: np.ndarray) -> tuple[int, np.ndarray]:
    """Do on the host what ours does: rows, counts per language, strongest tokens; return the number of rows and the counts."""
    token, feature = np.nonzero(dense)
    rows = (feature.astype(np.int32), prompt[token], position[token], dense[token, feature])
    counted = position > 0
    counts = np.stack([(dense[counted & (language == i)] > 0).sum(0) for i in range(len(LANGUAGES))])
    for i in range(len(LANGUAGES)):
        own = dense[counted & (language == i)]
        own.sum(0), (own**2).sum(0), own.max(0)
    kept = dense[counted]
    best = np.argpartition(-kept, min(N_TOP, len(kept) - 1), axis=0)[:N_TOP]
    np.take_along_axis(kept, best, axis=0)
    return len(rows[0]), counts


def dense_on_host(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, sizes: Sizes, *, run_per_layer: bool
) -> tuple[int, np.ndarray]:
    """Move dense activations to the host, layer by layer; return the number of rows and counts (layers, languages, features)."""
    sequences = [entry.token_ids for entry in prompts.prompts]
    batches = [pad_right(sequences[start : start + sizes.batch_size]) for start in range(0, len(sequences), sizes.batch_size)]
    prompt = np.repeat(np.arange(len(sequences)), [len(row) for row in sequences])
    position = np.concatenate([np.arange(len(row)) for row in sequences])
    language = prompt % 2
    inputs: dict[int, list[Tensor]] = {layer: [] for layer in range(sizes.layers)}
    if not run_per_layer:
        for ids, mask in batches:
            captured = model.capture(ids, mask)
            for layer in inputs:
                inputs[layer].append(captured.mlp_in[layer][captured.mask])
    n_rows, counts = 0, []
    for layer in range(sizes.layers):
        if run_per_layer:
            for ids, mask in batches:
                captured = model.capture(ids, mask, layers=(layer,))
                inputs[layer].append(captured.mlp_in[layer][captured.mask])
        dense = np.concatenate([transcoders.encode(layer, x).float().cpu().numpy() for x in inputs.pop(layer)])
        found, own = _host_work(dense, prompt, position, language)
        n_rows += found
        counts.append(own)
    return n_rows, np.stack(counts)


def matrix_product_rate(sizes: Sizes) -> float:
    """Return FLOPs a second of a matrix product of the encoder's shape."""
    n = 4096 if sizes.device == "cuda" else 1024
    dtype = getattr(torch, sizes.dtype)
    x = torch.randn(n, sizes.d_model, dtype=dtype, device=sizes.device)
    w = torch.randn(min(sizes.features, 32_768), sizes.d_model, dtype=dtype, device=sizes.device)
    seconds = min(timed(lambda: x @ w.T, sizes)[0] for _ in range(8))
    return 2.0 * n * w.shape[0] * w.shape[1] / seconds


def timed(work: Callable[[], T], sizes: Sizes) -> tuple[float, T]:
    """Return seconds and the result: of the process's own CPU time on a CPU (others may be using it), of the clock on a GPU."""
    gc.collect()
    on_gpu = sizes.device == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start, result


def prompt_set(model: LanguageModel, transcoders: TranscoderSet, sizes: Sizes, compare: bool) -> list[dict[str, object]]:
    """Run all sides on a prompt set; refuse to report when they disagree."""
    prompts = make_prompts(sizes)
    n_tokens = sizes.prompts * sizes.tokens
    parameters = sum(p.numel() for p in model.hf.parameters()) - model.unembedding.numel()
    flops = (2.0 * sizes.d_model * sizes.features * sizes.layers + 2.0 * parameters) * n_tokens
    floor = flops / matrix_product_rate(sizes)
    contexts = ContextConfig(n_top=N_TOP, per_decile=0, n_silent=0, window=0)
    quality = QualityConfig(replacement=False, reconstruction=False)
    config = ActivationConfig(batch_size=sizes.batch_size, contexts=contexts, quality=quality)
    activations(model, transcoders, make_prompts(replace(sizes, prompts=8)), config)  # warm up
    sequences = [entry.token_ids for entry in prompts.prompts]

    def extract() -> int:
        cached = cache_inputs(
            model,
            sequences,
            range(sizes.layers),
            batch_size=sizes.batch_size,
            cache_device=None,
            names=[""] * len(sequences),
            outputs=False,
        )
        return sum(len(encode_rows(transcoders, layer, cached.mlp_in[layer], config.max_elements)) for layer in range(sizes.layers))

    extraction, n_rows = timed(extract, sizes)
    seconds, tables = timed(lambda: activations(model, transcoders, prompts, config), sizes)
    rows: list[dict[str, object]] = [
        {"side": "ours, active rows on the device", "seconds": extraction, "rows": n_rows},
        {"side": "ours, all tables", "seconds": seconds, "rows": tables["activation"].num_rows},
        {"side": "floor of the arithmetic", "seconds": floor, "rows": None},
    ]
    if compare:
        for name, per_layer in (("dense to the host, one model run", False), ("dense to the host, a model run a layer", True)):
            work = partial(dense_on_host, model, transcoders, prompts, sizes, run_per_layer=per_layer)
            spent, (found, counts) = timed(work, sizes)
            rows.append({"side": name, "seconds": spent, "rows": found})
            ours = tables["feature_language"]
            total = int(np.sum(ours["n_active"].to_numpy()))
            if abs(found - tables["activation"].num_rows) > 1e-4 * found or abs(total - int(counts.sum())) > 1e-4 * total:
                raise SystemExit(f"the sides disagree: {found} and {tables['activation'].num_rows} rows, {counts.sum()} and {total} counts")
    return rows


# ---- corpus -----------------------------------------------------------------------------------------------------------


def make_corpus(folder: Path, sizes: Sizes) -> CorpusFiles:
    """Write documents of random words."""
    drawn = np.random.default_rng(3).integers(1, sizes.vocabulary, (sizes.corpus_documents, sizes.corpus_tokens - 1))
    lines = [json.dumps({"language": LANGUAGES[n % 2], "text": " ".join(f"w{t}" for t in row)}) for n, row in enumerate(drawn.tolist())]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    return CorpusFiles((folder / "corpus.jsonl",))


def store_first(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, sizes: Sizes, folder: Path) -> tuple[int, int]:
    """Write every active entry, then count and rank per layer; return active entries (sinks left out) and bytes written."""
    parts: dict[int, list[Path]] = {layer: [] for layer in range(sizes.layers)}
    n_bytes, batch, first = 0, [], 0
    documents = [(0, *(int(word[1:]) for word in document.text.split())) for document in files.documents()]
    for start in range(0, len(documents), sizes.batch_size):
        batch = documents[start : start + sizes.batch_size]
        captured = model.capture(*pad_right(batch))
        for layer in parts:
            sparse = transcoders.encode_sparse(layer, captured.mlp_in[layer][captured.mask])
            path = folder / f"{layer}_{start}.npz"
            np.savez(
                path,
                feature=sparse.feature.int().cpu().numpy(),
                token=(sparse.token + first).int().cpu().numpy(),
                value=sparse.value.float().cpu().numpy(),
            )
            n_bytes += path.stat().st_size
            parts[layer].append(path)
        first += sum(map(len, batch))
    position = np.concatenate([np.arange(len(row)) for row in documents])
    language = np.concatenate([np.full(len(row), n % 2) for n, row in enumerate(documents)])
    n_active = 0
    for paths in parts.values():
        loaded = [np.load(path) for path in paths]
        feature, token, value = (np.concatenate([part[name] for part in loaded]) for name in ("feature", "token", "value"))
        keep = position[token] > 0
        feature, token, value = feature[keep], token[keep], value[keep]
        counts = np.bincount(language[token] * sizes.features + feature, minlength=2 * sizes.features)
        np.bincount(language[token] * sizes.features + feature, value.astype(np.float64), 2 * sizes.features)
        order = np.lexsort((-value, feature))
        starts = np.searchsorted(feature[order], np.arange(sizes.features))
        rank = np.arange(len(order)) - starts[feature[order]]
        order = order[rank < N_TOP]
        n_active += int(counts.sum())
    return n_active, n_bytes


def corpus(model: LanguageModel, transcoders: TranscoderSet, sizes: Sizes) -> list[dict[str, object]]:
    """Run both sides on a corpus; refuse to report when they disagree."""
    config = CorpusConfig(
        context_length=sizes.corpus_tokens, random_documents=0, n_top=N_TOP, n_reservoir=1, n_silent=0, window=0, quality=False,
        batch_size=sizes.batch_size,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_corpus(folder, sizes)
        seconds, tables = timed(lambda: corpus_pass(model, transcoders, files, config), sizes)
        spent, (n_active, n_bytes) = timed(lambda: store_first(model, transcoders, files, sizes, folder), sizes)
    ours = int(np.sum(tables["feature"]["n_active"].to_numpy()))
    if abs(ours - n_active) > 1e-4 * n_active:
        raise SystemExit(f"the sides disagree: {ours} and {n_active} active tokens")
    buffers = sizes.layers * sizes.features * ((N_TOP + 1) * (8 + 4 + 8 + 4))
    return [
        {"side": "ours, one pass", "seconds": seconds, "rows": ours, "bytes": buffers},
        {"side": "store all activations first", "seconds": spent, "rows": n_active, "bytes": n_bytes},
    ]


def print_table(title: str, rows: list[dict[str, object]], n_tokens: int) -> None:
    """Print one table as Markdown."""
    print(f"\n{title}\n")
    print("| side | seconds | tokens/s | against ours | active entries | bytes kept |")
    print("|---|---|---|---|---|---|")
    reference = next(row["seconds"] for row in rows if str(row["side"]).startswith("ours, all") or str(row["side"]) == "ours, one pass")
    for row in rows:
        spent = float(str(row["seconds"]))
        ratio = spent / float(str(reference))
        entries, kept = (f"{row[name]:,}" if row.get(name) is not None else "" for name in ("rows", "bytes"))
        print(f"| {row['side']} | {spent:.3g} | {n_tokens / spent:,.0f} | {ratio:.2f} | {entries} | {kept} |")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument("--full-size", action="store_true", help="Qwen3-4B's shape in bfloat16 on one GPU")
    parser.add_argument("--layers", type=int, help="another number of layers")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--no-dense", action="store_true", help="leave the sides with dense activations on the host out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = QUICK if arguments.quick else FULL if arguments.full_size else Sizes()
    if arguments.layers:
        sizes = replace(sizes, layers=arguments.layers)
    if sizes.device == "cuda" and not torch.cuda.is_available():
        parser.error("--full-size needs a GPU with 80 GB (or --layers 8 with 24 GB); none is here")
    model, transcoders = build(sizes)
    machine = (
        torch.cuda.get_device_name()
        if sizes.device == "cuda"
        else f"{platform.processor() or platform.machine()}, {arguments.threads} thread"
    )
    print(f"{machine}; torch {torch.__version__}; {sizes}")
    rate = matrix_product_rate(sizes)
    print(f"matrix product: {rate / 1e9:,.1f} GFLOP/s")
    rows = prompt_set(model, transcoders, sizes, compare=not arguments.no_dense)
    print_table(f"Prompt set: {sizes.prompts} prompts of {sizes.tokens} tokens", rows, sizes.prompts * sizes.tokens)
    print(f"\nextraction reaches {float(str(rows[2]['seconds'])) / float(str(rows[0]['seconds'])):.0%} of the floor's rate")
    rows = corpus(model, transcoders, sizes)
    print_table(
        f"Corpus: {sizes.corpus_documents} documents of {sizes.corpus_tokens} tokens", rows, sizes.corpus_documents * sizes.corpus_tokens
    )
    kept, stored = (float(str(row["bytes"])) for row in rows)
    a_token = stored / (sizes.corpus_documents * sizes.corpus_tokens)
    print(f"\nstoring takes {a_token:,.0f} bytes a token; the buffers, of fixed size, are those of {kept / a_token:,.0f} tokens")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
