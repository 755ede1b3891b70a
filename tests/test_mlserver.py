"""A folder in a real MLServer, asked by HTTP and by gRPC; ``make servers`` runs most of it."""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.serving.answers import map_picture
from click.testing import CliRunner
from PIL import Image
from support import mlserver
from support.pages import ROOT, blocks
from support.service import export_embedded

from backlit import models

PHOTOS = [path.read_bytes() for path in sorted(models.samples().glob("*.jpg"))]
real = pytest.mark.skipif(
    not mlserver.INSTALLED, reason="make servers runs these: MLServer is not installed"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("mlserver") / "my_model.backlit.onnx")


def write(file: Path, out: Path, *options: str) -> Any:
    return CliRunner().invoke(main, ["mlserver", str(file), "-o", str(out), *options])


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[mlserver.Server]:
    assert write(file, file.parent / "folder").exit_code == 0
    with mlserver.served(file.parent / "folder", file.parent / "log.txt") as server:
        yield server


def request(photos: list[bytes], classes: list[list[int]] | None = None, *names: str) -> Any:
    texts = [base64.b64encode(photo).decode() for photo in photos]
    inputs: list[Any] = [{"name": "image", "datatype": "BYTES", "shape": [len(texts), 1],
                          "data": texts}]  # fmt: skip
    if classes is not None:
        shape = [len(classes), len(classes[0])]
        data = [index for row in classes for index in row]
        inputs += [{"name": "class_index", "datatype": "INT64", "shape": shape, "data": data}]
    return {"inputs": inputs} | ({"outputs": [{"name": name} for name in names]} if names else {})


def same(outputs: dict[str, Any], found: Any) -> None:
    """One image's answer and what ``localize`` finds."""
    assert outputs["class"]["data"] == found.classes.tolist()
    assert outputs["label"]["data"] == list(found.labels)
    np.testing.assert_array_equal(np.float32(outputs["score"]["data"]), found.scores)
    boxes = [(-1,) * 4 if box is None else box for box in found.boxes]
    assert outputs["box"]["shape"] == [1, len(boxes), 4]
    assert outputs["box"]["data"] == [edge for box in boxes for edge in box]


INFER, EXPLAIN = "/v2/models/my_model/infer", "/v2/models/my_model:explain"


@real
def test_requests_together_are_answered_as_localize_does_and_run_in_batches(
    server: mlserver.Server, file: Path
) -> None:
    """With other numbers of classes, and with bad images among them."""
    asked = [(PHOTOS[place % len(PHOTOS)], 1 + place % 2) for place in range(24)]
    bodies = [request([photo], [[-1, -2][:top]]) for photo, top in asked]
    bad = request([b"junk"])
    with ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(server.ask, INFER, body) for body in bodies]
        junk = [pool.submit(server.ask, INFER, bad) for _ in range(4)]
        session = Session(file, "cpu", threads=1)
        for answer, (photo, top) in zip(answers, asked, strict=True):
            (found,) = session.localize([photo], top=top)
            same(answer.result().outputs(), found)
    assert {one.result().status for one in junk} == {422}
    metrics = f"http://127.0.0.1:{server.metrics}/metrics"
    with urllib.request.urlopen(metrics) as answer:
        text = answer.read().decode()
    (images,) = re.findall(r"^backlit_batch_images_sum.* (\S+)$", text, re.MULTILINE)
    (runs,) = re.findall(r"^backlit_batch_images_count.* (\S+)$", text, re.MULTILINE)
    assert float(images) == 24
    assert float(runs) < 24


@real
def test_explain_adds_maps_as_pictures(server: mlserver.Server, file: Path) -> None:
    body = request([PHOTOS[0]], [[-1, 3]])
    outputs = server.ask(EXPLAIN, body).outputs()
    (found,) = Session(file, "cpu", threads=1).localize([PHOTOS[0]], classes=[-1, 3])
    same({name: outputs[name] for name in ("class", "label", "score", "box")}, found)
    for text, values in zip(outputs["map_png"]["data"], found.maps, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        np.testing.assert_array_equal(picture, np.asarray(map_picture(values)))
    assert outputs["map_box"]["data"] == [0, 0, found.width, found.height]
    named = server.ask(INFER, request([PHOTOS[0]], [[-1, 3]], "map")).outputs()
    assert list(named) == ["map"]
    assert named["map"]["shape"] == [1, *found.maps.shape]
    np.testing.assert_array_equal(np.float32(named["map"]["data"]), found.maps.ravel())


@real
def test_pixels_and_several_images(server: mlserver.Server, file: Path) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(PHOTOS[7])).convert("RGB"))[None, :64, :80]
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape),
              "data": pixels.ravel().tolist()}  # fmt: skip
    (found,) = Session(file, "cpu", threads=1).localize(pixels)
    same(server.ask(INFER, {"inputs": [tensor]}).outputs(), found)
    many = server.ask(INFER, request(PHOTOS[:3], [[7], [0], [3]])).outputs()
    assert many["class"]["data"] == [7, 0, 3]
    results = Session(file, "cpu", threads=1).localize(PHOTOS[:3], classes=[[7], [0], [3]])
    assert many["box"]["data"] == [edge for one in results for edge in one.boxes[0] or (-1,) * 4]


@real
def test_grpc(server: mlserver.Server, file: Path) -> None:
    from tritonclient import grpc  # the protocol is that of Triton, and so is its client

    image = grpc.InferInput("image", [2, 1], "BYTES")
    image.set_data_from_numpy(np.array([[PHOTOS[0]], [PHOTOS[1]]], np.object_))
    index = grpc.InferInput("class_index", [2, 2], "INT64")
    index.set_data_from_numpy(np.array([[-1, -2], [-1, 3]]))
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        answer = client.infer("my_model", [image, index])
        said = client.get_model_metadata("my_model", as_json=True)
    assert [one["name"] for one in said["inputs"]] == ["image", "class_index"]
    found = Session(file, "cpu", threads=1).localize(PHOTOS[:2], classes=[[-1, -2], [-1, 3]])
    for row, one in enumerate(found):
        assert answer.as_numpy("class")[row].tolist() == one.classes.tolist()
        assert [label.decode() for label in answer.as_numpy("label")[row]] == list(one.labels)
        np.testing.assert_array_equal(answer.as_numpy("score")[row], one.scores)
        assert [tuple(box) for box in answer.as_numpy("box")[row].tolist()] == list(one.boxes)


@real
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (request([b"junk"]), "not an image of a format"),
        (request([PHOTOS[0][:700]]), "damaged or truncated"),
        (request([PHOTOS[0]], [[12]]), "class 12 is out of range"),
        (request([PHOTOS[0]], [[0] * 11]), "11 classes are too many"),
        (request([PHOTOS[0]], None, "mask"), "there is no output 'mask'"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}, "no input"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1]}]}, "FP32"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2], "data": [1, 1]}]}, "UI"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [3], "data": [1]}]}, "fit"),
        (request([PHOTOS[0]], [[1], [2]]), "classes has 2 rows for 1 images"),
        (request([]), "the request has no image"),
        (
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["$"]}]},
            "the image is not base64",
        ),
    ],
)
def test_bad_requests(server: mlserver.Server, body: Any, says: str) -> None:
    reply = server.ask(INFER, body)
    assert reply.status == 422
    assert re.search(says, reply.json()["error"])
    assert "Traceback" not in server.log.read_text()


@real
def test_the_page(
    server: mlserver.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its Python, as it stands there but for the ports."""
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(PHOTOS[7])
    codes = [
        block.text for block in blocks(ROOT / "docs/mlserver.md") if block.language == "python"
    ]
    assert len(codes) == 2
    for code in codes:
        own = code.replace("localhost:8080", f"127.0.0.1:{server.http}")
        assert own != code or "localhost:8081" in code
        exec(own.replace("localhost:8081", f"127.0.0.1:{server.grpc}"), {})
        assert "mug" in capsys.readouterr().out
    with Image.open("map.png") as picture:
        assert picture.size == (96, 96)


def test_what_is_written(file: Path, tmp_path: Path) -> None:
    done = write(file, tmp_path, "--name", "birds", "--recipe", "threshold", "--max-top", "3")
    assert json.loads(done.stdout)["files"] == [
        "birds.onnx", "model-settings.json", "settings.json"
    ]  # fmt: skip
    assert (tmp_path / "birds.onnx").read_bytes() == file.read_bytes()
    said = json.loads((tmp_path / "model-settings.json").read_text())
    assert said["name"] == "birds"
    assert said["parameters"] == {
        "uri": "./birds.onnx",
        "extra": {"recipe": "threshold", "map": "object", "max_top": 3},
    }
    assert write(file, tmp_path, "--name", "birds").exit_code == 0  # Backlit's own is replaced
    (tmp_path / "settings.json").write_text("{}")
    changed = write(file, tmp_path, "--name", "birds")
    assert changed.exit_code == 1
    assert "settings.json cannot be written: a file is there" in changed.stderr
    assert (tmp_path / "settings.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--name", "../up"), "'../up' is no name of a model"),
        (("--map", "gradcam"), "the file returns no 'gradcam' map"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], says: str, file: Path, tmp_path: Path
) -> None:
    done = write(file, tmp_path / "out", *options)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not (tmp_path / "out").exists()
