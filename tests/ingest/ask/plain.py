"""The embedded model by plain transformers, its dictionary by safetensors, and steering as a hand-written loop with hooks.

Nothing here comes from `ingest`, except where its files lie.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ingest.tiny import paths

Target = Callable[[Mapping[tuple[int, int], float]], Mapping[tuple[int, int], float]]
"""Clean activations of the changed features at a position -> the absolute values they get there."""


@cache
def model() -> Any:
    """The model as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(paths.model_path("bilingual"), dtype=torch.float32).eval()


@cache
def tokenizer() -> Any:
    """Its tokenizer."""
    return AutoTokenizer.from_pretrained(paths.model_path("bilingual"))


@cache
def weights(layer: int) -> Mapping[str, Tensor]:
    """The dictionary of a layer, as it lies on disk."""
    return {name: value.float() for name, value in load_file(paths.transcoder_path("bilingual") / f"layer_{layer}.safetensors").items()}


def activation(layer: int, feature: int, x: Tensor) -> Tensor:
    """Activation of a feature (ReLU) of MLP inputs (..., D)."""
    own = weights(layer)
    return torch.relu(x @ own["W_enc"][feature] + own["b_enc"][feature])


def activations(layer: int, x: Tensor) -> list[float]:
    """Activations (F) of a whole layer of an MLP input (D)."""
    own = weights(layer)
    values: list[float] = torch.relu(x @ own["W_enc"].T + own["b_enc"]).tolist()
    return values


@torch.no_grad()
def mlp_inputs(ids: Sequence[int], layers: Sequence[int]) -> dict[int, Tensor]:
    """What the MLPs of some layers read in an unedited run, (T, D)."""
    seen: dict[int, Tensor] = {}
    handles = [
        model().model.layers[layer].mlp.register_forward_pre_hook(lambda _m, args, layer=layer: seen.__setitem__(layer, args[0][0]))
        for layer in layers
    ]
    model()(input_ids=torch.tensor([list(ids)]), use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@contextmanager
def steering(ids: Sequence[int], features: Sequence[tuple[int, int]], target: Target, positions: Sequence[int]) -> Iterator[None]:
    """Hooks that give features absolute values at positions of one sequence: (a' - a) W_dec on the MLP output."""
    layers = sorted({layer for layer, _ in features})
    clean = mlp_inputs(ids, layers)
    handles = []
    for layer in layers:

        def hook(_module: Any, args: tuple[Tensor, ...], output: Tensor, layer: int = layer) -> Tensor:
            output = output.clone()
            for position in positions:
                values = target({(a, b): float(activation(a, b, clean[a][position])) for a, b in features})
                for own, feature in features:
                    if own == layer:
                        now = activation(layer, feature, args[0][0, position])
                        output[0, position] += (values[own, feature] - now) * weights(layer)["W_dec"][feature]
            return output

        handles.append(model().model.layers[layer].mlp.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def next_logits(ids: Sequence[int]) -> Tensor:
    """Logits (V,) after a sequence."""
    logits: Tensor = model()(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    return logits


def steered_greedily(
    prompt: Sequence[int], features: Sequence[tuple[int, int]], target: Target, covers: Callable[[int], bool], n_new: int
) -> tuple[list[int], list[float]]:
    """Write on greedily, the whole sequence anew for every token; return new tokens and their log-probabilities."""
    ids, logprobs = list(prompt), []
    for _ in range(n_new):
        with steering(ids, features, target, [position for position in range(len(ids)) if covers(position)]):
            logprob = torch.log_softmax(next_logits(ids), dim=0)
        token = int(logprob.argmax())
        ids.append(token)
        logprobs.append(float(logprob[token]))
        if token == tokenizer().eos_token_id:
            break
    return ids[len(prompt) :], logprobs
