"""The frozen linear map of one prompt: attention patterns and norm denominators are constants.

In: a `LanguageModel` and one row of a `Captured` pass (METHODS section 4.2). Out: `FrozenPrompt`, which carries residual
vectors forward from one layer to the next and gradients backward, as matrix products without autograd.

With patterns and denominators fixed, attention layer l of a prompt is the linear map

    R[t] -> R[t] + sum over heads h, positions k <= t of P[h, t, k] O_h V_h R[k],

where every norm around it is folded in: a gain into V or O, a reciprocal denominator into P, LayerNorm's centring into
V. Three matrices a layer are left, used in both directions. What does not depend on the residual stream (biases, position
embeddings) is a constant path of its own. T positions of the prompt without padding, D = d_model, H heads, KV key-value
heads, d = head_dim, n vectors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.adapters import Norm, upcast
from ingest.model import LanguageModel
from ingest.taps import Captured

MOST_ELEMENTS = 1 << 26
"""Most numbers in an intermediate of the forward direction."""


@dataclass(frozen=True)
class FrozenAttention:
    """One attention layer with its norms folded in."""

    output: Tensor
    """(H, D, d): gradient of a head's mixed values for a gradient at the residual stream."""
    value: Tensor
    """(KV, d, D)."""
    pattern: Tensor
    """(H, T, T), rows are queries, with both norms' reciprocal denominators."""
    constant: Tensor
    """(T, D): what the layer adds whatever the residual stream is."""


@dataclass(frozen=True)
class FrozenRead:
    """The norm before an MLP, as its transcoder sees it."""

    norm: Norm
    r: Tensor
    """(T, 1) reciprocal denominators."""
    site: str

    def forward(self, residual: Tensor, *, bias: bool) -> Tensor:
        """Return what the transcoder reads (..., T, D) of a residual stream (..., T, D)."""
        if self.site == "residual":
            return residual
        return self.norm.forward(residual, self.r, gain=self.site == "mlp_in", bias=bias)

    def backward(self, gradient: Tensor, position: int | slice | Tensor) -> Tensor:
        """Return the residual's gradient of a gradient at what the transcoder reads, (..., D) at `position`."""
        if self.site == "residual":
            return gradient
        return self.norm.backward(gradient, self.r[position], gain=self.site == "mlp_in")


class FrozenPrompt:
    """Attention, MLP norms and final norm of one prompt, frozen."""

    def __init__(self, model: LanguageModel, captured: Captured, row: int) -> None:
        keep = captured.mask[row]
        self.tokens = captured.tokens[row][keep]
        self.n_positions = len(self.tokens)
        self.n_layers = model.n_layers
        self.embeddings = upcast(captured.embeddings[row][keep])
        self.token_vectors = upcast(model.token_vectors(self.tokens))

        def denominators(path: str, layer: int) -> Tensor:
            return upcast(captured.denominators[(path, layer)][row][keep])

        self.attention: list[FrozenAttention] = []
        self.read: list[FrozenRead] = []
        for layer in range(model.n_layers):
            before = model.norm(layer, "attention")
            assert before is not None
            after = model.norm(layer, "attention_post")
            adapter = model.adapter
            self.attention.append(
                _fold(
                    model,
                    layer,
                    upcast(captured.patterns[layer][row][:, keep][:, :, keep]),
                    (before, denominators(adapter.attention_norm, layer)),
                    None if after is None else (after, denominators(str(adapter.attention_post_norm), layer)),
                )
            )
            mlp_norm = model.norm(layer, "mlp")
            assert mlp_norm is not None
            self.read.append(FrozenRead(mlp_norm, denominators(adapter.mlp_norm, layer), model.read_site))
        self.final = FrozenRead(model.final_norm, denominators("final", model.n_layers), "mlp_in")

    # ---- forward ----------------------------------------------------------------------------------------------

    def attend(self, layer: int, residual: Tensor, *, constant: bool = False) -> Tensor:
        """Carry residual vectors (n, T, D) through an attention layer; with `constant`, its biases too."""
        frozen = self.attention[layer]
        n, positions, _ = residual.shape
        at_once = max(1, MOST_ELEMENTS // (positions * frozen.output.shape[0] * frozen.output.shape[2]))
        if n > at_once:
            return torch.cat([self.attend(layer, part, constant=constant) for part in torch.split(residual, at_once)])
        values = torch.einsum("ntd,ghd->gnth", residual, frozen.value)  # (KV, n, T, d)
        heads, groups = len(frozen.pattern), len(frozen.value)
        pattern = frozen.pattern.view(groups, heads // groups, 1, positions, positions)
        mixed = pattern @ values[:, None]  # (KV, H / KV, n, T, d)
        out = torch.einsum("hnte,hde->ntd", mixed.reshape(heads, n, positions, -1), frozen.output)
        out = residual + out
        return out + frozen.constant if constant else out

    # ---- backward ---------------------------------------------------------------------------------------------

    def first_hop(self, layer: int, gradient: Tensor, position: int, first: int) -> Tensor:
        """Carry gradients (n, D) at one position back through an attention layer to positions first..position.

        From a single position each head's map is one vector times a number per position: (Q, n, D) comes out for
        two small products, however many positions there are.
        """
        frozen = self.attention[layer]
        heads, groups = len(frozen.pattern), len(frozen.value)
        z = torch.einsum("nd,hde->hne", gradient, frozen.output)
        u = z.reshape(groups, heads // groups, *z.shape[1:]) @ frozen.value[:, None]  # (KV, H / KV, n, D)
        weights = frozen.pattern[:, position, first : position + 1].T  # (Q, H)
        out = (weights @ u.reshape(heads, -1)).view(-1, *gradient.shape)
        out[-1] += gradient
        return out

    def hop(self, layer: int, gradient: Tensor, first: int) -> Tensor:
        """Carry gradients (Q, n, D) at positions first..first + Q - 1 back through an attention layer."""
        frozen = self.attention[layer]
        heads, groups = len(frozen.pattern), len(frozen.value)
        span, n, width = gradient.shape
        cone = slice(first, first + span)
        flat = gradient.view(span * n, width)
        z = torch.einsum("md,hde->hme", flat, frozen.output)  # (H, Q n, d)
        pattern = frozen.pattern[:, cone, cone].transpose(1, 2)  # (H, K, Q)
        pattern = pattern.reshape(groups, heads // groups, span, span).transpose(1, 2)  # (KV, K, H / KV, Q)
        mixed = pattern.reshape(groups, span, -1) @ z.reshape(groups, heads // groups * span, -1)  # (KV, K, n d)
        mixed = mixed.view(groups, span * n, -1).transpose(0, 1).reshape(span * n, -1)  # (K n, KV d)
        out = torch.addmm(flat, mixed, frozen.value.reshape(-1, width))
        return out.view(span, n, width)


def _fold(
    model: LanguageModel,
    layer: int,
    pattern: Tensor,
    before: tuple[Norm, Tensor],
    after: tuple[Norm, Tensor] | None,
) -> FrozenAttention:
    """Fold the norm before attention and the one after it into projections and pattern; collect the constants."""
    parts = model.value_output(layer)
    value, output = upcast(parts.value), upcast(parts.output)  # (KV d, D), (D, H d)
    heads, groups, d, width = parts.n_heads, parts.n_kv_heads, parts.head_dim, model.d_model
    norm, r = before
    scaled = pattern * r.T  # one factor per key position

    # Constants in order: through the norm's bias and the value bias, mixed by the pattern, through the output.
    inner = torch.zeros(groups * d, dtype=pattern.dtype, device=pattern.device)
    if norm.bias is not None:
        inner = inner + value @ upcast(norm.bias)
    if parts.value_bias is not None:
        inner = inner + upcast(parts.value_bias)
    per_head = inner.view(groups, 1, d).expand(groups, heads // groups, d).reshape(heads, 1, d)
    value = value * norm.gain.to(value.dtype)
    value = value - value.mean(-1, keepdim=True) if norm.centred else value
    mixed = pattern.sum(-1, keepdim=True) * per_head  # (H, T, d)
    constant = mixed.transpose(0, 1).reshape(-1, heads * d) @ output.T
    constant = constant if parts.output_bias is None else constant + upcast(parts.output_bias)
    if after is not None:
        norm, r = after
        constant = norm.forward(constant, r, bias=True)
        output = norm.gain.to(output.dtype)[:, None] * (output - output.mean(0, keepdim=True) if norm.centred else output)
        scaled = scaled * r  # one factor per query position
    return FrozenAttention(
        output.view(width, heads, d).transpose(0, 1).contiguous(),
        value.view(groups, d, width).contiguous(),
        scaled.contiguous(),
        constant,
    )
