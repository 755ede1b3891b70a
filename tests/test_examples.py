"""The C++ and Rust examples are built and run, and say what the runtime says.

They take the library out of onnxruntime's wheel. C++ also needs ONNX Runtime's headers,
nlohmann/json and stb where CMake finds them (CMAKE_PREFIX_PATH, ORT_HOME); without, its tests skip.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from backlit.runtime import Session
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare
from PIL import Image
from support.example_runs import BRIGHTEST, EXAMPLES, RULES, export_embedded, finished, need, stamp
from support.linear_file import write_linear_file

from backlit import models


@dataclasses.dataclass(frozen=True)
class Answer:
    number: int
    label: str | None
    score: float
    map: np.ndarray  # float32 [H,W]
    sheet: np.ndarray  # uint8 [H,2W,3]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ONNX Runtime's release has it, with lib/libonnxruntime.so."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("this onnxruntime has no libonnxruntime.so")
    home = tmp_path_factory.mktemp("onnxruntime")
    (home / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (home / "lib" / name).symlink_to(found[0])
    return home


@pytest.fixture(scope="module")
def cpp(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ example, built as its README says, warnings as errors."""
    cmake, build = need("cmake"), tmp_path_factory.mktemp("cpp")
    configured = finished([
        cmake, "-S", EXAMPLES / "cpp", "-B", build, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
        f"-DONNXRUNTIME_LIBRARY={library}/lib/libonnxruntime.so",
    ])  # fmt: skip
    if configured.returncode:
        missing = re.findall(r"(?:Could not find|No) (\w+)", configured.stderr)
        if set(missing) & {
            "ONNXRUNTIME_INCLUDE",
            "JSON_INCLUDE",
            "STB_INCLUDE",
            "CMAKE_CXX_COMPILER",
        }:
            pytest.skip(f"CMake finds no {missing[0]}: see examples/cpp/README.md")
    assert configured.returncode == 0, configured.stderr
    built = finished([cmake, "--build", build])
    assert built.returncode == 0, built.stdout + built.stderr
    return build


@pytest.fixture(scope="module")
def rust(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Rust example, built as its README says, without a network, warnings as errors."""
    cargo, folder = need("cargo"), tmp_path_factory.mktemp("rust") / "rust"
    shutil.copytree(EXAMPLES / "rust", folder, ignore=shutil.ignore_patterns("target"))
    built = finished(
        [cargo, "build", "--release", "--offline", "--locked"],
        cwd=folder,
        env={**os.environ, "ORT_HOME": str(library), "RUSTFLAGS": "-D warnings"},
    )
    assert built.returncode == 0, built.stderr
    return folder / "target" / "release"


@pytest.fixture(scope="module", params=["cpp", "rust"])
def program(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder / "saliency"


@pytest.fixture
def answer(program: Path, tmp_path: Path) -> Callable[[Path, Path], Answer]:
    def ask(model: Path, image: Path) -> Answer:
        out = tmp_path / "out"
        done = finished([program, model, image, out])
        assert (done.returncode, done.stderr) == (0, "")
        if done.stdout.startswith("{"):
            said = json.loads(done.stdout)
            number, label, score = said["class"], said["label"], said["score"]
        else:
            number, score, label = done.stdout.rstrip("\n").split(" ", 2)
        sheet = tmp_path / ("out.png" if (tmp_path / "out.png").exists() else "out.ppm")
        pixels = np.asarray(Image.open(sheet))
        return Answer(int(number), label, float(score), pfm(tmp_path / "out.pfm"), pixels)

    return ask


def pfm(path: Path) -> np.ndarray:
    """A grey portable float map, little endian, as float32 [H,W], the top row first."""
    magic, size, order, data = path.read_bytes().split(b"\n", 3)
    assert (magic, float(order)) == (b"Pf", -1.0)
    width, height = map(int, size.split())
    return np.frombuffer(data, "<f4").reshape(height, width)[::-1]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("embedded") / "tiny.backlit.onnx")


@pytest.mark.parametrize("name", ["03_flower", "07_mug"])
def test_class_label_score_and_map_are_the_runtimes(
    name: str, answer: Callable[[Path, Path], Answer], embedded: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.ppm"
    Image.open(models.samples() / f"{name}.jpg").save(photo)
    session = Session(embedded, "cpu")
    (wanted,) = session.saliency(photo)
    found = answer(embedded, photo)
    assert found.number == int(name[:2]) == wanted.classes[0]
    assert found.label == wanted.labels[0]
    assert found.score == pytest.approx(float(wanted.scores[0]), rel=1e-5)
    np.testing.assert_allclose(found.map, wanted.maps[0], rtol=0, atol=1e-5 * wanted.maps[0].max())

    view = prepare(load(photo), session.contract.image).views[0]
    np.testing.assert_array_equal(found.sheet[:, :96], view)
    peak = np.unravel_index(found.map.argmax(), found.map.shape)
    assert tuple(found.sheet[:, 96:][peak]) == BRIGHTEST
    assert np.corrcoef(found.sheet[:, 96:, 0].ravel(), found.map.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("rule", "interpolation", "channels"), RULES)
def test_pictures_are_resized_as_the_metadata_says(
    rule: str, interpolation: str, channels: int,
    answer: Callable[[Path, Path], Answer], tmp_path: Path,
) -> None:  # fmt: skip
    rng = np.random.default_rng(0)
    model, photo = tmp_path / "m.onnx", tmp_path / "photo.ppm"
    for (height, width), fraction in [((31, 24), 0.875), ((24, 31), 0.9), ((40, 40), 1.0)]:
        linear = write_linear_file(
            model, channels=channels, height=height, width=width, resize=rule,
            crop_fraction=fraction, labels=("a", "b", "c", "d", "e"),
        )  # fmt: skip
        spec = dataclasses.replace(linear.contract.image, interpolation=interpolation)
        stamp(model, dataclasses.replace(linear.contract, image=spec).to_json())
        # Larger, smaller, the same; and reduced more in height, where Pillow 13 goes down first.
        for size, tolerance in [((57, 83), 0), ((20, 19), 0), ((height, width), 0), ((120, 50), 1)]:
            if tolerance and interpolation == "bicubic":
                continue
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photo)
            view = prepare(pixels, spec).views[0]
            found = answer(model, photo)
            seen = found.sheet[:, :width].astype(int)
            assert np.abs(seen - view).max() <= tolerance
            scores = linear.scores(seen[None, ..., :channels].astype(np.uint8))[0]
            assert found.number == scores.argmax()
            assert found.score == pytest.approx(scores.max(), rel=1e-4, abs=1e-4)
            np.testing.assert_allclose(found.map, linear.saliency()[found.number], rtol=1e-5)


def test_mistakes_end_with_what_to_do(program: Path, tmp_path: Path) -> None:
    photo, model, out = tmp_path / "photo.ppm", tmp_path / "m.onnx", tmp_path / "out"
    Image.new("RGB", (9, 7)).save(photo)

    def error(*arguments: Any) -> tuple[int, str]:
        done = finished([program, *arguments])
        assert done.stdout == ""
        return done.returncode, done.stderr

    assert error() == (2, error()[1])
    assert "usage" in error()[1]
    write_linear_file(model, metadata=False)
    assert error(model, photo, out)[0] == 1
    assert "backlit export" in error(model, photo, out)[1]
    contract = write_linear_file(model, metadata='{"schema": 3}').contract
    assert "schema" in error(model, photo, out)[1]
    stamp(model, contract.to_json()[:-1])
    assert error(model, photo, out)[0] == 1
    write_linear_file(model, dtype="float32")
    assert "--input uint8" in error(model, photo, out)[1]
    write_linear_file(model, output="gradient")
    assert "saliency" in error(model, photo, out)[1]
    assert error(tmp_path / "no.onnx", photo, out)[0] == 1
    write_linear_file(model)
    assert "no.ppm" in error(model, tmp_path / "no.ppm", out)[1]
    photo.write_bytes(photo.read_bytes()[:-50])
    assert error(model, photo, out)[0] == 1
    assert not list(tmp_path.glob("out*"))


def test_cpp_reads_png(cpp: Path, embedded: Path, tmp_path: Path) -> None:
    Image.open(models.samples() / "07_mug.jpg").save(tmp_path / "photo.png")
    done = finished([cpp / "saliency", embedded, tmp_path / "photo.png", tmp_path / "out"])
    (wanted,) = Session(embedded, "cpu").saliency(tmp_path / "photo.png")
    assert json.loads(done.stdout)["score"] == pytest.approx(float(wanted.scores[0]), rel=1e-5)


def test_rust_takes_functions_from_their_places_in_the_header(cpp: Path, tmp_path: Path) -> None:
    declared = (EXAMPLES / "rust" / "src" / "ort.rs").read_text(encoding="utf-8")
    places = re.findall(r"^    (\d+) (\w+)\(", declared, re.M)
    assert len(places) > 20
    lines = "".join(f"show({name})\n" for _, name in places)
    source = tmp_path / "places.c"
    source.write_text(
        "#include <onnxruntime_c_api.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        '#define show(name) printf("%zu " #name "\\n", offsetof(OrtApi, name) / sizeof(void *));\n'
        f"int main(void) {{\n{lines}return 0;\n}}\n"
    )
    cache = (cpp / "CMakeCache.txt").read_text()
    (include,) = re.findall(r"^ONNXRUNTIME_INCLUDE:PATH=(.*)$", cache, re.M)
    program = tmp_path / "places"
    built = finished([need("cc"), "-I", include, source, "-o", program])
    assert built.returncode == 0, built.stderr
    shown = [tuple(line.split()) for line in finished([program]).stdout.splitlines()]
    assert shown == places
