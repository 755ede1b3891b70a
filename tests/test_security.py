"""Each sentence of SECURITY.md on what is trusted has a test; those that no other module has."""

from __future__ import annotations

import ast
import os
import re
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest
from backlit.runtime.backend.tensorrt.cache import EngineCache
from backlit.runtime.errors import BacklitError
from backlit.runtime.evaluation import datasets
from backlit.runtime.session import Session
from onnx import helper, numpy_helper
from support.engine_builder import KEY
from support.linear_file import write_linear_file

ROOT = Path(__file__).resolve().parents[1]

SENTENCES = {
    "A model file is data.":
        "test_security::test_no_code_is_made_of_data",
    "Backlit reads ONNX files and their metadata with parsers alone: JSON with a JSON parser,"
    " protobuf with protobuf.":
        "test_security::test_no_code_is_made_of_data",
    "It runs no code from them.":
        "test_security::test_no_code_is_made_of_data",
    "Metadata is checked whole, against its JSON Schema and against the graph, before "
    "anything is made of it.":
        "test_schema::test_what_is_wrong_is_refused",
    "A damaged file is an error of one line with its fix.":
        "test_fuzz::test_hostile_inputs_work_or_are_refused_in_words",
    "A graph is executed, by ONNX Runtime.":
        "test_session::test_run_is_the_closed_form",
    "It may ask for all memory and for any time: run files from strangers in a process with "
    "limits of both.":
        "test_security::test_a_graph_that_asks_for_terabytes_is_an_error",
    "Where memory is refused, the run ends with an error.":
        "test_security::test_a_graph_that_asks_for_terabytes_is_an_error",
    "Weights beside a model stay beside it.":
        "test_hostile::test_weights_outside_of_the_models_folder_are_refused",
    "External data is read from the model's own folder: no absolute path, no `..`, no link "
    "that leads elsewhere.":
        "test_hostile::test_weights_outside_of_the_models_folder_are_refused",
    "A TensorRT engine is code.":
        "test_engines::test_an_engine_as_a_file",
    "An engine, in the cache or in a file that `backlit build -o` wrote, holds machine code "
    "for a GPU: load only engines that you built or that come from somebody you trust.":
        "test_engines::test_an_engine_as_a_file",
    "An engine that is not of this machine is refused.":
        "test_engines::test_an_engine_file_of_another_machine",
    "The cache folder is writable by you alone.":
        "test_security::test_the_cache_of_engines_is_yours_alone",
    "A pickle is refused.":
        "test_checkpoints::test_a_pickle_that_needs_code_is_refused_with_the_reason",
    "Checkpoints are read with `weights_only=True`, so a file that would run code is an "
    "error.":
        "test_checkpoints::test_a_pickle_that_needs_code_is_refused_with_the_reason",
    "A TorchScript or `.pt2` file is a program of torch.":
        "test_checkpoints::test_a_file_with_a_graph_is_a_source",
    "It is run by torch, as its classifier.":
        "test_checkpoints::test_a_file_with_a_graph_is_a_source",
    "`package.module:callable` and `file.py:callable` are code.":
        "test_checkpoints::test_a_class_of_the_current_folder",
    "Backlit imports and calls them, as you asked.":
        "test_checkpoints::test_a_class_of_the_current_folder",
    "`hf:NAME` runs no code of a repository.":
        "test_security::test_no_code_of_a_repository_is_run",
    "`trust_remote_code` is never passed.":
        "test_security::test_no_code_of_a_repository_is_run",
    "Pictures are data.":
        "test_image::test_damaged_bytes_never_escape_as_another_exception",
    "They are decoded by Pillow.":
        "test_image::test_damaged_bytes_never_escape_as_another_exception",
    "A picture of more than Pillow's limit of pixels is refused; `BACKLIT_MAX_PIXELS` moves "
    "the limit.":
        "test_image::test_decompression_bomb_is_an_error_that_names_the_limit",
    "A text is a path or an address.":
        "test_inputs::test_addresses_are_told_from_paths",
    "Where an image is asked for, `https://...` and the like are fetched (200 MB and two "
    "minutes at most), folders are listed, videos are decoded by OpenCV.":
        "test_inputs::test_what_goes_wrong_on_the_web",
    "Bytes are never taken for a path or an address: a service gives what its users send as "
    "bytes.":
        "test_security::test_bytes_are_no_path_and_no_address",
    "Pipes and devices are no files.":
        "test_hostile::test_a_pipe_or_a_device_is_no_model_and_no_list",
    "They are refused as models, labels and data sets before anything waits for them.":
        "test_hostile::test_a_pipe_or_a_device_is_no_model_and_no_list",
    "Data sets name what lies below their folder.":
        "test_hostile::test_names_in_a_data_set_lead_nowhere_else",
    "Absolute names and names with `..` lead nowhere else.":
        "test_hostile::test_names_in_a_data_set_lead_nowhere_else",
    "XML loads no external entity.":
        "test_security::test_xml_loads_no_external_entity",
    "Names and labels are shown, and no more.":
        "test_hostile::test_errors_and_warnings_spell_it_out",
    "Characters that a terminal obeys are spelt out in messages and refused in labels.":
        "test_hostile::test_labels_that_hold_it_are_refused",
    "In HTML and SVG they are escaped.":
        "test_hostile::test_a_page_holds_no_script_of_a_data_set",
    "In CSV a cell that a spreadsheet would compute has an apostrophe before it.":
        "test_hostile::test_cells_of_a_table_are_no_formulas",
    "`backlit serve` is for strangers.":
        "test_serving::test_what_is_refused_says_why_and_the_connection_goes_on",
    "Bodies, pixels, queue, memory and time are bounded; addresses are fetched with `--allow-urls` "
    "alone, and never from private networks; keys come from a file.":
        "test_serving::test_bodies_are_held_within_bounds",
    "It speaks HTTP without TLS and counts no requests of anybody: put it behind a proxy that "
    "does.":
        "test_serving::test_metrics_count_what_was_done",
}  # fmt: skip
"""Sentence -> module and function of its test."""


def test_each_sentence_has_a_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    section = text.partition("## What is trusted")[2].partition("\n## ")[0]
    bullets = re.findall(r"^\* (.+(?:\n  .+)*)", section, re.MULTILINE)
    said = [
        sentence
        for bullet in bullets
        for sentence in re.split(r"(?<=\.) (?=[A-Z`])", " ".join(bullet.replace("**", "").split()))
    ]
    assert said == list(SENTENCES)


@pytest.mark.parametrize("place", sorted(set(SENTENCES.values())))
def test_that_test_is_there(place: str) -> None:
    module, _, name = place.partition("::")
    tree = ast.parse((ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


FORBIDDEN = {
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load",
    "os.system", "shelve.open", "joblib.load", "dill.load",
}  # fmt: skip


def calls() -> list[tuple[str, str, dict[str, str]]]:
    """File, function and keywords of every call in the package."""
    found = []
    for half in ("runtime", "export", "backlit"):
        for path in sorted((ROOT / half).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    keywords = {one.arg or "**": ast.unparse(one.value) for one in node.keywords}
                    found.append((str(path), ast.unparse(node.func), keywords))
    return found


def test_no_code_is_made_of_data() -> None:
    loaded = []
    for path, function, keywords in calls():
        assert function not in FORBIDDEN, (path, function)
        assert keywords.get("shell", "False") == "False", (path, function)
        assert keywords.get("allow_pickle", "False") == "False", (path, function)
        # bench reads a module that it wrote itself, in a folder of its own, for another process.
        if function == "torch.load" and Path(path).name != "torch_peers.py":
            loaded.append(keywords.get("weights_only"))
    assert loaded
    assert set(loaded) == {"True"}


def test_no_code_of_a_repository_is_run() -> None:
    assert all("trust_remote_code" not in keywords for _, _, keywords in calls())


def test_a_graph_that_asks_for_terabytes_is_an_error(tmp_path: Path) -> None:
    path = write_linear_file(tmp_path / "m.onnx").path
    model = onnx.load(path)
    sizes = numpy_helper.from_array(np.array([1 << 21, 1 << 21], np.int64), "sizes")
    model.graph.initializer.append(sizes)
    last = model.graph.node[-1]
    nodes = [
        helper.make_node("Shape", ["class_index"], ["seen"]),  # not known before the run
        helper.make_node("ReduceMin", ["seen"], ["one"], keepdims=0),
        helper.make_node("Mul", ["sizes", "one"], ["giant"]),
        helper.make_node("Expand", ["scores", "giant"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", [last.output[0], "most"], ["bomb"]),
    ]
    name = last.output[0]
    last.output[0], nodes[-1].input[0], nodes[-1].output[0] = "plain", "plain", name
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    session = Session(path, ["cpu"])
    with pytest.raises(BacklitError, match="ONNX Runtime cannot run") as caught:
        session.run(np.zeros((1, 8, 6, 3), np.uint8), np.array([[-1]]))
    assert "\n" not in caught.value.problem


@pytest.mark.skipif(os.name != "posix", reason="POSIX rights")
def test_the_cache_of_engines_is_yours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = EngineCache()
    with cache.workspace(KEY, "work"):
        assert stat.S_IMODE(cache.root.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize("data", [b"/etc/hostname", b"https://example.org/a.png", b"folder"])
def test_bytes_are_no_path_and_no_address(data: bytes, tmp_path: Path) -> None:
    session = Session(write_linear_file(tmp_path / "m.onnx").path, ["cpu"])
    (found,) = session.saliency([data])
    assert found.error is not None
    assert "the data is not an image" in found.error.problem


def test_xml_loads_no_external_entity(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("cat")
    (tmp_path / "Annotations").mkdir()
    body = (
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]><annotation><object>'
        "<name>&e;</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        "</object></annotation>"
    )
    (tmp_path / "Annotations" / "a.xml").write_text(body)
    with pytest.raises(datasets.DatasetError, match="undefined entity"):
        datasets.read(tmp_path, ["cat"], 1)
