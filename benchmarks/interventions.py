"""Interventions per second: batches from the edited layer on, against one full forward pass with hooks per intervention.

    python benchmarks/interventions.py [--prompts 40] [--seconds 10] [--threads 1] [--circuit-tracer PATH [--circuit-tracer-python PYTHON]]

Runs on the embedded model and on a random-weight model of four times its size, with single-feature ablations of active features at the
decision and at content positions. "The obvious way" is plain transformers, one prompt, one hook per edited layer. Both sides do the same
interventions; their effects must agree to 1e-4 or the program fails. With --circuit-tracer, its `feature_intervention` is timed beside, in
a Python that has its dependencies: `python -m venv CT && CT/bin/pip install PATH`, then --circuit-tracer-python CT/bin/python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ingest.intervene.activity import activity
from ingest.intervene.edits import Edits
from ingest.intervene.engine import Engine
from ingest.model import LanguageModel, from_module, load_model
from ingest.prompts import Prompt, build_prompt_set, load_behaviour
from ingest.transcoder import TranscoderSet

ROOT = Path(__file__).parent.parent
EMBEDDED = ROOT / "ingest" / "tiny" / "data" / "bilingual"
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A model with its transcoders, prompts, and a plain copy of the model."""

    name: str
    model: LanguageModel
    transcoders: TranscoderSet
    folder: Path
    plain: Any
    prompts: list[Prompt]


def main() -> int:
    """Print one line per case; return 1 where effects disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40, help="prompts that are edited")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for the obvious way, per case")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--circuit-tracer", type=Path, default=None, help="a checkout of circuit-tracer, timed beside")
    parser.add_argument("--circuit-tracer-python", default=sys.executable, help="a Python with circuit-tracer's dependencies")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for case in (embedded(options.prompts), four_times(options.prompts, Path(folder))):
            worst = max(worst, compare(case, options.seconds))
            if options.circuit_tracer is not None:
                checkout, python = options.circuit_tracer, options.circuit_tracer_python
                worst = max(worst, time_circuit_tracer(case, checkout, python, options.seconds, options.threads, Path(folder)))
    if worst > TOLERANCE:
        print(f"effects differ by {worst:.2g}, more than {TOLERANCE:g}", file=sys.stderr)
        return 1
    return 0


def compare(case: Case, seconds: float) -> float:
    """Time both ways on the same interventions; return the largest difference of an effect."""
    engine = Engine(case.model, case.transcoders, case.prompts)
    start = time.perf_counter()
    edits = ablations(engine)
    ours = engine.run(edits)
    batch_seconds = time.perf_counter() - start
    order = np.random.default_rng(0).permutation(len(edits))
    weights = {
        layer: {name: tensor.float() for name, tensor in load_file(case.folder / f"layer_{layer}.safetensors").items()}
        for layer in case.transcoders.layers
    }
    before = [plain_margin(case.plain, prompt) for prompt in case.prompts]
    differences: list[float] = []
    start = time.perf_counter()
    for row in order.tolist():
        # Edits have one member a row, in order of rows.
        member = int(np.searchsorted(edits.row, row))
        prompt = case.prompts[int(edits.prompt[row])]
        after = hooked_margin(case, weights, prompt, int(edits.layer[member]), int(edits.position[member]), int(edits.feature[member]))
        differences.append(abs((after - before[int(edits.prompt[row])]) - float(ours.effect[row])))
        if time.perf_counter() - start > seconds:
            break
    obvious = len(differences) / (time.perf_counter() - start)
    batched = len(edits) / batch_seconds
    print(
        f"{case.name:>28}: {len(edits):>6} interventions in {batch_seconds:5.1f} s, clean pass and encoding included = {batched:8.0f} /s; "
        f"one forward pass each {obvious:6.0f} /s; {batched / obvious:5.1f} times; largest difference of {len(differences)} effects "
        f"{max(differences):.1g}"
    )
    return max(differences)


def ablations(engine: Engine) -> Edits:
    """Zero every active feature at the decision position and at the last content position, one a row."""
    clean = activity(engine)
    content = np.array([prompt.content_positions[-1] for prompt in engine.prompts])
    at = np.flatnonzero(clean.at_decision() | (clean.position == content[clean.prompt]))
    return Edits(clean.prompt[at], np.arange(len(at)), clean.layer[at], clean.position[at], clean.feature[at], np.zeros(len(at)))


def hooked_margin(
    case: Case, weights: dict[int, dict[str, torch.Tensor]], prompt: Prompt, layer: int, position: int, feature: int
) -> float:
    """The obvious way: one hook on one MLP, one full forward pass."""
    tensors = weights[layer]

    def hook(_module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        activation = torch.relu(inputs[0][0, position] @ tensors["W_enc"][feature] + tensors["b_enc"][feature])
        output[0, position] -= activation * tensors["W_dec"][feature]
        return output

    handle = case.plain.model.layers[layer].mlp.register_forward_hook(hook)
    try:
        return plain_margin(case.plain, prompt)
    finally:
        handle.remove()


@torch.no_grad()
def plain_margin(plain: Any, prompt: Prompt) -> float:
    """Return the margin from plain transformers."""
    logits = plain(torch.tensor([prompt.token_ids]), logits_to_keep=1).logits[0, -1]
    return float(logits[prompt.correct.token_id] - max(logits[answer.token_id] for answer in prompt.contrasts))


def embedded(n_prompts: int) -> Case:
    """The model that ships with the package."""
    model = load_model(EMBEDDED / "model")
    transcoders = TranscoderSet.open(EMBEDDED / "transcoders")
    plain = AutoModelForCausalLM.from_pretrained(EMBEDDED / "model", dtype=torch.float32).eval()
    return Case("embedded", model, transcoders, EMBEDDED / "transcoders", plain, chosen_prompts(model.tokenizer, n_prompts))


def four_times(n_prompts: int, folder: Path) -> Case:
    """Random weights of four times the parameters: twice the width, the same depth, a wider MLP; with random transcoders."""
    small = embedded(n_prompts)
    base = small.model.hf.config
    config = Qwen3Config(
        **{
            **base.to_dict(), "hidden_size": 2 * base.hidden_size, "intermediate_size": 9 * base.intermediate_size // 4,
            "num_attention_heads": 2 * base.num_attention_heads, "num_key_value_heads": 2 * base.num_key_value_heads,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    plain = Qwen3ForCausalLM(config).eval()
    copy = Qwen3ForCausalLM(config)
    copy.load_state_dict(plain.state_dict())
    generator = torch.Generator().manual_seed(1)
    width = config.hidden_size
    for layer in small.transcoders.layers:
        tensors = {
            "W_enc": torch.randn(1024, width, generator=generator) / width**0.5,
            "W_dec": torch.randn(1024, width, generator=generator) / width**0.5,
            "b_enc": torch.full((1024,), -2.0),
            "b_dec": torch.zeros(width),
        }
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    (folder / "config.yaml").write_text(
        "model_kind: transcoder_set\nmodel_name: random\nscan: random\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"
    )
    model = from_module(copy, small.model.tokenizer, name="random")
    ratio = sum(p.numel() for p in plain.parameters()) / sum(p.numel() for p in small.plain.parameters())
    return Case(f"random, {ratio:.1f} x parameters", model, TranscoderSet.open(folder), folder, plain, small.prompts)


def chosen_prompts(tokenizer: Any, n: int) -> list[Prompt]:
    """Return n antonym prompts, spread over the set."""
    prompts = build_prompt_set([load_behaviour("antonyms")], tokenizer, languages=("en", "fr"), max_concepts=24).prompts
    return [prompts[i] for i in np.linspace(0, len(prompts) - 1, n).round().astype(int).tolist()]


def time_circuit_tracer(case: Case, checkout: Path, python: str, seconds: float, threads: int, folder: Path) -> float:
    """Time circuit-tracer's `feature_intervention` on the same single ablations; return the largest difference of an effect.

    It runs in a Python of its own (`circuit_tracer_interventions.py`), since it wants a transformers older than this package's.
    """
    engine = Engine(case.model, case.transcoders, case.prompts)
    edits = ablations(engine)
    ours = engine.run(edits)
    model = folder / f"model of {case.name}"
    case.plain.save_pretrained(model)
    order = np.random.default_rng(0).permutation(len(edits)).tolist()
    columns = (edits.prompt, edits.layer, edits.position, edits.feature, ours.effect)
    work = {
        "model": str(model),
        "transcoders": {layer: str(case.folder / f"layer_{layer}.safetensors") for layer in case.transcoders.layers},
        "prompts": [
            {"tokens": p.token_ids, "correct": p.correct.token_id, "contrasts": [a.token_id for a in p.contrasts]} for p in case.prompts
        ],
        "ablations": [[number, *(column[row].item() for column in columns)] for number, row in enumerate(order)],
        "seconds": seconds,
        "threads": threads,
    }
    (folder / "case.json").write_text(json.dumps(work), encoding="utf-8")
    program = Path(__file__).with_name("circuit_tracer_interventions.py")
    done = subprocess.run([python, str(program), str(checkout), str(folder / "case.json")], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{'circuit-tracer':>28}: not timed: {last}")
        return 0.0
    told = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{'circuit-tracer':>28}: {told['n']} of the same interventions with feature_intervention, attention not frozen = "
        f"{told['n'] / told['seconds']:6.0f} /s; largest difference of an effect {told['difference']:.1g}"
    )
    return float(told["difference"])


if __name__ == "__main__":
    sys.exit(main())
