"""A part of ``make oracle`` (onnx's own operator tests) that is quick enough for every run."""

from __future__ import annotations

import collections
import functools
import zlib

import onnx_ir as ir
import pytest
from backlit.export.autodiff.ops import Ops
from backlit.export.autodiff.registry import RULES, Entry
from backlit.export.graph.values import args

from benchmarks.oracle import run as oracle
from benchmarks.oracle.cases import Case, collect

PARTS, EACH = 4, 6
SLOW = {"Attention", "LinearAttention", "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"}


@functools.cache
def cases() -> dict[str, list[Case]]:
    """Per operator with a rule its first cases that have float inputs and outputs."""
    chosen: dict[str, list[Case]] = collections.defaultdict(list)
    for case in collect():
        useful = case.floats(case.inputs) and case.floats(case.outputs) and not case.lists
        if case.operator in RULES and useful and "_expanded" not in case.name:
            chosen[case.operator].append(case)
    return {name: found[:EACH] for name, found in chosen.items() if name not in SLOW}


@pytest.mark.parametrize("part", range(PARTS))
def test_gradients_of_onnx_s_own_cases(part: int) -> None:
    mine = [
        c for name, cs in cases().items() if zlib.crc32(name.encode()) % PARTS == part for c in cs
    ]
    results = [oracle.examine(case) for case in mine]
    failed = {
        f"{r.case.name}: d {p.output} / d {p.wrt}": p.why
        for r in results for p in r.pairs if p.state == "failed"
    }  # fmt: skip
    assert failed == {}
    assert sum(r.state == "passed" for r in results) >= 0.8 * len(results)


def test_a_wrong_rule_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(op: Ops, node: ir.Node, g: ir.Value) -> ir.Value:
        return g * op.Sin(args(node)[0])  # the sign is wrong

    (case, *_) = cases()["Cos"]
    assert oracle.examine(case).state == "passed"
    monkeypatch.setitem(RULES, "Cos", Entry(wrong))
    result = oracle.examine(case)
    assert result.state == "failed"
    assert "off by" in result.reasons()[0]


def test_a_case_that_cannot_run_says_why() -> None:
    by_name = {case.name: case for case in collect()}
    assert oracle.examine(by_name["test_and2d"]).reasons() == ["no float input"]
    argmax = oracle.examine(by_name["test_argmax_default_axis_example"])
    assert argmax.state == "left out"
    assert argmax.reasons() == ["no float output"]
    floor = oracle.examine(by_name["test_floor"])
    assert floor.state == "left out"
    assert "does not depend on" in floor.reasons()[0]


def test_no_case_is_dropped() -> None:
    found = collect()
    assert len({case.name for case in found}) == len(found) > 1900
