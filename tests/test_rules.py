"""Every backward rule against oracles that do not share its code.

float64: the adjoint is compared with central differences of the ORIGINAL model in the ONNX
reference evaluator, all K seeds at once. float32: the graph runs in ONNX Runtime and agrees; where
the reference evaluator strays from an operator's specification (``exact=False``), with central
differences of ONNX Runtime itself.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from backlit.export import differentiate
from backlit.export.normalise import upgraded
from backlit.export.registry import NO_GRADIENT, RULES
from cases import CASES, Array, Case
from onnx.reference import ReferenceEvaluator

K = 2


def jacobian_products(case: Case, wrt: str, seeds: Array) -> Array:
    """seeds^T J by central differences, one input element at a time."""
    evaluator = ReferenceEvaluator(upgraded(case.model()))
    feed, step = case.feed(), 1e-6
    x = feed[wrt]
    result = np.empty((K, *x.shape))
    for index in np.ndindex(*x.shape):
        moved = []
        for sign in (1, -1):
            shifted = x.copy()
            shifted[index] += sign * step
            moved.append(np.asarray(evaluator.run(None, feed | {wrt: shifted})[0]))
        slope = (moved[0] - moved[1]) / (2 * step)
        result[(slice(None), *index)] = (seeds * slope).reshape(K, -1).sum(1)
    return result


def inputs(case: Case) -> list[str]:
    return ["x"] if case.second is None else ["x", "y"]


@pytest.mark.parametrize("case", [c for c in CASES if c.exact], ids=lambda c: c.name)
def test_float64_gradient_equals_central_differences(case: Case) -> None:
    output = np.asarray(ReferenceEvaluator(upgraded(case.model())).run(None, case.feed())[0])
    seeds = np.random.default_rng(5).standard_normal((K, *output.shape))
    for wrt in inputs(case):
        made = differentiate(case.model(), wrt=wrt, seed="seed")
        forward, found = ReferenceEvaluator(made).run(None, case.feed() | {"seed": seeds})
        np.testing.assert_array_equal(forward, output)
        expected = jacobian_products(case, wrt, seeds)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "Cast"], ids=lambda c: c.name)
def test_float32_gradient_in_onnx_runtime(case: Case) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    source, cpu = case.model(np.float32), ["CPUExecutionProvider"]
    output = ort.InferenceSession(source.SerializeToString(), options, cpu).run(
        None, case.feed(np.float32)
    )[0]
    seeds = np.random.default_rng(5).standard_normal((K, *output.shape))
    for wrt in inputs(case):
        made = differentiate(source, wrt=wrt, seed="seed")
        session = ort.InferenceSession(made.SerializeToString(), options, cpu)
        feed = case.feed(np.float32) | {"seed": seeds.astype(np.float32)}
        forward, found = session.run(None, feed)
        np.testing.assert_allclose(forward, output, rtol=1e-5, atol=1e-6)
        if case.exact:
            expected = jacobian_products(case, wrt, seeds)
        else:
            expected = directional(session, case, wrt, seeds)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


def directional(session: ort.InferenceSession, case: Case, wrt: str, seeds: Array) -> Array:
    """Central differences in float32, for operators that only ONNX Runtime implements right."""
    feed = case.feed(np.float32)
    x, step = feed[wrt], 1e-2
    result = np.empty((K, *x.shape))
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        zero = {"seed": seeds.astype(np.float32)}
        a, b = (session.run(None, feed | zero | {wrt: v})[0] for v in (up, down))
        slope = (a.astype(np.float64) - b) / (2 * step)
        result[(slice(None), *index)] = (seeds * slope).reshape(K, -1).sum(1)
    return result


def test_every_rule_has_a_case() -> None:
    assert set(RULES) - {case.op for case in CASES} == set()


def test_no_operator_is_both_differentiable_and_not() -> None:
    assert not set(RULES) & set(NO_GRADIENT)
    assert all(NO_GRADIENT.values())
