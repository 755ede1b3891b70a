"""Pipes and devices as files, closed and full streams, names and texts that mean to do harm."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.contract import KEY, Contract
from backlit.runtime.errors import ModelError
from backlit.runtime.evaluation import datasets
from backlit.runtime.text import one_line, plain
from click.testing import CliRunner, Result
from PIL import Image
from support.linear_file import Linear, write_linear_file
from support.small import convnet

CLEAR = "\x1b[2J\x1b]0;owned\x07"
"""What clears a terminal and names its window."""


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(tmp_path / "I.png")
    return write_linear_file(tmp_path / "m.onnx", labels=("cat", "=1+1", "@x", "<b>", "owl"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def process(folder: Path, shell: str) -> subprocess.CompletedProcess[bytes]:
    """A line of the shell, in which $B is the command."""
    command = f"{sys.executable} -m backlit.runtime"
    return subprocess.run(
        ["bash", "-c", shell], cwd=folder, capture_output=True, timeout=120,
        env={**os.environ, "B": command},
    )  # fmt: skip


# Pipes and devices


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_no_model_and_no_list(
    kind: str, linear: Linear, tmp_path: Path
) -> None:
    """They are refused before anything waits for them."""
    path = tmp_path / "special"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    (tmp_path / "plain.onnx").write_bytes(convnet().SerializeToString())
    for arguments in (
        ("info", path),
        ("saliency", path, tmp_path / "I.png"),
        ("localize", path, tmp_path / "I.png"),
        ("check", path),
        ("export", path, "-o", tmp_path / "x.onnx"),
        ("evaluate", linear.path, path, "-o", tmp_path / "out"),
        ("saliency", linear.path, path),
        ("export", tmp_path / "plain.onnx", "-o", tmp_path / "x.onnx", "--labels", path),
    ):
        result = run(*arguments)
        assert result.exit_code in (1, 2), arguments
        assert "fix: " in result.stderr, (arguments, result.stderr)
        assert "special" in result.stderr, (arguments, result.stderr)


# Streams


@pytest.mark.skipif(sys.platform == "win32", reason="the shell's redirections")
@pytest.mark.parametrize(
    ("shell", "code", "says"),
    [
        ("$B saliency m.onnx I.png >&-", 1, "stdout is closed"),
        ("$B saliency m.onnx I.png >/dev/full", 1, "stdout cannot be used: No space left"),
        ("$B info m.onnx --json >/dev/full", 1, "stdout cannot be used: No space left"),
        ("$B saliency m.onnx - <&-", 2, "stdin names no images"),
        ("set -o pipefail; yes I.png | $B saliency m.onnx - | head -n 1", 1, ""),
        ("$B saliency m.onnx I.png 2>&-", 0, ""),
        ("PYTHONIOENCODING=ascii $B info café.onnx", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(
    shell: str, code: int, says: str, linear: Linear, tmp_path: Path
) -> None:
    linear.path.with_name("café.onnx").write_bytes(linear.path.read_bytes())
    done = process(tmp_path, shell)
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert says in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


# Texts that a terminal obeys


def test_what_a_terminal_obeys_is_spelt_out() -> None:
    assert plain(f"a\n{CLEAR}\u202eb\t\x9b") == "a\n\\x1b[2J\\x1b]0;owned\\x07\\u202eb\\t\\x9b"
    assert one_line("a\nb\r") == "a\\nb\\r"
    assert plain("héé 🏔 עברית") == "héé 🏔 עברית"
    assert len(plain("x" * 9000)) == 4096


def test_errors_and_warnings_spell_it_out(tmp_path: Path) -> None:
    result = run("info", tmp_path / f"a{CLEAR}.onnx")
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert r"a\x1b[2J" in result.stderr


def test_labels_that_hold_it_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(convnet().SerializeToString())
    for name, data in {
        "escapes": f"a\nb\nc\nd\ne\n{CLEAR}\n".encode(),
        "nul": b"a\nb\nc\nd\ne\nf\0g\n",
        "turned": "a\nb\nc\nd\ne\n\u202ef\n".encode(),
        "utf-16": "\n".join("abcdef").encode("utf-16"),
        "latin": "a\nb\nc\nd\ne\né".encode("latin-1"),
    }.items():
        (tmp_path / name).write_bytes(data)
        result = run(
            "export", tmp_path / "m.onnx", "-o", tmp_path / "x", "--labels", tmp_path / name
        )
        assert result.exit_code == 2, name
        assert "\x1b" not in result.stderr
        assert "UTF-8" in result.stderr or "one label per line" in result.stderr
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["\ufeffa\r\nb\nc\nd\ne\nf\n", "a\tb\nb\nc\x20\nd\n\ne\nf"])
def test_labels_of_other_editors_are_read(text: str, tmp_path: Path) -> None:
    """A byte order mark, Windows' line ends, tabs, spaces, empty lines."""
    (tmp_path / "m.onnx").write_bytes(convnet().SerializeToString())
    (tmp_path / "labels.txt").write_bytes(text.encode())
    made = tmp_path / "x.onnx"
    arguments = ("--no-verify", "--labels", tmp_path / "labels.txt", "--maps", "saliency")
    assert run("export", tmp_path / "m.onnx", "-o", made, *arguments).exit_code == 0
    entries = {entry.key: entry.value for entry in onnx.load(made).metadata_props}
    first = "a b" if "\t" in text else "a"
    assert Contract.from_json(entries[KEY]).labels == (first, "b", "c", "d", "e", "f")


WRITTEN = [
    "producer", "notes", "graph_notes", "node_notes", "input_notes",
    "key", "value", "first", "w", "input", "batch",
]  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_string_that_is_no_text_is_spelt_out(name: str, tmp_path: Path) -> None:
    """ONNX Runtime reads such a file: its tool wrote names in another encoding than UTF-8."""
    model = convnet()
    model.producer_name, model.doc_string, model.graph.doc_string = WRITTEN[:3]
    model.graph.node[0].doc_string, model.graph.input[0].doc_string = WRITTEN[3:5]
    model.metadata_props.add(key="key", value="value")
    model.graph.node[0].name = "first"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    data = model.SerializeToString()
    length = bytes([len(name)])  # before a string in protobuf, which keeps "w" out of "width"
    assert length + name.encode() in data
    brought = data.replace(length + name.encode(), length + b"\xd6" * len(name))
    ort.InferenceSession(brought, providers=["CPUExecutionProvider"])
    (tmp_path / "m.onnx").write_bytes(brought)
    for source in (tmp_path / "m.onnx", onnx.load_from_string(brought)):
        export(source, tmp_path / "x.onnx", overwrite=True)
        assert Session(tmp_path / "x.onnx").contract.verification.outcome == "agrees"


def test_names_of_tensors_are_spelt_out(tmp_path: Path) -> None:
    report = export(convnet(names=("input", f"out{CLEAR}")), tmp_path / "x.onnx", verify=False)
    assert report.contract.score.tensor == r"out\x1b[2J\x1b]0;owned\x07"


# External data


def outside(location: str, folder: Path, length: int | None = None) -> Path:
    """A model of which one weight lies there."""
    model = convnet()
    tensor = model.graph.initializer[0]
    length = len(tensor.raw_data) if length is None else length
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    path = folder / "model" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_outside_of_the_models_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(432))
    path = outside("link", tmp_path)
    (path.parent / "link").symlink_to(tmp_path / "secret")
    for location in ("link", "../secret", str(tmp_path / "secret"), "a/../../secret"):
        with pytest.raises(ModelError, match="outside of its own folder"):
            export(outside(location, tmp_path), tmp_path / "x.onnx")


def test_a_hubs_cache_of_links_is_read(tmp_path: Path) -> None:
    """Hugging Face's: models--x/snapshots/REVISION/onnx/NAME leads to models--x/blobs/DIGEST."""
    snapshot, blobs = tmp_path / "snapshots" / "1f" / "onnx", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    path = outside("w.data", tmp_path)
    path.rename(blobs / "aa")
    weights = np.random.default_rng(0).standard_normal(108).astype(np.float32)
    (blobs / "bb").write_bytes(weights.tobytes())
    (snapshot / "m.onnx").symlink_to(blobs / "aa")
    (snapshot / "w.data").symlink_to(blobs / "bb")
    report = export(snapshot / "m.onnx", tmp_path / "x.onnx")
    assert report.contract.verification is not None
    assert report.contract.verification.outcome == "agrees"
    (snapshot / "w.data").unlink()
    (snapshot / "w.data").symlink_to(blobs.parent.parent / "secret")
    (blobs.parent.parent / "secret").write_bytes(bytes(432))
    with pytest.raises(ModelError, match="outside of its own folder"):
        export(snapshot / "m.onnx", tmp_path / "y.onnx")


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "9" * 30, "431"])
def test_weights_of_an_impossible_length_are_refused(length: str, tmp_path: Path) -> None:
    path = outside("w.data", tmp_path)
    (path.parent / "w.data").write_bytes(bytes(432))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[2].value = length
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        export(path, tmp_path / "x.onnx")


# Data sets


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../../../secret/a.jpg", "..", "a\0b.jpg", "x" * 5000]
)
def test_names_in_a_data_set_lead_nowhere_else(name: str, linear: Linear, tmp_path: Path) -> None:
    for folder in ("secret", "one/two/set"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "secret" / "a.jpg")
    document = {
        "images": [{"id": 1, "file_name": name}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "one/two/set/set.json").write_text(json.dumps(document))
    result = run("evaluate", linear.path, tmp_path / "one/two/set", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "none of the 1 images was found" in result.stderr


def test_an_absolute_name_is_found_by_its_end_below_the_folder(tmp_path: Path) -> None:
    """As converters write them on another machine."""
    (tmp_path / "train").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train" / "a.jpg")
    found = datasets.base.find_images(["/home/other/train/a.jpg"], [tmp_path])
    assert found == {"/home/other/train/a.jpg": tmp_path / "train/a.jpg"}


def test_a_set_of_voc_names_annotations_alone(linear: Linear, tmp_path: Path) -> None:
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secret.xml").write_text("<annotation/>")
    (tmp_path / "ImageSets/Main/val.txt").write_text("../secret\n")
    with pytest.raises(datasets.DatasetError, match=r"'\.\./secret' is no name"):
        datasets.voc.read(tmp_path, datasets.Asked())


# What is written


def test_cells_of_a_table_are_no_formulas(linear: Linear, tmp_path: Path) -> None:
    """In a spreadsheet a cell that begins with = + - @ computes."""
    names = ["=1+1.png", "+x.png", "-x.png", "@x.png"]
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / "I.png").read_bytes())
    done = process(
        tmp_path,
        "$B localize m.onnx -o out --format csv --class '=1+1' --class @x -- =1+1.png +x.png "
        "./-x.png @x.png",
    )
    assert done.returncode == 0, done.stderr.decode()
    text = next((tmp_path / "out").glob("*.csv")).read_text()
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) == 1 + 2 * len(names)
    for row in rows:
        for cell in row:
            number = cell.lstrip("-").replace(".", "", 1).replace("e-", "", 1)
            assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r") or number.isdecimal(), cell


@pytest.mark.skipif(sys.platform == "win32", reason="names that only POSIX has")
def test_names_of_any_bytes_come_out_in_every_format(linear: Linear, tmp_path: Path) -> None:
    picture = (tmp_path / "I.png").read_bytes()
    names = [b"a\nb.png", b"q\"uote's.png", b"\xff\xfe.png", b"<b>&amp;.png", b"\x1b[2J.png"]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(picture)
    for form in ("jsonl", "csv", "coco", "voc"):
        out = tmp_path / form
        result = run("localize", linear.path, folder, "-o", out, "--format", form)
        assert result.exit_code == 0, (form, result.stderr, result.exception)
        assert len(list(out.rglob("*"))) > len(names)
    with (tmp_path / "csv" / "boxes.csv").open(newline="", errors="surrogateescape") as file:
        assert len(list(csv.reader(file))) == 1 + len(names)
    for path in (tmp_path / "voc").rglob("*.xml"):
        ElementTree.parse(path)
    arguments = ("--sheet", tmp_path / "s.svg", "--picture-format", "svg")
    sheet = run("localize", linear.path, folder, "-o", tmp_path / "svg", *arguments)
    assert sheet.exit_code == 0, sheet.stderr
    ElementTree.parse(tmp_path / "s.svg")


def test_a_page_holds_no_script_of_a_data_set(linear: Linear, tmp_path: Path) -> None:
    script, folder = "<script>alert(1)</script>", tmp_path / "set"
    folder.mkdir()
    (folder / "<b>.png").write_bytes((tmp_path / "I.png").read_bytes())
    document = {
        "images": [{"id": 1, "file_name": "<b>.png"}],
        "annotations": [{"image_id": 1, "category_id": n, "bbox": [1, 1, 20, 20]} for n in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": script}],
    }
    (folder / "set.json").write_text(json.dumps(document))
    result = run("evaluate", linear.path, folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    pages = [path.read_text() for path in (tmp_path / "out").rglob("*.html")]
    assert pages
    for page in pages:
        assert script not in page
        assert "<b>.png" not in page
        assert "&lt;script&gt;" in page


def test_what_nobody_foresaw_is_one_line_too(
    linear: Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backlit.runtime.backend import interface

    def planted(*_: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(interface.Contract, "from_json", planted)
    result = run("info", linear.path)
    assert result.exit_code == 1
    assert "this is a bug in Backlit: KeyError: 'planted'" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("-vv", "info", linear.path).stderr


def test_a_full_memory_is_one_line(linear: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    from backlit.runtime.backend import interface

    def planted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(interface.Contract, "from_json", planted)
    result = run("info", linear.path)
    assert result.exit_code == 1
    assert "the memory is full" in result.stderr
