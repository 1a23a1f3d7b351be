"""Adapters: where a model family keeps what the analysis reads.

In: a transformers decoder. Out: an `Adapter`, a table of attribute paths, and `Norm` / `ValueOutput`, the linear
parts that attribution and virtual weights multiply with (METHODS sections 1 and 4).

A decoder layer of every supported family is, with optional parts in brackets,

    h = h + [attention_post_norm](attention(attention_norm(h)))
    h = h + [mlp_post_norm](mlp(mlp_norm(h)))

so that an adapter is the names of these modules, the convention of the norms' gain, and one function that reads the
value and output projections. To add a family, write one `Adapter(...)` and one `ValueOutput` reader and pass it to
`register`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import ModelError


@dataclass(frozen=True)
class ValueOutput:
    """The linear maps of one attention layer that stay when its pattern is a constant."""

    value: Tensor
    """(KV * head_dim, D) value projection, one block of rows per key-value head."""
    value_bias: Tensor | None
    """(KV * head_dim)."""
    output: Tensor
    """(D, H * head_dim) output projection, one block of columns per query head."""
    output_bias: Tensor | None
    """(D)."""
    n_heads: int
    n_kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Norm:
    """The linear part of a norm: `x -> centre(x) * r * gain + bias` with r the reciprocal denominator."""

    gain: Tensor
    """(D): the weight, or 1 + weight in the Gemma families."""
    bias: Tensor | None
    """(D), LayerNorm only."""
    centred: bool
    """LayerNorm takes the mean over D off first."""

    def forward(self, x: Tensor, r: Tensor, *, gain: bool = True, bias: bool = False) -> Tensor:
        """Apply the map to x (..., D) with r broadcastable to (..., 1)."""
        y = (x - x.mean(-1, keepdim=True) if self.centred else x) * r
        y = y * self.gain.to(y.dtype) if gain else y
        return y + self.bias.to(y.dtype) if bias and gain and self.bias is not None else y

    def backward(self, g: Tensor, r: Tensor, *, gain: bool = True) -> Tensor:
        """Apply the transposed map to g (..., D)."""
        y = (g * self.gain.to(g.dtype) if gain else g) * r
        return y - y.mean(-1, keepdim=True) if self.centred else y


def _rotary_value_output(attention: Any, config: Any) -> ValueOutput:
    """Read v_proj and o_proj of Llama-like attention (nn.Linear)."""
    head_dim = int(attention.head_dim)
    return ValueOutput(
        attention.v_proj.weight,
        attention.v_proj.bias,
        attention.o_proj.weight,
        attention.o_proj.bias,
        n_heads=attention.o_proj.weight.shape[1] // head_dim,
        n_kv_heads=attention.v_proj.weight.shape[0] // head_dim,
        head_dim=head_dim,
    )


def _gpt2_value_output(attention: Any, config: Any) -> ValueOutput:
    """Read the last third of c_attn and c_proj (Conv1D: weights are (in, out))."""
    d_model = int(config.hidden_size)
    heads = int(config.num_attention_heads)
    return ValueOutput(
        attention.c_attn.weight[:, 2 * d_model :].T,
        attention.c_attn.bias[2 * d_model :],
        attention.c_proj.weight.T,
        attention.c_proj.bias,
        n_heads=heads,
        n_kv_heads=heads,
        head_dim=d_model // heads,
    )


@dataclass(frozen=True)
class Adapter:
    """Names of the hook points of one family; paths are attribute paths, `layers` from the model, the rest from it."""

    family: str
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    embedding: str = "model.embed_tokens"
    attention_norm: str = "input_layernorm"
    attention: str = "self_attn"
    attention_post_norm: str | None = None
    mlp_norm: str = "post_attention_layernorm"
    """Its output is `mlp_in`, what a transcoder of this layer reads."""
    mlp: str = "mlp"
    mlp_post_norm: str | None = None
    """Its output, else that of `mlp`, is `mlp_out`, what a transcoder predicts and an edit changes."""
    gain_offset: float = 0.0
    """1 where the norm's gain is 1 + weight."""
    layer_norm: bool = False
    """LayerNorm (centred, with bias) instead of RMSNorm."""
    rounds_before_gain: bool = True
    """Whether the norm casts back to the model's dtype before the gain (Llama) or after it (Gemma)."""
    value_output: Callable[[Any, Any], ValueOutput] = _rotary_value_output

    def norm_paths(self) -> tuple[str, ...]:
        """Return the norms of a layer, in the order they run."""
        norms = (self.attention_norm, self.attention_post_norm, self.mlp_norm, self.mlp_post_norm)
        return tuple(path for path in norms if path is not None)

    def epsilon(self, module: nn.Module) -> float:
        """Return the norm's epsilon under whichever name its class has for it."""
        for name in ("variance_epsilon", "eps"):
            value = getattr(module, name, None)
            if value is not None:
                return float(value)
        raise ModelError(
            f"the norm {type(module).__name__} of family {self.family!r} has neither `variance_epsilon` nor `eps`",
            hint="write an adapter whose `epsilon` reads it (ingest/adapters.py)",
        )

    def linear_norm(self, module: nn.Module) -> Norm:
        """Return the linear part of one of the family's norms."""
        weight = getattr(module, "weight")  # noqa: B009 - nn.Module types attributes as Tensor | Module
        bias = getattr(module, "bias", None)
        gain = weight.detach() + self.gain_offset if self.gain_offset else weight.detach()
        return Norm(gain, None if bias is None else bias.detach(), centred=self.layer_norm)


_GEMMA = Adapter(
    "gemma3_text",
    attention_post_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
    gain_offset=1.0,
    rounds_before_gain=False,
)

ADAPTERS: dict[str, Adapter] = {
    "llama": Adapter("llama"),
    "qwen2": Adapter("qwen2"),
    "qwen3": Adapter("qwen3"),
    "qwen3_moe": Adapter("qwen3_moe"),
    "gemma2": replace(_GEMMA, family="gemma2"),
    "gemma3_text": _GEMMA,
    "gemma3": replace(
        _GEMMA,
        family="gemma3",
        layers="model.language_model.layers",
        final_norm="model.language_model.norm",
        embedding="model.language_model.embed_tokens",
    ),
    "gpt2": Adapter(
        "gpt2",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        embedding="transformer.wte",
        attention_norm="ln_1",
        attention="attn",
        mlp_norm="ln_2",
        layer_norm=True,
        value_output=_gpt2_value_output,
    ),
}
"""Adapter of each `model_type` of transformers."""


def adapter_for(model_type: str) -> Adapter:
    """Return the adapter of a transformers `model_type`.

    Raises ModelError for an unknown family, with the twenty lines to write.
    """
    if model_type in ADAPTERS:
        return ADAPTERS[model_type]
    raise ModelError(
        f"no adapter for model family {model_type!r}; known: {', '.join(sorted(ADAPTERS))}",
        hint=_HOW_TO.format(family=model_type),
    )


_HOW_TO = """Write one (about 20 lines) and register it before the model loads:
    from ingest.adapters import Adapter, register
    register(Adapter(
        family={family!r},                       # config.json's model_type
        layers="model.layers",                   # path of the ModuleList of decoder layers
        final_norm="model.norm",
        embedding="model.embed_tokens",
        attention_norm="input_layernorm",        # the norm before attention
        attention="self_attn",                   # must call transformers' attention interface
        attention_post_norm=None,                # the norm after attention, if there is one
        mlp_norm="post_attention_layernorm",     # its output is mlp_in
        mlp="mlp",                               # its output is mlp_out, unless
        mlp_post_norm=None,                      # a norm follows it
        gain_offset=0.0,                         # 1.0 where the gain is 1 + weight
        layer_norm=False,                        # True for LayerNorm with bias
        rounds_before_gain=True,
        # value_output=read,                     # def read(attention, config) -> ValueOutput, unless v_proj / o_proj
    ))
Then run the family's tests: pytest tests/ingest/test_model.py -k families."""


def register(adapter: Adapter) -> None:
    """Make a family known to `load_model`; a known one is replaced."""
    ADAPTERS[adapter.family] = adapter


@contextmanager
def registered(adapter: Adapter) -> Iterator[None]:
    """Make a family known inside a `with` block only."""
    before = ADAPTERS.get(adapter.family)
    register(adapter)
    try:
        yield
    finally:
        if before is None:
            del ADAPTERS[adapter.family]
        else:
            ADAPTERS[adapter.family] = before


def resolve(root: nn.Module, path: str, family: str) -> nn.Module:
    """Follow an attribute path; a missing part is named with the adapter it came from."""
    module: Any = root
    for part in path.split("."):
        if not hasattr(module, part):
            raise ModelError(
                f"the adapter {family!r} names {path!r}, but {type(module).__name__} has no {part!r}",
                hint="correct the adapter's paths (ingest/adapters.py) to this transformers class",
            )
        module = getattr(module, part)
    if not isinstance(module, nn.Module):
        raise ModelError(f"the adapter {family!r} names {path!r}, which is a {type(module).__name__}, not a module")
    return module


def upcast(x: Tensor) -> Tensor:
    """Return x in float32 at least: norms are computed there in every family."""
    return x if x.dtype == torch.float64 else x.float()
