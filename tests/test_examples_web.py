"""The web example, in node: what it reads, resizes and computes is the runtime's.

The run itself needs onnxruntime-web (examples/web/node_modules, NODE_PATH) and skips without.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare
from PIL import Image
from support.example_runs import BRIGHTEST, EXAMPLES, RULES, export_embedded, finished, need, stamp
from support.linear_file import write_linear_file

from backlit import models

# In node as in the browser, but for the picture, which comes as a file of RGBA bytes.
WEB = """
import { readFileSync } from "node:fs";
const [backlit, package_, job] = process.argv.slice(2);
const { prepared, metadata, open, explain, heat } = await import(backlit);
const read = (path) => new Uint8Array(readFileSync(path));
const answers = [];
for (const { model, image, width, height } of JSON.parse(job)) {
  const picture = { width, height, data: read(image) };
  if (package_) {
    const found = await explain(await open(await import(package_), read(model)), picture, 3);
    answers.push(found.results.map((one) => ({
      ...one, map: [...one.map], brightest: [...heat(one.map)].slice(4 * one.map.indexOf(
        one.map.reduce((a, b) => Math.max(a, b)))).slice(0, 4),
    })));
  } else {
    const about = metadata(read(model));
    answers.push({ about, shown: [...prepared(picture, about.image)] });
  }
}
console.log(JSON.stringify(answers));
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("embedded") / "tiny.backlit.onnx")


def web(folder: Path, package: str, cases: list[tuple[Path, np.ndarray]]) -> list[Any]:
    script, jobs = folder / "web.mjs", []
    script.write_text(WEB, encoding="utf-8")
    for number, (model, pixels) in enumerate(cases):
        image = folder / f"{number}.rgba"
        image.write_bytes(Image.fromarray(pixels).convert("RGBA").tobytes())
        height, width = pixels.shape[:2]
        jobs.append({"model": str(model), "image": str(image), "width": width, "height": height})
    done = finished(
        [
            need("node"),
            script,
            (EXAMPLES / "web" / "backlit.js").as_uri(),
            package,
            json.dumps(jobs),
        ]
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_web_reads_metadata_and_resizes(embedded: Path, tmp_path: Path) -> None:
    rng, cases, specs = np.random.default_rng(1), [], []
    for number, (rule, interpolation, channels) in enumerate(RULES):
        for size in [(57, 83), (20, 19), (31, 24)]:
            model = tmp_path / f"{len(cases)}.onnx"
            linear = write_linear_file(
                model, channels=channels, height=31, width=24, resize=rule,
                crop_fraction=(0.875, 0.9)[number % 2],
            )  # fmt: skip
            spec = dataclasses.replace(linear.contract.image, interpolation=interpolation)
            stamp(model, dataclasses.replace(linear.contract, image=spec).to_json())
            cases.append((model, rng.integers(0, 256, (*size, 3), dtype=np.uint8)))
            specs.append(spec)
    for (_, pixels), spec, said in zip(cases, specs, web(tmp_path, "", cases), strict=True):
        view = prepare(pixels, spec).views[0]
        np.testing.assert_array_equal(np.array(said["shown"]).reshape(view.shape), view)
        assert said["about"]["image"] == dataclasses.asdict(spec)
    (said,) = web(tmp_path, "", [(embedded, cases[0][1])])
    assert tuple(said["about"]["labels"]) == Session(embedded, "cpu").contract.labels


def test_web_runs(embedded: Path, tmp_path: Path) -> None:
    folders = [EXAMPLES / "web" / "node_modules"]
    folders += [Path(p) for p in os.environ.get("NODE_PATH", "").split(os.pathsep) if p]
    scripts = (folder / "onnxruntime-web" / "dist" / "ort.node.min.mjs" for folder in folders)
    package = next((path for path in scripts if path.exists()), None)
    if package is None:
        pytest.skip("no onnxruntime-web: npm install in examples/web")
    session = Session(embedded, "cpu")
    names = ("03_flower", "07_mug")
    photos = [load(models.samples() / f"{name}.jpg") for name in names]
    answers = web(tmp_path, package.as_uri(), [(embedded, photo) for photo in photos])
    for found, wanted in zip(answers, session.saliency(photos, top=3), strict=True):
        assert [one["class"] for one in found] == wanted.classes.tolist()
        assert tuple(one["label"] for one in found) == tuple(wanted.labels or ())
        np.testing.assert_allclose([one["score"] for one in found], wanted.scores, rtol=1e-4)
        for one, map_ in zip(found, wanted.maps, strict=True):
            seen = np.array(one["map"]).reshape(map_.shape)
            assert np.linalg.norm(seen - map_) <= 1e-4 * np.linalg.norm(map_)
            assert tuple(one["brightest"]) == (*BRIGHTEST, 255)
