"""Matrix and tensor products."""

from __future__ import annotations

import string

import numpy as np
import onnx_ir as ir

from ..autodiff.adjoints import own
from ..autodiff.ops import Ops
from ..autodiff.registry import Grads, vjp
from ..graph.values import Shape, args, attribute, not_constant, shape_of


@vjp("Gemm")
def gemm(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Y = alpha A' B' + beta C: dA' = alpha g B'^T, dB' = alpha A'^T g, dC = beta g.

    https://onnx.ai/onnx/operators/onnx__Gemm.html
    """
    (a, b, *c), y = args(node), node.outputs[0]
    trans_a, trans_b = attribute(node, "transA", 0), attribute(node, "transB", 0)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if trans_a:
        da = op.MatMul(_transposed(op, b, 2, bool(trans_b)), _transposed(op, g, 3)) * alpha
    else:  # Gemm's transB instead of a Transpose: the weights are stored and read once
        weights, gf = own(op, b, op.fold(g, y))
        da = op.Gemm(gf, weights, alpha=alpha, transB=1 - trans_b)
        da = op.unfold(da, a)
    if trans_b:
        db = op.MatMul(_transposed(op, g, 3), _transposed(op, a, 2, bool(trans_a))) * alpha
    else:
        db = op.MatMul(_transposed(op, a, 2, not trans_a), g) * alpha
    return [da, db, *(op.sum_to(g * beta, shape_of(y), shape_of(v)) for v in c)]


@vjp("MatMul")
def matmul(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """dA = g B^T, dB = A^T g, summed over broadcast batch axes.

    A vector is a matrix of one row (A) or one column (B).
    https://onnx.ai/onnx/operators/onnx__MatMul.html
    """
    a, b = args(node)
    (*_, rows, inner), (*_, _, columns) = a_shape, b_shape = _matrices(shape_of(a), shape_of(b))
    batch = shape_of(node.outputs[0])
    batch = batch[: len(batch) - (len(shape_of(a)) > 1) - (len(shape_of(b)) > 1)]
    if a_vector := len(shape_of(a)) == 1:
        a, g = op.Unsqueeze(a, [0]), op.Unsqueeze(g, [-1 if len(shape_of(b)) == 1 else -2])
    if b_vector := len(shape_of(b)) == 1:
        b, g = op.Unsqueeze(b, [1]), op.Unsqueeze(g, [-1])
    weights, gb = own(op, b, g)
    da = op.MatMul(gb, _transposed(op, weights, len(b_shape)))
    db = op.MatMul(_transposed(op, a, len(a_shape)), g)
    da = op.sum_to(da, (*batch, rows, inner), a_shape)
    db = op.sum_to(db, (*batch, inner, columns), b_shape)
    return op.Squeeze(da, [-2]) if a_vector else da, op.Squeeze(db, [-1]) if b_vector else db


@vjp("Einsum")
def einsum(op: Ops, node: ir.Node, g: ir.Value) -> Grads:
    """Each operand's gradient is the sum of g and the other operands over the other indices.

    https://onnx.ai/onnx/operators/onnx__Einsum.html
    """
    terms, result = _einsum_terms(node)
    sizes: dict[str, int | None] = {}
    for term, x in zip(terms, args(node), strict=True):
        sizes |= {c: n for c, n in zip(term, shape_of(x), strict=True) if n != 1 or c not in sizes}
    k, *spare = (c for c in string.ascii_letters if c not in "".join(terms))
    grads = []
    for i, (term, x) in enumerate(zip(terms, args(node), strict=True)):
        others = [j for j in range(len(terms)) if j != i]
        inputs, have = [args(node)[j] for j in others], [k + result, *(terms[j] for j in others)]
        want = "".join(c if c not in term[:n] else spare[n] for n, c in enumerate(term))
        for c, first in zip(want, term, strict=True):
            if c != first:  # an index that occurs twice reads the diagonal
                inputs.append(op.const(np.eye(_known(node, sizes[first]))))
                have.append(first + c)
            elif not any(c in h for h in have):  # summed over this operand alone
                inputs.append(op.const(np.ones(_known(node, sizes[c]))))
                have.append(c)
        dx = op.Einsum(g, *inputs, equation=",".join(have) + "->" + k + want)
        grads.append(op.sum_to(dx, tuple(sizes[c] for c in term), shape_of(x)))
    return grads


def _einsum_terms(node: ir.Node) -> tuple[list[str], str]:
    """The equation's indices per operand and of the result, ellipses spelled out, no spaces."""
    left, arrow, result = attribute(node, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in left]
    ranks = [
        len(shape_of(x)) - len(t.replace("...", "")) for t, x in zip(terms, args(node), strict=True)
    ]
    dots = (
        "".join(free[: max(r for r, t in zip(ranks, terms, strict=True) if "..." in t)])
        if "..." in left
        else ""
    )
    terms = [t.replace("...", dots[len(dots) - r :]) for t, r in zip(terms, ranks, strict=True)]
    if not arrow:
        letters = "".join(terms)
        result = dots + "".join(
            sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1)
        )
    return terms, result.replace("...", dots)


def _known(node: ir.Node, size: int | None) -> int:
    if size is None:
        raise not_constant(node, "the length of an index that is summed or repeated")
    return size


def _matrices(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b


def _transposed(op: Ops, v: ir.Value, rank: int, swap: bool = True) -> ir.Value:
    """Exchange the last two axes."""
    return op.Transpose(v, perm=[*range(rank - 2), rank - 1, rank - 2]) if swap else v
