"""README and docs/ say what is so: what they tell people to run is run here."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import shutil
import sys
import textwrap
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import onnx
import pytest
from backlit.export.autodiff.registry import RULES
from backlit.runtime.boxes.recipes import RECIPES
from backlit.runtime.cli import COMMANDS, main
from backlit.runtime.contract import Contract
from backlit.runtime.maps.kinds import KINDS
from click.testing import CliRunner
from onnx import TensorProto, helper
from support.package import STEP, changed
from support.pages import PAGES, ROOT, Block, blocks, tables
from support.service import served

import backlit
from backlit import models

README, DOCS = ROOT / "README.md", ROOT / "docs"
OWN_TEST = {  # pages whose blocks are run by a test of their own, in a copy of the package
    "adding-a-file-map.md": "test_new_file_map.py",
    "adding-a-format.md": "test_new_format.py",
    "adding-a-map.md": "test_maps.py",
    "adding-a-provider.md": "test_new_provider.py",
    "adding-a-question.md": "test_new_question.py",
    "adding-an-operator.md": "test_rules.py",
}
GUIDES = [page for page in PAGES if page.name not in OWN_TEST]
NORMALISED = ["--mean", "0.5", "--std", "0.25", "--range", "0-1"]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def invoke(arguments: list[str]) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, (arguments, done.output)
    return done.output


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of: a classifier, its Backlit file, photos, an energy."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(models.tiny_convnet(), folder / "my_model.onnx")
    maps = "saliency,features,gains,gradient,gradcam,layercam"
    labels = str(models.tiny_convnet().with_suffix(".labels.txt"))
    invoke([
        "export", str(folder / "my_model.onnx"), "-o", str(folder / "my_model.backlit.onnx"),
        "--maps", maps, "--labels", labels, *NORMALISED,
    ])  # fmt: skip
    samples = sorted(models.samples().glob("*.jpg"))
    for target, source in zip(("a.jpg", "b.jpg", "photo.jpg"), samples, strict=False):
        shutil.copy(source, folder / target)
    (folder / "photos").mkdir()
    for source in samples[:3]:
        shutil.copy(source, folder / "photos")
    positions = helper.make_tensor_value_info("positions", TensorProto.FLOAT, ["atoms", 3])
    energy = helper.make_tensor_value_info("energy", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("Cos", ["positions"], ["cosine"], name="cosine"),
        helper.make_node("ReduceSum", ["cosine"], ["energy"], name="sum", keepdims=0),
    ]
    graph = helper.make_graph(nodes, "energy", [positions], [energy])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "energy.onnx")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path / "page")
    monkeypatch.chdir(tmp_path / "page")
    return tmp_path / "page"


def test_every_block_is_found() -> None:
    """A fence that the pattern does not understand would be a block that nobody runs."""
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), page
        marks = page.read_text(encoding="utf-8").count("<!-- not run")
        assert marks == sum(block.reason is not None for block in blocks(page)), page


@pytest.mark.parametrize("page", [page for page in GUIDES if blocks(page)], ids=name)
def test_what_a_page_says_runs(page: Path, folder: Path) -> None:
    """Commands and Python, from top to bottom, in one folder and with one set of names."""
    names: dict[str, object] = {
        "pixels": np.zeros((1, 96, 96, 3), np.uint8),
        "positions": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32),
    }
    with ExitStack() as stack:
        if page.name == "serving.md":
            service = stack.enter_context(served(folder / "my_model.backlit.onnx"))
            names["url"] = f"http://127.0.0.1:{service.port}"
        run_blocks(page, names)
    check_results(page, names)


def run_blocks(page: Path, names: dict[str, object]) -> None:
    for block in blocks(page):
        if block.language == "python":
            code = compile(block.text, f"{name(page)}: {block.text[:40]!r}", "exec")
            if block.reason is None:
                exec(code, names)
        if block.reason is None:
            for arguments in block.calls():
                if arguments[0] != "doctor":  # exits 1 where a GPU provider does not load
                    invoke(arguments)
        check_commands(block)


def check_commands(block: Block) -> None:
    """Options, make targets and extras that are named exist, also where they are not run."""
    for arguments in block.calls():
        parent = click.Context(main, info_name="backlit", **main.context_settings)
        command = main.get_command(parent, arguments[0])
        assert command is not None, arguments
        context = click.Context(command, parent, arguments[0])
        command.make_parser(context).parse_args(list(arguments[1:]))
    targets = re.search(r"^\.PHONY: (.*)$", text("Makefile"), re.MULTILINE)
    assert targets is not None
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    for line in block.commands():
        if line.startswith("make "):
            assert line.split()[1] in targets[1].split(), line
        if wanted := re.search(r"pip install .*\[([\w,-]+)\]", line):
            assert set(wanted[1].split(",")) <= set(extras), line


def check_results(page: Path, names: dict[str, object]) -> None:
    """What the Python of some pages must have made."""
    if page.name == "differentiate.md":
        where = np.asarray(names["positions"])
        np.testing.assert_allclose(names["energy"], np.cos(where).sum(), rtol=1e-6)
        np.testing.assert_allclose(names["forces"], np.sin(where), rtol=1e-5, atol=1e-6)
    if page.name in ("README.md", "serving.md"):
        assert np.asarray(names["saliency"]).shape == (1, 2, 96, 96)
    if page.name == "serving.md":
        (wanted,) = backlit.Session("my_model.backlit.onnx").localize("photo.jpg", top=2)
        found = cast(dict[str, Any], names["served"])["results"]
        assert [tuple(one["box"]) for one in found] == list(wanted.boxes)
        assert all(one["map_png"] for one in found)
    if page.name == "notebook.md":
        assert len(np.unique(np.asarray(names["over"]))) > 30
        assert np.asarray(names["at_size"]).max() > 0


def test_the_python_of_the_readme_stands_alone(folder: Path) -> None:
    """Each quickstart runs by itself, as it is pasted."""
    whole = [block.text for block in blocks(README) if block.language == "python"]
    for code in whole:
        exec(code, {"pixels": np.zeros((1, 96, 96, 3), np.uint8)})
    assert len(whole) == 3


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) < 150
    assert tables(README)
    assert all(len(rows) <= 12 for rows in tables(README))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme_and_answers_h(command: str) -> None:
    assert re.search(rf"(backlit |`){command}\b", text("README.md"))
    assert f"backlit {command}" in invoke([command, "-h"]).split("Example")[1]


def test_links_lead_to_files_of_the_repository() -> None:
    """Of the pages as they are read in the repository; docs/links.py follows those of the site."""
    made = {"contributing.md", "security.md", "changelog.md"}  # copied beside them for the site
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not link.startswith("http") and link not in made:
                assert (page.parent / link).exists(), (page, link)


def test_a_broken_link_of_the_site_is_named(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("links", DOCS / "links.py")
    assert spec is not None
    assert spec.loader is not None
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "a.html").write_text(
        '<h1 id="top"><a href="b.html#end">b</a> <a href="#top">up</a> <a href="b.html#no">?</a>'
        '<a href="c.html">?</a><script src="https://elsewhere.org/x.js"></script><img src="d.jpg">'
    )
    (tmp_path / "b.html").write_text('<p id="end"><a href="a.html#top">back</a>')
    wrong, followed = links.broken(tmp_path)
    assert wrong == [
        "a.html: b.html#no names no place on that page",
        "a.html: loads https://elsewhere.org/x.js from elsewhere",
        "a.html: there is no c.html",
        "a.html: there is no d.jpg",
    ]
    assert followed == 6


def test_every_page_is_in_the_sites_list() -> None:
    listed = set(re.findall(r'"([\w/-]+\.md)"', text("docs/zensical.toml")))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert listed == pages | {"contributing.md", "security.md", "changelog.md"}


def test_every_public_name_is_in_the_reference() -> None:
    listed = re.findall(r"^::: backlit\.(?:export\.build\.)?(\w+)$", text("docs/python.md"), re.M)
    assert sorted(listed) == sorted(name for name in backlit.__all__ if name != "__version__")


def test_metadata_table_has_every_field() -> None:
    table = text("docs/file-format.md").split("| field | value |")[1].split("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines() if "`" in row]
    documented = {name for names in rows for name in names}
    assert documented == {field.name for field in dataclasses.fields(Contract)}


def test_tables_of_maps_and_recipes_have_every_row() -> None:
    for page, table in (("docs/maps.md", KINDS), ("docs/boxes.md", RECIPES)):
        first = tables(ROOT / page)[0]
        assert {row.split("`")[1] for row in first} == set(table), page


@pytest.mark.parametrize("page", [name for name in OWN_TEST if name != "adding-an-operator.md"])
def test_the_diff_of_a_page_fits_the_code(page: str, tmp_path: Path) -> None:
    """One new file and one table (a file's map has a file and a table in each half)."""
    named = changed(text(f"docs/{page}"), tmp_path)
    new = [path for path in named if not (ROOT / path).exists()]
    assert [path for path in named if path not in new] == [one_table(path) for path in new][:1]
    assert (ROOT / "tests" / OWN_TEST[page]).exists()


def one_table(path: str) -> str:
    """The table that a new file of this name has its row in."""
    folder = Path(path).parent
    rows = [folder / name for name in ("table.py", "kinds.py") if (ROOT / folder / name).exists()]
    assert len(rows) == 1
    return rows[0].as_posix()


def test_the_page_on_operators_follows_the_code() -> None:
    page = text("docs/adding-an-operator.md")
    rule, case = (textwrap.dedent(block.text) for block in blocks(DOCS / "adding-an-operator.md"))
    assert rule in text("export/rules/activation.py")
    assert 'case("Mish"' in case
    assert f"that have one ({len(RULES)} of them)" in page
    for path in re.findall(r"`((?:export|tests)/[\w/]+(?:\.py)?)/?`", page):
        assert (ROOT / path).exists(), path


def test_files_that_the_pages_name_exist() -> None:
    folders = "export|runtime|tests|benchmarks|docs|models|backlit"
    for page in PAGES:
        whole = page.read_text(encoding="utf-8")
        new = {path for path, kind, _ in STEP.findall(whole) if kind == "python"}
        for path in re.findall(rf"`((?:{folders})/[\w/.-]*)`", whole):
            assert path in new or (ROOT / path).exists(), (page, path)


def test_the_sites_commands_and_errors_are_those_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.generate(tmp_path / "site")
    commands = (tmp_path / "site/docs/commands.md").read_text(encoding="utf-8")
    assert all(f"## backlit {command}\n" in commands for command in COMMANDS)
    errors = (tmp_path / "site/docs/troubleshooting.md").read_text(encoding="utf-8")
    for half in ("runtime", "export"):
        for path in (ROOT / half).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                    told = [a.value for a in node.args if isinstance(a, ast.Constant)]
                    if len(told) == 2 and len(node.args) == 2 and "`" not in "".join(told):
                        assert re.sub(r"([\\*_{}\[\]<>#|])", r"\\\1", told[0]) in errors


def test_demo(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = {p.suffix: 0 for p in (tmp_path / "out").iterdir()}
    for path in (tmp_path / "out").iterdir():
        found[path.suffix] += 1
    assert found == {".onnx": 1, ".npy": 12, ".png": 12, ".jsonl": 1}
    counts = {
        k: int(v) for k, v in re.findall(r"(box|centred box) right.*?(\d+) of 12", result.stderr)
    }
    assert counts["box"] >= 8 > 3 >= counts["centred box"]
    lines = (tmp_path / "out" / "boxes.jsonl").read_text().splitlines()
    truth = {s["file"]: s["box"] for s in json.loads((models.samples() / "boxes.json").read_text())}
    assert [json.loads(line)["true_box"] for line in lines] == list(truth.values())
    assert all(len(json.loads(line)["results"]) == 1 for line in lines)
