"""The public face: ``import backlit``, and what it costs."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from backlit.export.options import ExportOptions, Keywords

import backlit
from backlit import models

ROOT = Path(__file__).parents[1]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import backlit\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))\n"
        "print([name for name in sys.modules if name.startswith('backlit.')])"
    )
    assert python(code) == "['backlit']\n[]\n"


@pytest.mark.parametrize("name", backlit.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(backlit, name) is not None
    assert name in dir(backlit)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        backlit.Sesion  # noqa: B018  the access is the test


def test_the_version_is_the_packages() -> None:
    assert f'version = "{backlit.__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")


ORDERS = {
    "the name first": "import backlit; f = backlit.export",
    "the package first": "import backlit.export; import backlit; f = backlit.export",
    "a module of it first": "import backlit.export.build, backlit; f = backlit.export",
    "from": "from backlit import export as f",
    "the function": "from backlit.export import export as f; import backlit",
}


@pytest.mark.parametrize("order", ORDERS)
def test_export_is_a_package_that_can_be_called(order: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    code = (
        f"{ORDERS[order]}\n"
        f"report = f({str(models.tiny_convnet())!r}, {str(file)!r}, verify=False)\n"
        "from backlit.export.build import ExportReport\n"
        "print(isinstance(report, ExportReport))"
    )
    assert python(code) == "True\n"
    assert file.stat().st_size > 1000


def test_keywords_and_options_are_the_same() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(ExportOptions)}
    assert {name: str(kind) for name, kind in fields.items()} == {
        name: kind.__forward_arg__ for name, kind in Keywords.__annotations__.items()
    }
    shown = inspect.signature(backlit.export.export).parameters
    assert [*shown] == ["source", "path", "overwrite", *fields]
    assert shown["maps"].default == ("saliency", "features", "gains")


def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    options: dict[str, typing.Any] = {"meen": [0.5]}
    with pytest.raises(TypeError, match="meen"):
        backlit.export(models.tiny_convnet(), tmp_path / "m.onnx", **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("range", "0-9"), ("resize", "fit"), ("input", "int8"), ("precision", "float16"),
     ("relu", "leaky"), ("target", "npu"), ("maps", "lime"), ("without", ["speed"])],
)  # fmt: skip
def test_a_choice_that_there_is_not_is_refused_before_anything_is_done(
    name: str, value: typing.Any, tmp_path: Path
) -> None:
    with pytest.raises(backlit.OptionError, match=value if isinstance(value, str) else value[0]):
        backlit.export(tmp_path / "absent.onnx", tmp_path / "m.onnx", **{name: value})


def test_without_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['onnx_ir'] = None\n"
        "import backlit\n"
        "for name in ('export', 'differentiate', 'ExportReport'):\n"
        "    try: getattr(backlit, name)\n"
        "    except backlit.BacklitError as error: print(error.fix)\n"
        "backlit.Session, backlit.Recipe"
    )
    assert python(code) == "pip install 'backlit[export]'\n" * 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("backlit.export('a', 'b', size=224, maps='saliency')", ""),
        ("backlit.export('a', 'b', sise=224)", 'Unexpected keyword argument "sise"'),
        ("backlit.export('a', 'b', size='224')", 'Argument "size"'),
        ("reveal_type(backlit.Session('a').localize('b'))", "Results[backlit.runtime.results.Loc"),
        ("reveal_type(backlit.Session('a').localize('b')[0].boxes)", "tuple["),
        ("backlit.Session('a').localize('b')[0].boxen", 'has no attribute "boxen"'),
        ("reveal_type(backlit.RECIPES)", "dict[str, backlit.runtime.boxes.recipes.Recipe]"),
    ],
)
def test_type_checkers_see_it(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(f"import backlit\n\n{line}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", file],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert said in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if not said or "reveal" in line else 1)
