"""Every rewrite, switched off alone and, where targets differ, on: the gradient stays.

The cases are those of the rules; only those whose graph a rewrite changes are run. The reference is
the graph as it is by default, which test_rules compares with central differences.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from backlit.export import differentiate, export
from backlit.export.graph.rewrites import PORTABLE, REWRITES, TARGETS, chosen
from backlit.runtime import Session
from backlit.runtime.errors import OptionError
from cases import CASES, Array

EMBEDDED = Path(__file__).parents[1] / "models" / "tiny_convnet.onnx"
VARIANTS = [
    *({"without": [name]} for name in sorted(PORTABLE)),
    {"without": sorted(REWRITES)},
    {"target": "openvino"},
    *({"target": "openvino", "without": [n]} for n in sorted(TARGETS["openvino"] - PORTABLE)),
]
BORING = {"fold-constants", "share"}  # change every graph; a sample of the cases will do


def run(model: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)  # type: ignore[no-any-return]


NETWORK = """<ir_version: 9, opset_import: ["" : 20]>
net (float[N, 3, 9, 10] x) => (float[N, 4] y)
<float[4, 3, 3, 3] w = {%s}, int64[1] i0 = {0}, int64[1] i1 = {1},
 int64[1] i3 = {3}, int64[1] i4 = {4}>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    r = Relu (a)
    p = MaxPool <kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 0]> (r)
    s = Sigmoid (p)
    z = Mul (p, s)
    m = GlobalAveragePool (z)
    q = Mul (z, m)
    first = Slice (q, i0, i1, i1)
    middle = Slice (q, i1, i3, i1)
    last = Slice (q, i3, i4, i1)
    steep = Sigmoid (middle)
    turned = Concat <axis = 1> (last, steep, first)
    t = GlobalMaxPool (turned)
    y = Flatten (t)
}"""


def network() -> onnx.ModelProto:
    """Where neighbours matter: Conv, Relu, MaxPool, SiLU, a gate of its own mean, slices."""
    numbers = np.random.default_rng(0).standard_normal(108).round(3)
    return onnx.parser.parse_model(NETWORK % ", ".join(map(str, numbers)))


class Asked(frozenset[str]):
    """Names of rewrites, and which of them the rules asked for: without others nothing changes."""

    names: ClassVar[set[str]] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)


@dataclasses.dataclass(frozen=True)
class Usual:
    """A model, its input, and its gradient as it is by default."""

    model: onnx.ModelProto
    feed: dict[str, Array]
    gradient: onnx.ModelProto
    asked: frozenset[str]


def usual(model: onnx.ModelProto, feed: dict[str, Array]) -> Usual:
    Asked.names.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys.modules[differentiate.__module__], "chosen", lambda *given: Asked(chosen(*given))
        )
        gradient = differentiate(model, wrt="x", seed="seed")
    return Usual(model, feed, gradient, frozenset(Asked.names))


@functools.cache
def network_as_usual() -> Usual:
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 10)).astype(np.float32)
    return usual(network(), {"x": x})


@functools.cache
def case_as_usual(number: int) -> Usual:
    case = CASES[number]
    feed, free, fixed = (
        case.feed(np.float32), case.model(np.float32, batch="N"), case.model(np.float32),
    )  # fmt: skip
    try:
        made = usual(free, feed)
        rank = len(made.gradient.graph.input[-1].type.tensor_type.shape.dim)
        output = run(free, feed)[0]
        if output.shape == run(fixed, feed)[0].shape and rank == output.ndim + 1:
            return made
    except Exception:  # it needs a fixed batch
        pass
    return usual(fixed, feed)


def models(variant: dict[str, Any]) -> Iterator[tuple[str, Usual]]:
    without = set(variant.get("without", ()))
    alone = len(without) == 1 and not without & BORING and "target" not in variant
    numbers = [number for number, case in enumerate(CASES) if case.op != "Cast"]
    yield "network", network_as_usual()
    for number in numbers[:: 1 if alone else 7 if without else 3]:
        made = case_as_usual(number)
        if not alone or without & made.asked:
            yield CASES[number].name, made


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_gradients_stay(variant: dict[str, Any]) -> None:
    changed = 0
    for name, made in models(variant):
        other = differentiate(made.model, wrt="x", seed="seed", **variant)
        if [n.op_type for n in made.gradient.graph.node] == [n.op_type for n in other.graph.node]:
            continue
        changed += 1
        output = run(made.model, made.feed)[0]
        rng = np.random.default_rng(3)
        seeds = rng.standard_normal((3, *output.shape)).astype(np.float32)
        expected = run(made.gradient, made.feed | {"seed": seeds})
        found = run(other, made.feed | {"seed": seeds})
        np.testing.assert_array_equal(found[0], expected[0], err_msg=name)
        np.testing.assert_allclose(found[-1], expected[-1], rtol=2e-4, atol=2e-5, err_msg=name)
    assert changed, "no case is changed: the rewrite is not tested"


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "LpNormalization"])
def test_classes_stay_apart_where_images_meet(op: str) -> None:
    """Merged with the batch, classes would be summed up with it."""
    number = next(n for n, c in enumerate(CASES) if c.name.startswith(f"{op}-20-(4,4)--axis0"))
    made = case_as_usual(number)
    other = differentiate(made.model, wrt="x", seed="seed", target="openvino")
    seeds = np.random.default_rng(3).standard_normal((3, 4, 4)).astype(np.float32)
    expected, found = (run(m, made.feed | {"seed": seeds})[-1] for m in (made.gradient, other))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("k", [1, 4])
def test_a_file_for_openvino_answers_as_the_portable_one(
    tmp_path: Path, batch: int, k: int
) -> None:
    portable, other = tmp_path / "portable.onnx", tmp_path / "openvino.onnx"
    export(EMBEDDED, portable, verify=False)
    export(EMBEDDED, other, target="openvino")
    spec = Session(portable, "cpu").contract.image
    shape = (batch, spec.height, spec.width, spec.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    index = np.arange(batch * k).reshape(batch, k) % 5
    a, b = (Session(path, "cpu").run(images, index) for path in (portable, other))
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_allclose(a.saliency, b.saliency, rtol=1e-4, atol=1e-6 * a.saliency.max())


def test_unknown_names_are_errors_that_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=re.escape("step-masks")):
        export(EMBEDDED, tmp_path / "a.onnx", without=["fast"])
    with pytest.raises(OptionError, match="portable"):
        export(EMBEDDED, tmp_path / "a.onnx", target="gameboy")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_every_rewrite_says_what_it_is() -> None:
    for name, rewrite in REWRITES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert len(rewrite.what) > 20


def test_a_tensor_taken_apart_is_put_together_by_one_concat() -> None:
    made = differentiate(network(), wrt="x")
    backward = [n.op_type for n in made.graph.node if n.name.startswith("backward/")]
    assert "Pad" in backward  # max-pooling's
    apart = differentiate(network(), wrt="x", without=["joined-slices"])
    pads = [sum(n.op_type == "Pad" for n in m.graph.node) for m in (made, apart)]
    assert pads[1] - pads[0] == 3
    sums = [sum(n.op_type == "Sum" for n in m.graph.node) for m in (made, apart)]
    assert sums[1] - sums[0] == 1


def test_gradients_are_padded_as_height_of_rank_4() -> None:
    for without, ranks in (([], {4}), (["flat-pads", "joined-slices"], {4, 5})):
        made = differentiate(network(), wrt="x", without=without)
        values = {t.name: list(t.dims) for t in made.graph.initializer}
        pads = [n for n in made.graph.node if n.op_type == "Pad"]
        assert {values[n.input[1]][0] // 2 for n in pads} == ranks
