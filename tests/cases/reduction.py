"""Reductions and running sums."""

from __future__ import annotations

from .case import I, away, case, distinct, normal, positive

SMOOTH = (
    ("ReduceL2", normal),
    ("ReduceL1", away(0)),
    ("ReduceProd", away(0)),
    ("ReduceSumSquare", normal),
    ("ReduceLogSum", positive),
    ("ReduceLogSumExp", normal),
)
CASES = [
    *(case(op, (2, 3, 4), I([0, 2]), keepdims=k) for op in ("ReduceSum", "ReduceMean") for k in (0, 1)),
    *(case(op, (2, 3, 4), keepdims=0) for op in ("ReduceSum", "ReduceMean")),
    *(case(op, (2, 3, 4), axes=[-1], keepdims=0, opset=11) for op in ("ReduceSum", "ReduceMean")),
    case("ReduceSum", (2, 3), noop_with_empty_axes=1),
    *(case(op, (2, 3, 4), I([1]), keepdims=k, sampler=distinct) for op in ("ReduceMax", "ReduceMin") for k in (0, 1)),
    case("ReduceL2", (2, 3, 4), I([1])),
    case("ReduceL2", (2, 3, 4), I([0, 2]), keepdims=0),
    *(case(op, (2, 3, 4), I([1]), keepdims=k, sampler=s) for k in (0, 1) for op, s in SMOOTH),
    *(case(op, (2, 3, 4), keepdims=0, sampler=s) for op, s in SMOOTH),
    *(case(op, (2, 3, 4), axes=[0, -1], keepdims=0, sampler=s, opset=11) for op, s in SMOOTH),
    *(case(op, (2, 3), noop_with_empty_axes=1, sampler=s, exact=False) for op, s in SMOOTH),
    *(case(op, (2, 3), noop_with_empty_axes=1, exact=False) for op in ("ReduceMean", "ReduceMax", "ReduceMin")),
    case("CumSum", (2, 3, 4), I(1)),
    case("CumSum", (2, 3, 4), I(-1), exclusive=1),
    case("CumSum", (2, 3, 4), I(0), reverse=1, opset=11),
    case("CumSum", (2, 3, 4), I(2), reverse=1, exclusive=1),
    case("CumProd", (2, 3, 4), I(1), opset=26, sampler=away(0)),
    case("CumProd", (2, 3, 4), I(-1), opset=26, exclusive=1, reverse=1, sampler=away(0)),
    *(case(op, (3, 3, 4), I([1, -1]), keepdims=0) for op in ("ReduceSum", "ReduceMean")),
    *(case(op, (3, 3, 3), I([a]), keepdims=0, sampler=s) for op, s in SMOOTH for a in (0, 2)),
    *(case("CumSum", (3, 3), I(a), exclusive=e, reverse=r) for a in (0, 1) for e in (0, 1) for r in (0, 1)),
]  # fmt: skip
