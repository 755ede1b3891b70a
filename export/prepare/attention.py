"""Attention as ONNX Runtime's optimiser fuses it, written out: two products and a Softmax.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..autodiff.ops import Ops
from ..graph.values import attribute
from .forms import Inputs, form, optional, rank, refuse


@form("Attention")
def attention(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """q, k, v = x w + b, of heads; Y = softmax(scale q k^T + mask + bias) v.

    Inputs x [N,S,I], w [I, 3H], bias, mask, past, bias of the scores.
    """
    x, w, bias, mask, past, scores_bias, _ = optional(inputs, 7)
    if past is not None or attribute(node, "do_rotary", 0):
        refuse(node, "has a past or rotary positions, which an image classifier has not")
    together = op.MatMul(x, w)
    together = together if bias is None else op.Add(together, bias)
    return [_of_heads(op, node, together, mask, scores_bias), None]


@form("QAttention")
def quantised_attention(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """The same of x and w in 8 bits; scales and zero points follow, the bias is in floats."""
    x, w, bias, x_scale, w_scale, mask, x_zero, w_zero, past = optional(inputs, 9)
    if past is not None or attribute(node, "do_rotary", 0):
        refuse(node, "has a past or rotary positions, which an image classifier has not")
    product = op.MatMul(
        op.DequantizeLinear(x, x_scale, x_zero), op.DequantizeLinear(w, w_scale, w_zero, axis=-1)
    )
    return [_of_heads(op, node, op.Add(product, bias), mask, None), None]


def _of_heads(
    op: Ops, node: ir.Node, together: ir.Value, mask: ir.Value | None, bias: ir.Value | None
) -> ir.Value:
    """Attention of q, k and v [N,S,3H], one behind the other."""
    sizes = attribute(node, "qkv_hidden_sizes")
    if sizes:
        parts = op.Split(together, list(sizes), axis=-1, outputs=3)
    else:
        parts = op.Split(together, axis=-1, num_outputs=3, outputs=3)
    heads = attribute(node, "num_heads")
    q, k, v = (_split(op, part, heads) for part in parts)
    return _attend(op, node, q, k, v, mask, bias)


@form("MultiHeadAttention")
def multi_head_attention(op: Ops, node: ir.Node, inputs: Inputs) -> list[ir.Value | None]:
    """Attention of q [N,S,H], k [N,T,H] and v [N,T,V], projected already; a bias [2H + V].

    q alone may hold all three, [N,S,heads,3,size], k both, [N,T,heads,2,size]; k and v may be
    split into heads, [N,heads,T,size].
    """
    q, k, v, bias, mask, scores_bias, *others = optional(inputs, 10)
    if any(x is not None for x in others):
        refuse(node, "has a past, which an image classifier has not")
    heads, axes = attribute(node, "num_heads"), [rank(x) if x is not None else 0 for x in (q, k, v)]
    if bias is not None and axes != [3, 3, 3]:
        refuse(node, "has a bias for q, k and v that are split into heads")
    if bias is not None:
        biases = op.Split(bias, _lengths(node, bias, k, v), axis=0, outputs=3)
        q, k, v = (op.Add(x, b) for x, b in zip((q, k, v), biases, strict=True))
    if axes[0] == 5:
        q, k, v = _unpacked(op, q, 3)
    elif axes[1] == 5:
        q, (k, v) = _split(op, q, heads), _unpacked(op, k, 2)
    else:
        q = _split(op, q, heads)
        k, v = (
            x if n == 4 else _split(op, x, heads) for x, n in zip((k, v), axes[1:], strict=True)
        )
    return [_attend(op, node, q, k, v, mask, scores_bias), None, None, None]


def _lengths(node: ir.Node, bias: Any, k: Any, v: Any) -> list[int]:
    """The parts of a bias for q, k and v; equal unless v is of another width."""
    total, wide = (x.shape[-1] if x.shape is not None else None for x in (bias, v))
    if not isinstance(total, int):
        refuse(node, "has a bias of unknown length")
    value = wide if isinstance(wide, int) else total // 3
    return [(total - value) // 2, (total - value) // 2, value]


def _split(op: Ops, x: Any, heads: int) -> ir.Value:
    """[N,S,heads size] -> [N,heads,S,size]."""
    return op.Transpose(op.Reshape(x, [0, 0, heads, -1]), perm=[0, 2, 1, 3])


def _unpacked(op: Ops, x: Any, parts: int) -> list[ir.Value]:
    """[N,S,heads,parts,size] -> parts of [N,heads,S,size]."""
    cut = op.Split(op.Transpose(x, perm=[0, 2, 3, 1, 4]), axis=2, num_outputs=parts, outputs=parts)
    return [op.Squeeze(one, [2]) for one in cut]


def _attend(
    op: Ops, node: ir.Node, q: Any, k: Any, v: Any, mask: ir.Value | None, bias: ir.Value | None
) -> ir.Value:
    """[N,heads,S,size] each -> [N,S,heads size].

    A mask is 0 where nothing may be seen, [N,T], [N,S,T] or [N,1,S,T]: there ``mask_filter_value``
    is added to the scores.
    """
    if attribute(node, "unidirectional", 0):
        refuse(node, "sees only what came before, which an image classifier does not")
    scale = attribute(node, "scale", 0.0)
    if scale:
        scores = op.Mul(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), float(scale))
    else:
        size = op.Cast(op.Shape(k, start=3), to=int(op.dtype))
        scores = op.Div(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), op.Sqrt(size))
    if mask is not None:
        axes = rank(mask)
        if axes == 1:
            refuse(node, "takes its mask as lengths, for texts")
        seen = op.Cast(op.Greater(mask, op.Cast(0.0, to=int(mask.dtype or 6))), to=int(op.dtype))
        if axes < 4:
            seen = op.Unsqueeze(seen, [1, 2] if axes == 2 else [1])
        hidden = attribute(node, "mask_filter_value", -10000.0)
        scores = op.Add(scores, op.Mul(op.Sub(1.0, seen), float(hidden)))
    if bias is not None:
        scores = op.Add(scores, bias)
    y = op.MatMul(op.Softmax(scores, axis=-1), v)
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), [0, 0, -1])
