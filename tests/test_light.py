"""The nine architectures that the onnx package ships without weights, given seeded ones.

They are opset 9 files as exported in 2018: fixed batch, Dropout, LRN, Scale layers as Mul and Add
with Unsqueeze, Sum, weights that are inputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.export.graph.protos import with_outputs
from backlit.export.graph.weights import Detached
from backlit.export.verify.reference import Evaluator
from onnx import numpy_helper
from support.slow import some_slow

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = sorted(p.name.removesuffix(".onnx") for p in FOLDER.glob("light_*.onnx"))
SLOW = {
    "light_vgg19", "light_inception_v2", "light_zfnet512", "light_densenet121",
    "light_bvlc_alexnet", "light_resnet50",
}  # fmt: skip


def seeded(name: str) -> onnx.ModelProto:
    """The model with its ConstantOfShape weights replaced by seeded numbers of a sensible size."""
    model, rng = onnx.load(FOLDER / f"{name}.onnx"), np.random.default_rng(0)
    sizes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    roles = {}
    for node in model.graph.node:
        for i, x in enumerate(node.input):
            roles.setdefault(x, (node.op_type, i))
    nodes, weights = [], []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(int(d) for d in sizes[node.input[0]])
        consumer, position = roles[node.output[0]]
        if consumer in ("Conv", "Gemm") and position == 1:
            fan_in = np.prod(shape[1:])
            value = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        elif consumer == "BatchNormalization" and position in (1, 4):
            value = rng.uniform(0.5, 1.5, shape)
        elif consumer == "Unsqueeze":  # the scale and shift of a Caffe Scale layer
            value = rng.uniform(0.5, 1.0, shape)
        else:
            value = rng.standard_normal(shape) * 0.1
        weights.append(numpy_helper.from_array(value.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {x for node in nodes for x in node.input}
    kept = [v for v in model.graph.input if v.name in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    used_tensors = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(used_tensors + weights)
    for tensor in weights:  # before IR version 4 an initializer is an input too
        kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(kind)
    return model


def test_there_are_nine() -> None:
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", some_slow(NAMES, SLOW))
def test_old_architecture_exports_with_a_right_gradient(name: str, tmp_path: Path) -> None:
    model, file = seeded(name), tmp_path / "m.onnx"
    report = export(model, file, input="float32", maps="gradient", verify=False)
    assert report.refused == ()
    rng = np.random.default_rng(1)
    image = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    index = np.array([[-1, 5, 77], [-1, 5, 77]])
    names = ["scores", "class", "gradient"]
    scores, classes, gradient = session.run(names, {"image": image, "class_index": index})

    single = with_outputs(model, [report.contract.score.tensor])
    weights = {t.name for t in single.graph.initializer}
    (taken,) = (v.name for v in single.graph.input if v.name not in weights)
    plain = ort.InferenceSession(single.SerializeToString(), providers=["CPUExecutionProvider"])
    own = np.concatenate([plain.run(None, {taken: x[None]})[0].reshape(1, -1) for x in image])
    np.testing.assert_allclose(scores, own, rtol=1e-4, atol=1e-5 * np.abs(own).max())

    # Three classes along one random direction, in float64, on the second image.
    reference = Evaluator(Detached(single, {}))
    x = image[1].astype(np.float64)
    direction = rng.standard_normal(x.shape)
    step = 1e-6
    moved = [
        np.asarray(reference.run(None, {taken: (x + s * step * direction)[None]})[0]).reshape(-1)
        for s in (1, -1)
    ]
    expected = (moved[0] - moved[1])[classes[1]] / (2 * step)
    found = (gradient[1].astype(np.float64) * direction).sum((1, 2, 3))
    assert np.linalg.norm(found - expected) <= 3e-2 * np.linalg.norm(expected)
