"""How much a command says: -v, -q, and the logger of the package."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.backend import file as opening
from backlit.runtime.cli import main, voice
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file

LOG = logging.getLogger("backlit")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice")
    write_linear_file(folder / "m.onnx")
    Image.fromarray(np.full((8, 6, 3), 90, np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, stream = (LOG.level, LOG.propagate, list(LOG.handlers)), sys.stderr
    yield
    assert (LOG.level, LOG.propagate, LOG.handlers) == before
    assert voice._loud is None
    assert sys.stderr is stream


def run(*args: Any) -> Any:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def saliency(work: Path, before: list[str], after: list[str], image: str = "a.png") -> Any:
    providers = ["--providers", "cpu"]
    return run(*before, "saliency", work / "m.onnx", work / image, *providers, *after)


def test_usually_it_says_how_many_images_were_done(work: Path) -> None:
    done = saliency(work, [], [])
    assert done.stderr == "1 of 1 images on cpu\n"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_leaves_stderr_empty_and_stdout_as_it_is(work: Path, place: int, option: str) -> None:
    given: list[list[str]] = [[], []]
    given[place] = [option]
    done = saliency(work, *given)
    assert done.exit_code == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["classes"]


@pytest.mark.parametrize("place", [0, 1])
def test_quiet_still_says_errors(work: Path, place: int) -> None:
    given: list[list[str]] = [[], []]
    given[place] = ["-q"]
    done = saliency(work, *given, image="b.png")
    assert done.exit_code == 1
    assert done.stderr == f"error: {work / 'b.png'} does not exist.\n  fix: check the path.\n"
    done = run("-q", "info", work / "absent.onnx")
    assert done.exit_code == 1
    assert "absent.onnx does not exist" in done.stderr
    done = run("-q", "saliency", work / "m.onnx")
    assert done.exit_code == 2
    assert "Missing argument" in done.stderr


@pytest.mark.parametrize("place", [0, 1])
def test_verbose_says_what_was_opened_and_on_what(work: Path, place: int) -> None:
    given: list[list[str]] = [[], []]
    given[place] = ["-v"]
    done = saliency(work, *given)
    first, last = done.stderr.splitlines()
    assert first == f"info: {work / 'm.onnx'} is open on cpu: 5 classes, maps saliency"
    assert last == "1 of 1 images on cpu"
    assert json.loads(done.stdout)["classes"]


def test_very_verbose_says_which_providers_do_not_load(work: Path) -> None:
    quiet = run("-v", "saliency", work / "m.onnx", work / "a.png")
    loud = run("saliency", work / "m.onnx", work / "a.png", "-vv")
    assert "debug:" not in quiet.stderr
    assert "debug: the provider tensorrt does not load: " in loud.stderr


@pytest.mark.parametrize(("before", "after"), [("-qv", ""), ("-q", "-v"), ("-v", "-q")])
def test_both_are_a_contradiction(work: Path, before: str, after: str) -> None:
    done = saliency(work, [before], [after] if after else [])
    assert done.exit_code == 2
    assert "-v and -q contradict each other" in done.stderr


@pytest.mark.parametrize("last", ["--version", "--bogus", "-h"])
def test_quiet_ends_with_the_command(last: str) -> None:
    done = run("-q", last)  # and the fixture looks at what is left
    assert done.output


def test_the_library_logs_images_that_it_skips(work: Path, capsys: Any) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        Session(work / "m.onnx", "cpu").saliency([work / "a.png", work / "no.png"])
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(logging.NOTSET)
    opened, skipped = records
    assert (opened.name, opened.levelname) == ("backlit", "INFO")
    assert opened.getMessage().startswith(f"{work / 'm.onnx'} is open on cpu")
    assert skipped.levelname == "WARNING"
    assert "no.png does not exist. check the path." in skipped.getMessage()
    assert capsys.readouterr() == ("", "")


def test_a_provider_that_fails_on_the_file_is_named(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backlit.runtime.errors import ModelError

    row = opening.PROVIDERS["cpu"]
    real = row.start

    def start(file: Any, names: Any) -> Any:
        if names == ("cpu", "cpu"):
            raise ModelError("it does not fit.", "take another.")
        return real(file, names)

    monkeypatch.setattr(opening, "candidates", lambda _: [("cpu", "cpu"), ("cpu",)])
    monkeypatch.setitem(
        opening.PROVIDERS,
        "cpu",
        opening.PROVIDERS["cpu"].__class__(**{**vars(row), "start": start}),
    )
    done = run("saliency", work / "m.onnx", work / "a.png")
    assert f"warning: {work / 'm.onnx'} does not run on cpu: it does not fit." in done.stderr
