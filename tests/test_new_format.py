"""Output formats: a new one is one file and one row, as docs/adding-a-format.md says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.linear_file import write_linear_file

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-format.md").read_text(encoding="utf-8")
SIDE = 24

# What the page's row does, and then the command line.
PROGRAM = """
import importlib.util, sys
from backlit.runtime.output.formats.table import FORMATS
name = "backlit.runtime.output.formats.yolo"
spec = importlib.util.spec_from_file_location(name, sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
FORMATS[module.FORMAT.name] = module.FORMAT
from backlit.runtime.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, two photos, one that is none, and the page's module."""
    folder = tmp_path_factory.mktemp("formats")
    weight = np.random.default_rng(3).standard_normal((3, 3, SIDE, SIDE), np.float32)
    weight[:, :, 8:16, 8:16] *= 20
    write_linear_file(folder / "m.onnx", height=SIDE, width=SIDE, classes=3, weight=weight)
    (folder / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "bad.png").write_bytes(b"no picture")
    (code,) = re.findall(r"```python\n(\"\"\"``yolo``.*?)```", PAGE, re.DOTALL)
    (folder / "yolo.py").write_text(code, encoding="utf-8")
    return folder


def command(work: Path, *args: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PROGRAM, work / "yolo.py", *args]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=work)


def test_it_is_written_beside_the_lines(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("localize", "m.onnx", "photos", "--top", "2", "-o", out, "--format", "yolo")
    done = command(work, *words)
    assert done.returncode == 1, done.stderr  # of the image that is none
    lines = [json.loads(text) for text in (out / "boxes.jsonl").read_text().splitlines()]
    assert [("error" in line) for line in lines] == [False, False, True]
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["0.txt", "1.txt"]
    for name, line in zip(("0.txt", "1.txt"), lines, strict=False):
        rows = [text.split() for text in (out / "labels" / name).read_text().splitlines()]
        wanted = [result for result in line["results"] if result["box"] is not None]
        assert len(rows) == len(wanted) > 0
        for (index, *shares), result in zip(rows, wanted, strict=True):
            across, down, wide, high = (float(share) for share in shares)
            box = [
                (across - wide / 2) * 40, (down - high / 2) * 30,
                (across + wide / 2) * 40, (down + high / 2) * 30,
            ]  # fmt: skip
            assert int(index) == result["class"]
            np.testing.assert_allclose(box, result["box"], atol=1e-3)


def test_a_resumed_run_has_all_of_it(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ("localize", "m.onnx", "photos/0.png", "-o", out, "--format", "yolo")
    assert command(work, *first).returncode == 0
    words = ("localize", "m.onnx", "photos/0.png", "photos/1.png", "-o", out, "--format", "yolo")
    assert command(work, *words, "--resume").returncode == 0
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["0.txt", "1.txt"]


def test_the_command_knows_it(work: Path) -> None:
    assert "labels/NAME.txt (YOLO)" in command(work, "localize", "-h").stdout.replace("\n", " ")
    refused = command(work, "localize", "m.onnx", "photos", "--format", "yolo")
    assert refused.returncode == 2
    assert "--format yolo" in refused.stderr
    unknown = command(work, "localize", "m.onnx", "photos", "--format", "yollo")
    assert unknown.returncode == 2
    assert "'yolo'" in unknown.stderr
