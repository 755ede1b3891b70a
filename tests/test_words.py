"""One word, one thing: the commands' options, and how errors are worded."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import onnx
import pytest
from backlit.export.maps.table import MAPS
from backlit.runtime.cli import COMMANDS, main
from backlit.runtime.maps.kinds import KINDS

ROOT = Path(__file__).parents[1]
NAMES = {  # what may begin a sentence with a capital: names
    "ONNX", "TensorRT", "TensorRT's", "NVIDIA", "NVIDIA's", "OpenCV", "OpenVINO", "CUDA",
    "GridSample", "Integrated", "SmoothGrad", "DLPack", "COCO", "VOC", "SVG", "EPContext",
}  # fmt: skip
OPERATORS = {schema.name for schema in onnx.defs.get_all_schemas()}
FOREIGN = {"TypeError", "ValueError", "AttributeError", "RuntimeError", "ImportError", "OSError"}
PASTED = re.compile(r"(backlit|pip install) [^ ].*[^ .,;]$")  # a fix may end with a command


def options() -> Iterator[tuple[str, click.Option]]:
    parent = click.Context(main, info_name="backlit", **main.context_settings)
    for name in COMMANDS:
        command = main.get_command(parent, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield name, parameter


def long(option: click.Option) -> str:
    return max(option.opts, key=len)


def test_where_results_go_is_out_everywhere() -> None:
    for command, option in options():
        assert ("-o" in option.opts) == ("--out" in option.opts), (command, option.opts)
    writing = {command for command, option in options() if long(option) == "--out"}
    assert writing == {
        "export", "saliency", "localize", "visualize", "evaluate", "build", "bench", "demo",
        "triton", "mlserver",
    }  # fmt: skip


def test_no_option_of_old_and_no_second_word_for_the_same() -> None:
    seen = {long(option) for _, option in options()}
    assert not seen & {"--output", "--saliency", "--k", "--classes", "--max-classes", "--provider"}
    assert {"--map", "--maps", "--top", "--out", "--class"} <= seen


def test_an_option_is_of_one_kind_in_all_commands() -> None:
    """The same name has the same short form, takes the same kind of value, or is a flag."""
    kinds: dict[str, set[object]] = {}
    for _, option in options():
        of = type(option.type).__name__.replace("IntRange", "IntParamType")
        kinds.setdefault(long(option), set()).add((*option.opts, option.is_flag, of))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_a_map_has_one_name_in_files_commands_and_python() -> None:
    of_a_file = ["saliency", "gradient", "features", "gains", "gradcam", "layercam"]
    expected = [*of_a_file, "object", "smoothgrad", "ig", "gradxinput"]
    assert list(KINDS) == expected
    assert [kind.name for kind in KINDS.values()] == expected
    assert set(MAPS) == set(of_a_file)
    for command, option in options():
        if long(option) == "--map":
            assert isinstance(option.type, click.Choice), command
            assert list(option.type.choices) == expected


def errors() -> Iterator[tuple[str, str, str]]:
    """Where an error is made, its problem and its fix; {} for what is filled in."""
    for half in ("runtime", "export"):
        for path in sorted((ROOT / half).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(getattr(node, "func", None), "id", "")
                if isinstance(node, ast.Call) and name.endswith("Error") and name not in FOREIGN:
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    assert len(node.args) == 2, f"{where}: a problem and a fix"
                    yield where, literal(node.args[0]), literal(node.args[1])


def literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return "{}"


ERRORS = list(errors())


def test_errors_are_found() -> None:
    assert len(ERRORS) > 150


@pytest.mark.parametrize(("where", "problem", "fix"), ERRORS, ids=[e[0] for e in ERRORS])
def test_an_error_says_what_is_wrong_and_what_mends_it(where: str, problem: str, fix: str) -> None:
    first = problem.split()[0].strip("'\"`:,")
    assert problem == "{}" or not first[0].isupper() or first in NAMES | OPERATORS, problem
    assert problem.endswith((".", "{}")), problem
    assert not fix[0].isupper() or fix.split()[0] in NAMES, fix
    assert fix.endswith((".", "{}", ").")) or PASTED.search(fix), fix
