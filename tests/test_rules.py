"""Every backward rule against oracles that do not share its code.

float64: the adjoint is compared with central differences of the ORIGINAL model in the ONNX
reference evaluator, all K seeds at once. float32: the graph runs in ONNX Runtime and agrees; where
the reference evaluator strays from an operator's specification (``exact=False``), with central
differences of ONNX Runtime itself.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import differentiate
from backlit.export.autodiff.registry import NO_GRADIENT, RULES
from backlit.export.prepare.normalise import upgraded
from cases import CASES, TABLES, Array, Case
from support.reference import evaluator as quick

K = 3  # neither the batch of most cases nor 1
NEWEST = 26  # the newest opset that this ONNX Runtime takes


def jacobian_products(case: Case, wrt: str, seeds: Array) -> Array:
    """seeds^T J by central differences, one input element at a time."""
    evaluator = quick(upgraded(case.model()))
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


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def inputs(case: Case) -> list[str]:
    return ["x"] if case.second is None else ["x", "y"]


@pytest.mark.parametrize("case", [c for c in CASES if c.exact], ids=lambda c: c.name)
def test_float64_gradient_equals_central_differences(case: Case) -> None:
    output = np.asarray(quick(upgraded(case.model())).run(None, case.feed())[0])
    seeds = np.random.default_rng(5).standard_normal((K, *output.shape))
    for wrt in inputs(case):
        made = differentiate(case.model(), wrt=wrt, seed="seed")
        forward, found = quick(made).run(None, case.feed() | {"seed": seeds})
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
        if case.exact:  # as the test above compares it with differences
            exactly = quick(differentiate(case.model(), wrt=wrt, seed="seed"))
            expected = exactly.run(["gradient"], case.feed() | {"seed": seeds})[0]
        else:
            expected = directional(session, case, wrt, seeds)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


def directional(session: ort.InferenceSession, case: Case, wrt: str, seeds: Array) -> Array:
    """Central differences in float32, for operators that only ONNX Runtime implements right."""
    feed = case.feed(np.float32)
    x, step = feed[wrt], case.step
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


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "Cast"], ids=lambda c: c.name)
def test_gradient_with_a_dynamic_batch(case: Case) -> None:
    """One image more than the shapes said, the first one again: the gradients stay, and so its."""
    free, feed = case.model(np.float32, batch="N"), case.feed(np.float32)
    (output,) = session(case.model(np.float32)).run(None, feed)[:1]
    more = {k: np.concatenate([v, v[:1]]) if case.in_batch(v.shape) else v for k, v in feed.items()}
    try:
        (forward,) = session(free).run(None, more)[:1]
    except Exception:  # ORT's, for constants of the batch's length
        forward = output
    if not output.shape or not np.array_equal(forward, np.concatenate([output, output[:1]])):
        pytest.skip("the operator does not treat images one by one")
    seeds = np.random.default_rng(5).standard_normal((K, *output.shape)).astype(np.float32)
    longer = np.concatenate([seeds, seeds[:, :1]], 1)
    for wrt in inputs(case):
        fixed = session(differentiate(case.model(np.float32), wrt=wrt, seed="seed"))
        expected = fixed.run(["gradient"], feed | {"seed": seeds})[0]
        made = session(differentiate(free, wrt=wrt, seed="seed"))
        found = made.run(["gradient"], more | {"seed": longer})[0]
        if case.in_batch(feed[wrt].shape):
            expected = np.concatenate([expected, expected[:, :1]], 1)
        else:  # shared by all images: the first one counts twice
            one = {k: v[:1] if case.in_batch(v.shape) else v for k, v in feed.items()}
            expected = expected + made.run(["gradient"], one | {"seed": seeds[:, :1]})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_rule_has_a_case() -> None:
    """Among the cases of its own module: rules/shape.py is tested by cases/shape.py."""
    for op_type, entry in RULES.items():
        module = entry.rule.__module__.rpartition(".")[2]
        if module == "quantised":  # straight through: no difference quotient equals it
            continue
        table = TABLES.get("activation" if module == "relu" else module, [])
        assert op_type in {case.op for case in table}, f"{op_type} has no case in cases/{module}.py"


NOT_TRIED = {  # attributes, and why no case sets them
    "training_mode": "refused",
    "momentum": "for training",
    "seed": "for training",
    "round_mode": "of small float types",
    "saturate": "of small float types",
    "activations": "refused",
    "activation_alpha": "refused",
    "activation_beta": "refused",
    "clip": "refused",
    "input_forget": "refused",
    "layout": "refused",
}


@pytest.mark.parametrize("op_type", sorted({case.op for case in CASES} & set(RULES)))
def test_every_attribute_has_a_case(op_type: str) -> None:
    declared = set(onnx.defs.get_schema(op_type, NEWEST).attributes)
    tried = {name for case in CASES if case.op == op_type for name in case.attributes}
    assert declared - tried - set(NOT_TRIED) == set()


def test_no_operator_is_both_differentiable_and_not() -> None:
    assert not set(RULES) & set(NO_GRADIENT)
    assert all(NO_GRADIENT.values())
