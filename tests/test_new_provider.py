"""Execution providers: a new one is one file and one row, as docs/adding-a-provider.md says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from backlit.runtime import Session
from backlit.runtime.backend import creation, probing
from backlit.runtime.backend.plan import plan
from backlit.runtime.backend.provider import Provider
from backlit.runtime.backend.providers.table import PROVIDERS
from backlit.runtime.cli import main
from backlit.runtime.errors import OptionError
from click.testing import CliRunner, Result
from PIL import Image
from support.linear_file import write_linear_file

PAGE = (Path(__file__).parents[1] / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
NAME = "backlit.runtime.backend.providers.madeup"


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Provider]:
    """The provider of the page, in the table."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "madeup.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(NAME, tmp_path / "madeup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(PROVIDERS, "madeup", module.PROVIDER)
    probing.probe.cache_clear()
    yield module.PROVIDER
    probing.probe.cache_clear()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What ONNX Runtime is given for each session: providers and their options."""
    seen: list[Any] = []
    create = onnxruntime.InferenceSession

    def spy(*args: Any, **named: Any) -> Any:
        seen.append(list(zip(named["providers"], named["provider_options"], strict=True)))
        return create(*args, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    return seen


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_linear_file(tmp_path / "m.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path


def backlit(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def pixels(n: int) -> Any:
    return np.random.default_rng(n).integers(0, 256, (n, 8, 6, 3), dtype=np.uint8)


def test_the_command_takes_it_and_its_option(row: Provider, work: Path, given: list[Any]) -> None:
    words = ["saliency", work / "m.onnx", work / "a.png", "--providers", "madeup"]
    done = backlit(*words, "--provider-option", "madeup.speed=7")
    assert done.exit_code == 0, done.stderr
    assert "1 of 1 images on madeup" in done.stderr
    assert given[-1] == [("CPUExecutionProvider", {"speed": "7"})]
    on_cpu = backlit("saliency", work / "m.onnx", work / "a.png", "--providers", "cpu")
    assert json.loads(done.stdout) == json.loads(on_cpu.stdout)
    assert backlit(*words).exit_code == 0
    assert given[-1] == [("CPUExecutionProvider", {"speed": "5"})]


def test_a_session_runs_on_it_in_its_own_batches(row: Provider, work: Path) -> None:
    session = Session(work / "m.onnx", "madeup")
    assert session.provider == "madeup"
    images, index = pixels(3), np.array([[0, 4]] * 3)
    found, truth = session.run(images, index), Session(work / "m.onnx", "cpu").run(images, index)
    np.testing.assert_array_equal(found.scores, truth.scores)
    np.testing.assert_array_equal(found.saliency, truth.saliency)
    session = Session(work / "m.onnx", "madeup")
    assert len(session.saliency(list(pixels(8)))) == 8
    assert set(session._bindings._kept) == {(6, 1), (2, 1)}  # type: ignore[attr-defined]
    assert plan("madeup", 3, 100) == (3, 1)


def test_each_provider_is_tried_once_from_the_option_to_the_session(
    row: Provider, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []
    create = creation.create

    def spy(ort: Any, model: Any, *args: Any, **named: Any) -> Any:
        tried.append(model == probing._TINY)
        return create(ort, model, *args, **named)

    monkeypatch.setattr(creation, "create", spy)
    done = backlit("saliency", work / "m.onnx", work / "a.png", "--providers", "madeup")
    assert done.exit_code == 0, done.stderr
    assert tried == [True, False]  # the network of one node, then the file


def test_its_row_is_in_the_lists(row: Provider, work: Path) -> None:
    assert "madeup" in backlit("doctor").stdout
    with pytest.raises(OptionError) as caught:
        Session(work / "m.onnx", "gpu")
    assert "madeup" in caught.value.fix
    with pytest.raises(OptionError, match="is no number"):
        Session(work / "m.onnx", "madeup", options={"madeup": {"speed": "x"}})


def test_where_it_does_not_load_its_own_words_say_why(
    row: Provider, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = creation.create

    def fails(ort: Any, model: Any, rows: Any, *args: Any, **named: Any) -> Any:
        if row in rows:
            raise RuntimeError("nothing there")
        return create(ort, model, rows, *args, **named)

    monkeypatch.setattr(creation, "create", fails)
    done = backlit("saliency", work / "m.onnx", work / "a.png", "--providers", "madeup")
    assert done.exit_code == 1
    assert "'madeup' does not load: no madeup board is plugged in" in done.stderr
    assert "fix: plug one in" in done.stderr
