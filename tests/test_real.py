"""Real trained classifiers on labelled ILSVRC images: export, verify, and the accuracy they had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare
from support.real import NAMES, QUICK, entry, options
from support.slow import some_slow


@pytest.mark.parametrize("name", some_slow(NAMES, set(NAMES) - QUICK))
def test_export_verifies_and_accuracy_is_the_manifests(
    name: str, shared: Path, tmp_path: Path
) -> None:
    model = entry(shared, name)
    file = tmp_path / "model.onnx"
    report = export(shared / model["file"], file, **options(model))
    verified = report.contract.verification
    assert verified is not None
    assert verified.cosine >= 0.9999
    assert verified.relative_l2 <= 1e-2
    assert report.refused == ()

    session = Session(file, "cpu")
    manifest = json.loads((shared / "manifest.json").read_text())
    images = [i for i in manifest["images"] if i["split"] == "dev"]
    top1 = top5 = 0
    for start in range(0, len(images), 8):
        part = images[start : start + 8]
        views = [prepare(load(shared / i["file"]), session.contract.image).views for i in part]
        scores = session.run(np.concatenate(views), np.full((len(part), 1), -1)).scores
        for image, ranked in zip(part, scores.argsort(1)[:, ::-1], strict=True):
            top1 += int(ranked[0] in image["classes"])
            top5 += bool(set(ranked[:5].tolist()) & set(image["classes"]))
    expected = model["accuracy"]["ilsvrc_val_227/dev"]
    assert len(images) == expected["n"]
    assert top1 / len(images) == pytest.approx(expected["top1"], abs=0.0035)  # one image
    assert top5 / len(images) == pytest.approx(expected["top5"], abs=0.0035)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_classifiers_own(name: str, shared: Path, tmp_path: Path) -> None:
    path = shared / entry(shared, name)["file"]
    file = tmp_path / "model.onnx"
    export(path, file, input="float32", verify=False)
    cpu = ["CPUExecutionProvider"]
    plain, backlit = (ort.InferenceSession(str(p), providers=cpu) for p in (path, file))
    shape = [d if isinstance(d, int) else 1 for d in plain.get_inputs()[0].shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if "BGR" in str(entry(shared, name)["preprocess"]):
        x *= 60
    expected = plain.run(None, {plain.get_inputs()[0].name: x})[0].reshape(1, -1)
    found = backlit.run(["scores"], {"image": x, "class_index": np.array([[-1]])})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
