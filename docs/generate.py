"""The site's pages, ready to build: the pages of this folder and what is made from the source.

    python docs/generate.py OUT
    python docs/generate.py schema > docs/backlit.schema.json

OUT/docs gets the pages, with the commands' help and the list of errors filled in; OUT/code the
package, where mkdocstrings reads docstrings from; OUT/zensical.toml the configuration.
"""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

import click
from backlit.runtime.cli import COMMANDS, main
from backlit.runtime.contract import Contract
from backlit.runtime.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


def commands() -> str:
    """Each command's help, as it prints it."""
    parts = []
    parent = click.Context(main, info_name="backlit", **main.context_settings)
    for name in COMMANDS:
        command = main.get_command(parent, name)
        if command is None:
            raise ValueError(f"there is no command {name}")
        context = click.Context(
            command, info_name=name, parent=parent, max_content_width=84, terminal_width=84
        )
        parts.append(f"## backlit {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def errors() -> str:
    """Every error that is raised on purpose, with its fix, from the source; by class."""
    found: dict[str, set[tuple[str, str]]] = {}
    for half in ("runtime", "export"):
        for path in sorted((ROOT / half).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                texts = [_text(argument) for argument in node.args]
                if node.func.id.endswith("Error") and len(texts) == 2 and all(texts):
                    found.setdefault(node.func.id, set()).add((texts[0] or "", texts[1] or ""))
    parts = []
    for name in sorted(found):
        parts.append(f"### {name}\n")
        parts += [f"* {problem}\n\n    fix: {fix}\n" for problem, fix in sorted(found[name])]
    return "\n".join(parts)


def _text(node: ast.expr) -> str | None:
    """A string as people see it, ``...`` for what is filled in; None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(
            str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
        )
    else:
        return None
    for mark in "\\`*_{}[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def schema() -> str:
    """The JSON Schema of a file's metadata, from the dataclasses that read it."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The metadata of a Backlit file",
        "description": 'The JSON object under the key "backlit" of an ONNX model\'s '
        "metadata_props. A reader that does not know the schema number must refuse the file and "
        "name the version that wrote it (tool).",
    }
    return json.dumps(head | json_schema(Contract), indent=2) + "\n"


def generate(out: Path) -> None:
    """Write everything that the site is built from."""
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "docs"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.py", "*.toml"))
    for name in REPOSITORY:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, pages / name.lower())
    for page, mark, text in (
        ("commands.md", "<!-- generated: commands -->", commands()),
        ("troubleshooting.md", "<!-- generated: errors -->", errors()),
    ):
        before = (pages / page).read_text(encoding="utf-8")
        if mark not in before:
            raise ValueError(f"docs/{page} has no {mark}")
        (pages / page).write_text(before.replace(mark, text), encoding="utf-8")
    ignore = shutil.ignore_patterns("__pycache__", "*.onnx", "samples")
    shutil.copytree(ROOT / "backlit", out / "code" / "backlit", ignore=ignore)
    for name in ("export", "runtime", "models"):
        shutil.copytree(ROOT / name, out / "code" / "backlit" / name, ignore=ignore)
    shutil.copy(ROOT / "docs" / "zensical.toml", out)


if __name__ == "__main__":
    if sys.argv[1] == "schema":
        print(schema(), end="")
    else:
        generate(Path(sys.argv[1]))
