"""Recurrent layers, their steps written out: no engine takes a loop.

The gates of all steps are computed again at once, because the layer's output holds every hidden
state; only what really depends on its neighbour in time is done step by step. Both directions of a
bidirectional layer go together, the second one turned round in time. Sequences [T,D,N,H]: steps,
directions, batch, hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import onnx_ir as ir

from ...runtime.errors import ModelError
from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, vjp
from ..graph.values import args, attribute, length


@vjp("LSTM", variadic=True)
def lstm(op: Ops, node: ir.Node, grads: Sequence[ir.Value | None]) -> Grads:
    """i, o, f = sigmoid, z = tanh of W x + R h' + b;  c = f c' + i z;  h = o tanh c.

    Backwards in time: dh = g + R^T da of the next step, dc = dh o (1 - tanh^2 c) + f dc of the next
    step, da = (dc z i (1 - i), dh tanh(c) o (1 - o), dc c' f (1 - f), dc i (1 - z^2)); then for all
    steps at once dx = W^T da.  https://onnx.ai/onnx/operators/onnx__LSTM.html
    """
    _check(node, ["Sigmoid", "Tanh", "Tanh"], plain=("clip", "input_forget", "layout"))
    _, w, r, _, _, _, c0, _ = _padded(node)
    steps = length(args(node)[0], 0)
    i, o, f, z = op.Split(_preactivation(op, node), axis=-1, num_outputs=4, outputs=4)
    i, o, f, z = op.Sigmoid(i), op.Sigmoid(o), op.Sigmoid(f), op.Tanh(z)
    cells = [_first(op, f, c0)]
    for kept, added in zip(_each(op, f, steps), _each(op, i * z, steps), strict=True):
        cells.append(kept * cells[-1] + added)
    t, before = op.Tanh(op.Concat(*cells[1:], axis=0)), op.Concat(*cells[:-1], axis=0)
    slopes = (z * i * (1 - i), t * o * (1 - o), before * f * (1 - f), i * (1 - z * z))
    slope = _each(op, op.Concat(*slopes, axis=-1), steps)
    through, forget = _each(op, o * (1 - t * t), steps), _each(op, f, steps)
    g, dh, dc = _upstream(op, node, grads, cells[0], steps)
    das: list[ir.Value] = []
    for k in reversed(range(steps)):
        dh = g[k] + dh
        dc = dh * through[k] + dc
        das.append(op.Concat(dc, dh, dc, dc, axis=-1) * slope[k])
        dh, dc = op.MatMul(das[-1], r), dc * forget[k]
    dx = op.MatMul(op.Concat(*das[::-1], axis=1), w)
    dx = op.ReduceSum(_turned(op, node, dx), [-3], keepdims=0)
    answer = [dx, None, None, None, None, op.Squeeze(dh, [1]), op.Squeeze(dc, [1])]
    return answer[: len(node.inputs)]


@vjp("GRU", variadic=True)
def gru(op: Ops, node: ir.Node, grads: Sequence[ir.Value | None]) -> Grads:
    """z, r = sigmoid of W x + R h' + b;  h = (1 - z) n + z h'.

    n = tanh(W x + r (R h' + b)), or tanh(W x + R (r h') + b) unless ``linear_before_reset``.
    Backwards in time: dh = g + dh' of the next step; da_z = dh (h' - n) z (1 - z),
    da_n = dh (1 - z) (1 - n^2), and da_r = da_n (R h' + b) r (1 - r), or (R^T da_n) h' r (1 - r);
    dh' = dh z + R^T of them. Then for all steps at once dx = W^T da.
    https://onnx.ai/onnx/operators/onnx__GRU.html
    """
    _check(node, ["Sigmoid", "Tanh"], plain=("clip", "layout"))
    _, w, matrix, _, _, _, _, _ = _padded(node)
    steps, linear = length(args(node)[0], 0), attribute(node, "linear_before_reset", 0)
    given, state, before = _parts(op, node)
    (wz, wr, wn), (sz, sr, sn) = (_gates(op, v, 3) for v in (given, state))
    z, r = op.Sigmoid(wz + sz), op.Sigmoid(wr + sr)
    towards_zr, towards_n = _rows(op, matrix, 2)
    if not linear:
        bias = sn - op.MatMul(before, op.Transpose(towards_n, perm=[0, 2, 1]))
        sn = op.MatMul(r * before, op.Transpose(towards_n, perm=[0, 2, 1])) + bias
    n = op.Tanh(wn + (r * sn if linear else sn))
    slope_n = (1 - z) * (1 - n * n)
    slope_r = r * (1 - r) * (slope_n * sn if linear else before)
    slopes = [_each(op, v, steps) for v in ((before - n) * z * (1 - z), slope_r, slope_n, z, r)]
    g, dh, _ = _upstream(op, node, grads, _first(op, z, None), steps)
    das: list[ir.Value] = []
    for k in reversed(range(steps)):
        by_z, by_r, by_n, kept, reset = (v[k] for v in slopes)
        dh = g[k] + dh
        dn = dh * by_n
        if linear:
            dr = dh * by_r
            through = op.MatMul(dn * reset, towards_n)
        else:
            into = op.MatMul(dn, towards_n)
            dr, through = into * by_r, into * reset
        gates = op.Concat(dh * by_z, dr, axis=-1)
        das.append(op.Concat(gates, dn, axis=-1))
        dh = dh * kept + op.MatMul(gates, towards_zr) + through
    return _answer(op, node, das, w, dh)


@vjp("RNN", variadic=True)
def rnn(op: Ops, node: ir.Node, grads: Sequence[ir.Value | None]) -> Grads:
    """H = f(a), a = W x + R h' + b, f tanh, ReLU or the sigmoid.

    Backwards in time: da = (g + R^T da of the next step) f'(a); dx = W^T da for all steps at once.
    At ReLU's kink nothing flows.  https://onnx.ai/onnx/operators/onnx__RNN.html
    """
    kinds = {str(a).lower() for a in attribute(node, "activations", ["Tanh"])}
    kind = kinds.pop() if len(kinds) == 1 and kinds <= set(_SLOPES) else "Tanh"
    _check(node, [kind], plain=("clip", "layout"))
    _, w, r, _, _, _, _, _ = _padded(node)
    steps = length(args(node)[0], 0)
    slopes = _each(op, _SLOPES[kind.lower()](op, _preactivation(op, node)), steps)
    g, dh, _ = _upstream(op, node, grads, _first(op, slopes[0], None), steps)
    das: list[ir.Value] = []
    for k in reversed(range(steps)):
        das.append((g[k] + dh) * slopes[k])
        dh = op.MatMul(das[-1], r)
    return _answer(op, node, das, w, dh)


def _tanh_slope(op: Ops, a: ir.Value) -> ir.Value:
    t = op.Tanh(a)
    return 1 - t * t


def _sigmoid_slope(op: Ops, a: ir.Value) -> ir.Value:
    s = op.Sigmoid(a)
    return s * (1 - s)


_SLOPES: dict[str, Callable[[Ops, ir.Value], ir.Value]] = {
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
    "relu": lambda op, a: op.Cast(op.Greater(a, 0.0), to=int(op.dtype)),
}


def _answer(
    op: Ops, node: ir.Node, das: list[ir.Value], w: ir.Value | None, dh: ir.Value
) -> list[ir.Value | None]:
    """The gradients of sequence and first state, of those of all gates, the last step's first."""
    joined = op.Concat(*das[::-1], axis=1) if len(das) > 1 else das[0]
    dx = op.ReduceSum(_turned(op, node, op.MatMul(joined, w)), [-3], keepdims=0)
    return [dx, None, None, None, None, op.Squeeze(dh, [1])][: len(node.inputs)]


def _gates(op: Ops, v: ir.Value, count: int) -> list[ir.Value]:
    return list(op.Split(v, axis=-1, num_outputs=count, outputs=count))


def _rows(op: Ops, matrix: ir.Value | None, first: int) -> list[ir.Value]:
    """R [D, 3H, H] of the first gates and of the last."""
    hidden = length(cast("ir.Value", matrix), 2)
    return list(op.Split(matrix, [first * hidden, hidden], axis=1, outputs=2))


def _preactivation(op: Ops, node: ir.Node) -> ir.Value:
    """W x + R h' + b of every gate at every step, h' being the step before's output."""
    given, state, _ = _parts(op, node)
    return given + state


def _parts(op: Ops, node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
    """W x + b and R h' + b of every gate at every step, and h', the step before's output."""
    x, w, r, b, _, h0, _, _ = _padded(node)
    y = node.outputs[0]
    y.name = y.name or f"{node.name}/Y"  # the layer may have been asked for its last state only
    hidden = _turned(op, node, y)
    before = op.Slice(hidden, [0], [-1], [0])
    before = op.Concat(_first(op, hidden, h0), before, axis=0)
    one = op.Unsqueeze(x, [1])
    both = attribute(node, "direction", "forward") == "bidirectional"
    inputs = _turned(op, node, op.Concat(one, one, axis=1) if both else one)
    given = op.MatMul(inputs, op.Transpose(w, perm=[0, 2, 1]))
    state = op.MatMul(before, op.Transpose(r, perm=[0, 2, 1]))
    if b is not None:
        bw, br = op.Split(op.Unsqueeze(b, [1]), axis=-1, num_outputs=2, outputs=2)
        given, state = given + bw, state + br
    return given, state, before


def _turned(op: Ops, node: ir.Node, v: ir.Value) -> ir.Value:
    """[..., T, D, N, H] with time reversed for what runs from the last step to the first."""

    def reverse(v: ir.Value) -> ir.Value:
        return op.Slice(v, [-1], [-(2**62)], [-4], [-1])

    direction = attribute(node, "direction", "forward")
    if direction == "bidirectional":
        onward, back = op.Split(v, axis=-3, num_outputs=2, outputs=2)
        return op.Concat(onward, reverse(back), axis=-3)
    return reverse(v) if direction == "reverse" else v


def _each(op: Ops, v: ir.Value, steps: int) -> list[ir.Value]:
    """[..., T, D, N, H] cut into its steps, of length 1."""
    return list(op.Split(v, [1] * steps, axis=-4, outputs=steps)) if steps > 1 else [v]


def _first(op: Ops, like: ir.Value, given: ir.Value | None) -> ir.Value:
    """The state before the first step, [1, D, N, H]: zero unless it is given."""
    if given is not None:
        return op.Unsqueeze(given, [0])
    return op.Expand(0.0, op.Shape(op.Slice(like, [0], [1], [0])))


def _upstream(
    op: Ops, node: ir.Node, grads: Sequence[ir.Value | None], like: ir.Value, steps: int
) -> tuple[list[ir.Value], ir.Value, ir.Value]:
    """The gradients of each step's output, and of the last hidden and cell state."""
    nothing = op.full(0.0, like)
    last = [nothing if g is None else op.Unsqueeze(g, [1]) for g in (*grads[1:], None, None)[:2]]
    if grads[0] is None:
        return [nothing] * steps, last[0], last[1]
    return _each(op, _turned(op, node, grads[0]), steps), last[0], last[1]


def _padded(node: ir.Node) -> list[ir.Value | None]:
    return [*node.inputs, *[None] * (8 - len(node.inputs))]


def _check(node: ir.Node, activations: list[str], plain: Sequence[str]) -> None:
    """Refuse what no exporter writes: other activations, clipping, peepholes, ragged sequences."""
    found = [a.lower() for a in attribute(node, "activations", activations)]
    usual = [a.lower() for a in activations] * (len(found) // len(activations))
    inputs = _padded(node)
    if found != usual or any(attribute(node, a, 0) for a in plain) or inputs[4] or inputs[7]:
        raise ModelError(
            f"{node.op_type} {node.name!r} has activations, sequence lengths, peepholes or "
            f"{', '.join(plain)} of its own, which have no backward rule.",
            "export the layer in its usual form, steps first.",
        )
