"""The embedded classifier: its pictures, its file, its samples, and the paper's network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from backlit.models.convnet import make_convnet
from backlit.models.draw import draw, draw_set
from backlit.models.make_samples import write
from backlit.models.shapes import KINDS, LABELS
from backlit.models.train import accuracy, make_tiny_convnet, save, train
from onnx import numpy_helper
from PIL import Image

from backlit import models

# No seed of training, of the card's held-out pictures, or of the samples.
SEED = 31


def normalise(images):
    """uint8 [N,S,S,3] as the card says, without torch."""
    chosen = models.PREPROCESSING
    pixels = images.astype(np.float32) / 255
    pixels = (pixels - np.float32(chosen.mean)) / np.float32(chosen.std)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def session():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(models.tiny_convnet()), options, providers=["CPUExecutionProvider"]
    )


@pytest.fixture(scope="module")
def fresh():
    """480 pictures no one has seen: images, labels, boxes."""
    return draw_set(480, SEED, models.PREPROCESSING.size)


def share_right(session, images, labels):
    logits = session.run(["logits"], {"input": normalise(images)})[0]
    return float((logits.argmax(1) == labels).mean())


def overlap(a, b):
    wide = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (area - wide * high)


def test_same_seed_same_pictures_in_any_parts():
    images, labels, boxes = draw_set(7, SEED, 48)
    head, tail = draw_set(3, SEED, 48), draw_set(4, SEED, 48, first=3)
    np.testing.assert_array_equal(images, np.concatenate([head[0], tail[0]]))
    np.testing.assert_array_equal(labels, np.concatenate([head[1], tail[1]]))
    np.testing.assert_array_equal(boxes, np.concatenate([head[2], tail[2]]))
    assert not np.array_equal(images, draw_set(7, SEED + 1, 48)[0])


@pytest.mark.parametrize("label", range(len(LABELS)), ids=LABELS)
def test_box_is_where_the_object_changes_the_picture(label):
    for trial in range(3):
        with_object, without = (
            draw(np.random.default_rng([SEED, trial]), 90, 130, label=label, with_object=shown)
            for shown in (True, False)
        )
        assert with_object.label == label
        assert with_object.box == without.box
        changed = np.abs(with_object.image.astype(int) - without.image).max(2) > 0
        x0, y0, x1, y1 = with_object.box
        outside = changed.copy()
        # One pixel of rim: a pixel less than half covered is not object.
        outside[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False
        assert not outside.any()
        # Every side of the box touches changed pixels, and nearly all of the mask changed.
        for edge in (changed[y0, x0:x1], changed[y1 - 1, x0:x1]):
            assert edge.any()
        for edge in (changed[y0:y1, x0], changed[y0:y1, x1 - 1]):
            assert edge.any()
        assert changed[with_object.mask].mean() > 0.95
        assert with_object.mask[y0:y1, x0:x1].sum() == with_object.mask.sum() > 100


def test_a_fixed_centred_box_is_usually_wrong(fresh):
    size = models.PREPROCESSING.size
    centred = (0.1 * size, 0.1 * size, 0.9 * size, 0.9 * size)
    assert np.mean([overlap(centred, box) >= 0.5 for box in fresh[2]]) < 0.25


def test_classes_take_turns(fresh):
    assert Counter(fresh[1].tolist()) == dict.fromkeys(range(12), 40)
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 10


def test_held_out_accuracy(session, fresh):
    images, labels, _ = fresh
    assert share_right(session, images, labels) >= 0.9


def test_batch_is_dynamic_and_each_picture_is_scored_by_itself(session, fresh):
    together = session.run(None, {"input": normalise(fresh[0][:5])})[0]
    alone = [session.run(None, {"input": normalise(fresh[0][i : i + 1])})[0] for i in range(5)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-4)


def test_scores_are_not_probabilities(session, fresh):
    logits = session.run(None, {"input": normalise(fresh[0][:32])})[0]
    assert logits.min() < 0
    assert np.abs(logits.sum(1) - 1).min() > 1e-3


def test_file_is_small_standard_and_whole():
    path = models.tiny_convnet()
    assert path.stat().st_size < 2_000_000
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    assert {node.op_type for node in model.graph.node} <= {
        *("Conv", "Relu", "MaxPool", "LRN", "Flatten", "Reshape", "Gemm")
    }
    assert not any(t.data_location == t.EXTERNAL for t in model.graph.initializer)
    (taken,), (given,) = model.graph.input, model.graph.output
    size = models.PREPROCESSING.size
    assert (taken.name, given.name) == ("input", "logits")
    assert [d.dim_value for d in taken.type.tensor_type.shape.dim] == [0, 3, size, size]
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [0, len(LABELS)]


def torch_forward(model, x):
    """The file's few operators in torch, to have a gradient that owes nothing to this project."""
    values = {
        t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in model.initializer
    }
    values[model.input[0].name] = x
    for node in model.node:
        given = [values[name] for name in node.input]
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv":
            pads, strides = options["pads"], options["strides"]
            y = torch.nn.functional.conv2d(*given, stride=strides, padding=pads[:2])
        elif node.op_type == "MaxPool":
            y = torch.nn.functional.max_pool2d(
                given[0], options["kernel_shape"], options["strides"]
            )
        elif node.op_type == "Gemm":
            y = torch.nn.functional.linear(*given)
        else:
            y = {"Relu": torch.relu, "Reshape": lambda v, *_: v.flatten(1)}[node.op_type](
                *given[:1]
            )
        values[node.output[0]] = y
    return values[model.output[0].name]


def test_gradient_lies_on_the_object(session, fresh):
    images, labels, boxes = (part[:96] for part in fresh)
    x = torch.from_numpy(normalise(images)).requires_grad_()
    logits = torch_forward(onnx.load(models.tiny_convnet()).graph, x)
    expected = session.run(None, {"input": normalise(images)})[0]
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-3, atol=1e-3)
    (gradient,) = torch.autograd.grad(logits[torch.arange(96), torch.from_numpy(labels)].sum(), x)
    hits, inside, area = 0, [], []
    for saliency, (x0, y0, x1, y1) in zip(gradient.abs().amax(1).numpy(), boxes, strict=True):
        row, column = divmod(int(cv2.GaussianBlur(saliency, (0, 0), 3).argmax()), 96)
        hits += y0 <= row < y1 and x0 <= column < x1
        inside.append(saliency[y0:y1, x0:x1].sum() / saliency.sum())
        area.append((x1 - x0) * (y1 - y0) / 96**2)
    assert hits >= 0.85 * 96
    assert np.mean(inside) > 2 * np.mean(area)


def test_labels_are_the_classes_in_order():
    assert models.labels().read_text("utf-8").splitlines() == list(LABELS)


def test_samples_are_small_and_their_boxes_lie_in_them():
    folder = models.samples()
    entries = json.loads((folder / "boxes.json").read_text("utf-8"))
    files = {path.name for path in folder.iterdir()}
    assert files == {entry["file"] for entry in entries} | {"boxes.json"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 600_000
    assert {entry["label"] for entry in entries} == set(LABELS)
    for entry in entries:
        with Image.open(folder / entry["file"]) as image:
            wide, high = image.size
        x0, y0, x1, y1 = entry["box"]
        assert 0 <= x0 < x1 <= wide
        assert 0 <= y0 < y1 <= high
        assert (x1 - x0) * (y1 - y0) < 0.5 * wide * high


def test_samples_are_what_the_script_draws(tmp_path):
    write(tmp_path)
    folder = models.samples()
    assert (tmp_path / "boxes.json").read_bytes() == (folder / "boxes.json").read_bytes()
    for path in folder.glob("*.jpg"):
        with Image.open(path) as kept, Image.open(tmp_path / path.name) as drawn:
            # Not bit for bit: JPEG encoders differ by version.
            difference = np.asarray(kept, np.float32) - np.asarray(drawn, np.float32)
        assert np.abs(difference).mean() < 2


def test_samples_are_classified(session):
    folder, size = models.samples(), models.PREPROCESSING.size
    entries = json.loads((folder / "boxes.json").read_text("utf-8"))
    images = []
    for entry in entries:
        with Image.open(folder / entry["file"]) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            images.append(np.asarray(resized))
    truth = np.array([LABELS.index(entry["label"]) for entry in entries])
    assert share_right(session, np.stack(images), truth) >= 11 / 12


def test_paths_do_not_load_torch_or_opencv():
    code = (
        "import sys, backlit.models as m; m.tiny_convnet(), m.labels(), m.samples();"
        "sys.exit(bool({'torch', 'cv2', 'numpy', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_learns_what_it_is_shown(fresh):
    images, labels = fresh[0][:64], fresh[1][:64]
    model = make_tiny_convnet(seed=4)
    train(model, images, labels, epochs=30, rate=3e-3)
    right = (model(torch.from_numpy(normalise(images))).argmax(1).numpy() == labels).mean()
    assert right > 0.6  # chance is 1/12


def test_training_is_repeatable_and_replays_change_it(fresh):
    def trained(radius):
        model = make_tiny_convnet(seed=4)
        train(model, fresh[0][:64], fresh[1][:64], epochs=1, rate=1e-3, radius=radius)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    small, again, large = trained(0.5), trained(0.5), trained(5.0)
    torch.testing.assert_close(small, again, rtol=1e-3, atol=1e-5)
    assert (small - large).abs().max() > 1e-4


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_saved_file_is_the_network_with_its_normalisation_folded(tmp_path, fresh):
    torch.manual_seed(SEED)
    model = make_tiny_convnet().eval()
    for layer in model:
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.weight.data, layer.bias.data):
                tensor.normal_()
            layer.running_var.uniform_(0.5, 2)
    path = tmp_path / "network.onnx"
    save(model, path)
    logits = model(torch.from_numpy(normalise(fresh[0][:24]))).detach().numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    saved = session.run(None, {"input": normalise(fresh[0][:24])})[0]
    np.testing.assert_allclose(saved, logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    # Called right when it says what the network says, wrong when it does not.
    assert accuracy(path, fresh[0][:24], logits.argmax(1)) == 1.0
    assert accuracy(path, fresh[0][:24], (logits.argmax(1) + 1) % 12) == 0.0


def test_convnet_is_the_papers():
    state = torch.random.get_rng_state()
    model = make_convnet(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    widths = [
        f"{'conv' if isinstance(layer, torch.nn.Conv2d) else 'full'}{layer.weight.shape[0]}"
        for layer in model
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert "-".join(widths) == ("conv64-conv256-conv256-conv256-conv256-full4096-full4096-full1000")
    assert not model.training
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224, requires_grad=True)
    scores = model(image)
    assert scores.shape == (1, 1000)
    (gradient,) = torch.autograd.grad(scores[0, 7], image)
    # He initialisation keeps signal and gradient of ordinary size through all eight layers.
    assert 0.1 < scores.detach().std() < 20
    assert (gradient != 0).float().mean() > 0.5


def test_convnet_weights_follow_the_seed():
    first, again, other = (make_convnet(classes=10, seed=seed)[0].weight for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fan_in = 3 * 11 * 11
    assert first.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
