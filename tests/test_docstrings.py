"""Every public name is documented in full, and its examples run and print what they say."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest

import backlit
from backlit import models

NAMES = [name for name in backlit.__all__ if name != "__version__"]
ATTRIBUTES = {"KINDS": "backlit.runtime.maps.kinds", "RECIPES": "backlit.runtime.boxes.recipes"}


def documented(name: str) -> str:
    """The docstring of a public name; of a table, the string below it."""
    value = getattr(backlit, name)
    if name == "export":
        value = value.export
    if name not in ATTRIBUTES:
        return inspect.getdoc(value) or ""
    source = Path(str(sys.modules[ATTRIBUTES[name]].__file__)).read_text(encoding="utf-8")
    body = ast.parse(source).body
    for made, after in itertools.pairwise(body):
        if isinstance(made, ast.AnnAssign) and ast.unparse(made.target) == name:
            assert isinstance(after, ast.Expr)
            return inspect.cleandoc(ast.literal_eval(after.value))
    return ""


def everything() -> dict[str, str]:
    """Docstrings by name: of the package, its names, and their public methods."""
    found = {"backlit": backlit.__doc__ or ""}
    for name in NAMES:
        found[name] = documented(name)
        value = getattr(backlit, name)
        if inspect.isclass(value) and not issubclass(value, BaseException):
            for base in value.__mro__[:-1]:
                for attribute, member in vars(base).items():
                    shown = member.fget if isinstance(member, property) else member
                    own = str(getattr(shown, "__module__", "")).startswith("backlit.")
                    if own and inspect.isfunction(shown) and not attribute.startswith("_"):
                        found.setdefault(f"{name}.{attribute}", inspect.getdoc(shown) or "")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(models.tiny_convnet(), folder / "tiny_convnet.onnx")
    shutil.copy(models.samples() / "07_mug.jpg", folder / "mug.jpg")
    labels = models.tiny_convnet().with_suffix(".labels.txt").read_text().split()
    backlit.export(
        folder / "tiny_convnet.onnx", folder / "tiny.backlit.onnx", mean=[0.5], std=[0.25],
        labels=labels, verify=False,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("name", everything())
def test_examples_run(
    name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = everything()[name]
    folder = tmp_path / "here"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    assert not said, "".join(said)
    assert test.examples or "." in name, f"{name} has no example"


@pytest.mark.parametrize("name", [n for n in everything() if n != "backlit"])
def test_docstrings_say_what_goes_in_and_comes_out(name: str) -> None:
    text = everything()[name]
    assert text.split("\n")[0].endswith("."), "a first sentence of its own"
    if "." not in name:
        assert "Examples:\n" in text
    value = getattr(backlit, name, None)
    if name in ("export", "differentiate"):
        value = getattr(value, "export", value)
        assert {"Args:", "Returns:", "Raises:"} <= set(text.split())
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        listed = text.split("Attributes:")[1].split("\n\n")[0]
        for field in dataclasses.fields(value):
            assert re.search(rf"^ +{field.name}:", listed, re.MULTILINE), field.name


@pytest.mark.parametrize("name", ["saliency", "localize", "run", "run_dlpack"])
def test_methods_of_a_session_name_each_argument(name: str) -> None:
    method = getattr(backlit.Session, name)
    text = inspect.getdoc(method) or ""
    for argument in [*inspect.signature(method).parameters][1:]:
        assert f"    {argument}: " in text, argument
    assert "Returns:\n" in text
    assert "Raises:\n" in text
