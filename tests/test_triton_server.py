"""A repository in a real Triton server, asked by Triton's own client; ``make servers`` runs it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.cli import main
from click.testing import CliRunner
from support import triton_server
from support.pages import ROOT, blocks
from support.service import export_embedded

from backlit import models

pytestmark = pytest.mark.skipif(
    triton_server.found() is None,
    reason="make servers runs these: nvidia-pytriton is not installed",
)
PHOTOS = [path.read_bytes() for path in sorted(models.samples().glob("*.jpg"))]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("triton") / "my_model.backlit.onnx")


@pytest.fixture(scope="module")
def repository(file: Path) -> Path:
    written = file.parent / "repository"
    done = CliRunner().invoke(
        main, ["triton", str(file), "-o", str(written), "--backend", "python", "--max-images", "8"]
    )
    assert done.exit_code == 0, done.output
    return written


@pytest.fixture(scope="module")
def ports(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    with triton_server.served(repository, tmp_path_factory.mktemp("server")) as ports:
        yield ports


@pytest.fixture
def client(ports: tuple[int, int]) -> Iterator[Any]:
    from tritonclient import grpc

    with grpc.InferenceServerClient(f"127.0.0.1:{ports[1]}") as client:
        yield client


def ask(client: Any, data: list[bytes], classes: list[list[int]], model: str = "my_model") -> Any:
    from tritonclient import grpc

    image = grpc.InferInput("image", [len(data), 1], "BYTES")
    image.set_data_from_numpy(np.array(data, np.object_)[:, None])
    index = np.array(classes, np.int64)
    wanted = grpc.InferInput("class_index", list(index.shape), "INT64")
    wanted.set_data_from_numpy(index)
    return client.infer(model, [image, wanted])


def same(answer: Any, row: int, found: Any) -> None:
    assert answer.as_numpy("class")[row].tolist() == found.classes.tolist()
    assert [label.decode() for label in answer.as_numpy("label")[row]] == list(found.labels)
    np.testing.assert_array_equal(answer.as_numpy("score")[row], found.scores)
    boxes = [(-1,) * 4 if box is None else box for box in found.boxes]
    assert [tuple(box) for box in answer.as_numpy("box")[row].tolist()] == boxes


def test_requests_together_are_answered_as_localize_does_and_run_in_batches(
    client: Any, file: Path
) -> None:
    before = statistics(client)
    asked = [(PHOTOS[place % len(PHOTOS)], 1 + place % 2) for place in range(24)]
    with ThreadPoolExecutor(24) as pool:
        answers = pool.map(lambda one: ask(client, [one[0]], [[-1, -2][: one[1]]]), asked)
        session = Session(file, "cpu", threads=1)
        for answer, (photo, top) in zip(answers, asked, strict=True):
            (found,) = session.localize([photo], top=top, crops=1)
            same(answer, 0, found)
    runs = {size: count - before.get(size, 0) for size, count in statistics(client).items()}
    assert sum(size * count for size, count in runs.items()) == 24
    assert max(size for size, count in runs.items() if count) > 1, runs


def statistics(client: Any) -> dict[int, int]:
    """How many runs of the network there were, by their images."""
    said = client.get_inference_statistics("my_model_maps", as_json=True)["model_stats"][0]
    return {
        int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in said["batch_stats"]
    }


def test_several_images_are_one_request(client: Any, file: Path) -> None:
    answer = ask(client, PHOTOS[:3], [[7, -1], [0, -1], [3, -2]])
    found = Session(file, "cpu", threads=1).localize(
        PHOTOS[:3], classes=[[7, -1], [0, -1], [3, -2]], crops=1
    )
    for row, one in enumerate(found):
        same(answer, row, one)
    assert answer.as_numpy("scores").shape == (3, 12)
    assert answer.as_numpy("features").shape == (3, 2, 12, 12)


@pytest.mark.parametrize(
    ("data", "classes", "says"),
    [
        (b"junk", [-1], "not an image of a format"),
        (PHOTOS[0][:700], [-1], "damaged or truncated"),
        (PHOTOS[0], [12], "class 12 is out of range"),
        (PHOTOS[0], [0] * 11, "11 classes are too many"),
    ],
)
def test_a_bad_request_is_refused_and_no_other(
    client: Any, file: Path, data: bytes, classes: list[int], says: str
) -> None:
    from tritonclient.utils import InferenceServerException

    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(ask, client, [photo], [[-1]]) for photo in PHOTOS[:3]]
        with pytest.raises(InferenceServerException, match=says):
            ask(client, [data], [classes])
        for one, found in zip(good, Session(file).localize(PHOTOS[:3], crops=1), strict=True):
            same(one.result(), 0, found)


def test_the_client_of_the_readme(
    ports: tuple[int, int],
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands in the repository and on the page of docs, but for the port."""
    pytest.importorskip("geventhttpclient")
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(PHOTOS[7])
    for page in (repository / "README.md", ROOT / "docs/triton.md"):
        (code,) = [block.text for block in blocks(page) if block.language == "python"]
        assert code.count("localhost:8000") == 1
        exec(code.replace("localhost:8000", f"127.0.0.1:{ports[0]}"), {})
        printed = capsys.readouterr().out
        assert re.search(r"class \[7\]\nlabel \[b'mug'\]\nscore .*\nbox \[\[", printed), printed


def test_a_broken_field_is_refused(repository: Path, tmp_path: Path) -> None:
    """The server does read what is written: a test of a config that fails for another size."""
    broken = tmp_path / "repository"
    shutil.copytree(repository, broken)
    config = broken / "my_model_cut/config.pbtxt"
    text = config.read_text()
    assert text.count("dims: [-1, 12, 12]") == 1
    config.write_text(text.replace("dims: [-1, 12, 12]", "dims: [-1, 13, 12]"))
    said = triton_server.refused(broken, tmp_path)
    assert "in ensemble my_model, ensemble tensor features: inconsistent shape" in said


def test_what_the_server_lacks_is_the_backend_alone(file: Path, tmp_path: Path) -> None:
    """Of a repository for Triton's own onnxruntime backend, which the wheel has not."""
    out = tmp_path / "repository"
    done = CliRunner().invoke(main, ["triton", str(file), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["backend"] == "onnxruntime"
    said = triton_server.refused(out, tmp_path)
    assert "unable to find backend library for backend 'onnxruntime'" in said
    states = dict(re.findall(r"^\| (\w+) +\| 1 +\| (READY|UNAVAILABLE)", said, re.MULTILINE))
    assert states == {
        "my_model_decode": "READY",
        "my_model_cut": "READY",
        "my_model_maps": "UNAVAILABLE",
    }
