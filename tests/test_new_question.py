"""Questions of the trust report: a new one is one file and one row, as the page in docs says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from backlit.export import export

from backlit import models

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-question.md").read_text(encoding="utf-8")

# What the page's row does, and then the command line.
PROGRAM = """
import importlib.util, sys
from backlit.export.trust.questions.table import QUESTIONS
name = "backlit.export.trust.questions.variety"
spec = importlib.util.spec_from_file_location(name, sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
QUESTIONS.append(module.Variety())
from backlit.runtime.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, and the page's module."""
    folder = tmp_path_factory.mktemp("question")
    export(models.tiny_convnet(), folder / "t.onnx", verify=False)
    (code,) = re.findall(r"```python\n(\"\"\"Do the maps differ.*?)```", PAGE, re.DOTALL)
    (folder / "variety.py").write_text(code, encoding="utf-8")
    return folder


def report(work: Path, out: Path, limit: int) -> tuple[str, dict[str, object], str]:
    """What the terminal shows, the record, and the page."""
    words = [
        sys.executable, "-c", PROGRAM, str(work / "variety.py"), "verify", str(work / "t.onnx"),
        "--report", str(out), "--images", str(models.samples()), "--limit", str(limit),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (out / "trust.html").read_text(encoding="utf-8")
    return done.stderr, json.loads((out / "trust.json").read_text()), page


def test_it_is_told_recorded_and_shown(work: Path, tmp_path: Path) -> None:
    said, record, page = report(work, tmp_path, 3)
    section = record["variety"]
    assert isinstance(section, dict)
    assert section["maps"].keys() == {"saliency", "features", "gains"}
    for name, value in section["maps"].items():
        assert -1 <= value < 0.99
        assert f"variety: {name} {value:.3f}" in said
        assert f"{name} {value:.3f}" in page  # the verdict, in the head too
    assert "Do the maps differ from image to image?" in page
    assert "variety" in record["seconds"]  # type: ignore[operator]


def test_what_it_lacks_is_said(work: Path, tmp_path: Path) -> None:
    said, record, page = report(work, tmp_path, 1)
    assert record["variety"] == {"missing": "two images or more."}
    assert "variety: not measured: two images or more." in said
    assert "Not measured: two images or more." in page
