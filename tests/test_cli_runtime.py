import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime import files as output
from backlit.runtime.backend import probing, sessions
from backlit.runtime.backend.providers import table
from backlit.runtime.boxes.recipes import fitted
from backlit.runtime.cli import group as cli
from backlit.runtime.errors import BacklitError, OutputError, ProviderError, VerificationError
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file

LABELS = ("cat", "dog", "hen", "fox", "owl")
PROGRAM = [sys.executable, "-m", "backlit.runtime"]


def run(*args, stdin=None):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], input=stdin)


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A file, and a folder of five images of which one is damaged."""
    folder = tmp_path_factory.mktemp("work")
    write_linear_file(folder / "m.onnx", height=32, width=32, labels=LABELS)
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(4):
        size = (40 + 10 * number, 60, 3)
        image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        image.save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "2a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (folder / "photos" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def good(work):
    return [work / "photos" / f"{number}.png" for number in range(4)]


# The group


IMPORTED = """
import runpy, sys
before, sys.argv = set(sys.modules), ["backlit", "--help"]
try:
    runpy.run_module("backlit.runtime", run_name="__main__", alter_sys=True)
finally:
    made = set(sys.modules) - before
    ours = {name for name in made if name.split(".")[0] == "backlit"}
    others = {name.split(".")[0] for name in made - ours} - sys.stdlib_module_names
    print(*sorted(ours), *sorted(others), file=sys.stderr)
"""


def test_help_lists_every_command_and_imports_none():
    """It needs click, the group and the errors: so it comes at once."""
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name, lazy in cli.COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert lazy.help in done.stdout
    own = (
        "",
        ".runtime",
        *(f".runtime.{name}" for name in ("cli", "cli.group", "cli.voice", "errors", "text")),
    )
    assert set(done.stderr.split()) - {"colorama"} == {*(f"backlit{name}" for name in own), "click"}


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_answers_help_with_an_example(name, flag):
    result = run(name, flag)
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"backlit {name} " in result.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_has_the_commands_own_line(name):
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command.get_short_help_str(200) == cli.COMMANDS[name].help


def test_version():
    result = run("--version")
    assert result.stdout.startswith("backlit 0.")
    assert result.stdout.count("\n") == 1


def test_unknown_command_is_usage_with_a_suggestion():
    result = run("locallize")
    assert result.exit_code == 2
    assert "Did you mean 'localize'?" in result.stderr
    assert result.stdout == ""


def test_errors_have_their_exit_codes(monkeypatch):
    @click.command()
    @click.argument("kind")
    def fails(kind):
        if kind == "interrupt":
            raise KeyboardInterrupt
        raise {"verify": VerificationError, "plain": BacklitError}[kind]("bad thing", "mend it")

    monkeypatch.setattr(cli, "fails", fails, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "fails", cli.Lazy(".group", ""))
    assert run("fails", "verify").exit_code == 3
    assert run("fails", "interrupt").exit_code == 130
    result = run("fails", "plain")
    assert result.exit_code == 1
    assert result.stderr == "error: bad thing\n  fix: mend it\n"
    assert result.stdout == ""


@pytest.mark.parametrize("missing", ["onnx", "onnx_ir", "onnxscript", "backlit.export.cli.export"])
def test_export_commands_without_the_extra_say_what_to_install(monkeypatch, missing):
    def no_module(name, package=None):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(cli.importlib, "import_module", no_module)
    for name in ("export", "verify", "ops"):
        result = run(name, "--help")
        assert result.exit_code == 1
        assert "pip install 'backlit[export]'" in result.stderr
        assert missing in result.stderr


# info and doctor


def test_info_text_and_json(work):
    result = run("info", work / "m.onnx")
    assert result.exit_code == 0
    for words in ("32x32 uint8 NHWC", "5 classes, 5 labels", "saliency", "uint8 [N,32,32,3]"):
        assert words in result.stdout
    facts = json.loads(run("info", work / "m.onnx", "--json").stdout)
    assert facts["bytes"] == (work / "m.onnx").stat().st_size
    assert facts["metadata"]["labels"] == list(LABELS)
    assert [value["name"] for value in facts["inputs"]] == ["image", "class_index"]


def test_info_of_other_files(work, tmp_path):
    result = run("info", work / "photos" / "notes.txt")
    assert result.exit_code == 1
    assert "not an ONNX file" in result.stderr
    write_linear_file(tmp_path / "plain.onnx", metadata=False)
    result = run("info", tmp_path / "plain.onnx")
    assert result.exit_code == 1
    assert "backlit export" in result.stderr


def test_doctor_tells_what_loads_and_exits_0():
    result = run("doctor")
    assert result.exit_code == 0
    found = json.loads(run("doctor", "--json").stdout)
    assert {one["name"]: one["loads"] for one in found["providers"]} == {
        name: probing.probe(name).loads for name in table.PROVIDERS
    }
    for one in found["providers"]:
        assert one["loads"] or one["fix"] in result.stdout
    assert found["chosen"] in result.stdout


def test_doctor_finds_double_installs(monkeypatch):
    from backlit.runtime.backend import doctor

    versions = {"onnxruntime": "1.20", "onnxruntime-gpu": "1.31", "opencv-python-headless": "5"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    (trouble,) = doctor.diagnose().troubles
    assert "onnxruntime and onnxruntime-gpu are installed over each other" in trouble.problem
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in trouble.fix
    result = run("doctor")
    assert result.exit_code == 0
    assert trouble.problem in result.stdout


def test_doctor_where_nothing_loads(monkeypatch):
    from backlit.runtime.backend import doctor

    nothing = probing.Probe("cpu", here=True, loads=False, reason="broken", fix="mend it")
    monkeypatch.setattr(probing, "probe", lambda name: nothing)
    assert doctor.Trouble("no execution provider loads.", "mend it") in doctor.diagnose().troubles
    assert doctor.diagnose().chosen is None
    with pytest.raises(ProviderError, match="no execution provider loads: broken"):
        sessions.open_session(probing._TINY)


def test_doctor_without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(probing, "probe", probing.probe.__wrapped__)
    result = run("doctor")
    assert result.exit_code == 0
    assert "pip install 'backlit[cpu]'" in result.stdout


# saliency and localize


def test_saliency_prints_json_lines_and_nothing_else(work, good):
    result = run("saliency", work / "m.onnx", *good, "--top", "2")
    assert result.exit_code == 0
    truth = Session(work / "m.onnx", ["cpu"]).saliency(good, top=2)
    for path, line, one in zip(good, lines(result), truth, strict=True):
        assert line == {
            "image": str(path),
            "width": one.width,
            "height": one.height,
            "classes": one.classes.tolist(),
            "labels": list(one.labels),
            "scores": [pytest.approx(float(score), rel=1e-6) for score in one.scores],
            "map": "saliency",
        }


def test_saliency_writes_maps_and_pictures(work, good, tmp_path):
    out = tmp_path / "new" / "out"
    result = run("saliency", work / "m.onnx", *good, "--class", "dog", "--class", "4", "-o", out)
    assert result.exit_code == 0
    truth = Session(work / "m.onnx", ["cpu"]).saliency(good, classes=[1, 4])
    for line, one in zip(lines(result), truth, strict=True):
        maps = np.load(line["npy"])
        assert maps.dtype == np.float32
        np.testing.assert_array_equal(maps, one.maps)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{number}.{suffix}" for number in range(4) for suffix in ("npy", "backlit.png")
    )
    with Image.open(out / "0.backlit.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_localize_prints_the_boxes_of_the_session(work, good, recipe):
    result = run("localize", work / "m.onnx", *good, "--top", "2", "--recipe", recipe)
    assert result.exit_code == 0
    session = Session(work / "m.onnx", ["cpu"])
    truth = session.localize(good, top=2, recipe=recipe)
    for path, line, one in zip(good, lines(result), truth, strict=True):
        assert list(line) == ["image", "width", "height", "results"]
        assert (line["image"], line["width"], line["height"]) == (str(path), one.width, one.height)
        assert [list(row) for row in line["results"]] == [
            ["class", "label", "score", "box", "map", "recipe"]
        ] * 2
        assert [row["class"] for row in line["results"]] == one.classes.tolist()
        assert [row["label"] for row in line["results"]] == list(one.labels)
        boxes = [None if box is None else list(box) for box in one.boxes]
        assert [row["box"] for row in line["results"]] == boxes
        chosen = fitted(recipe, session.contract)
        assert {(row["map"], row["recipe"]) for row in line["results"]} == {
            (chosen.map, chosen.name)
        }


def test_boxes_do_not_depend_on_threads_or_order(work, good):
    session = Session(work / "m.onnx", ["cpu"])
    forward = session.localize(good * 5, top=3)
    backward = session.localize((good * 5)[::-1], top=3, batch=1)[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.boxes == other.boxes
        np.testing.assert_array_equal(one.masks, other.masks)


def test_masks_and_boxes_agree_in_the_original_image(work, good):
    for one in Session(work / "m.onnx", ["cpu"]).localize(good, top=5):
        assert one.masks.shape == (5, one.height, one.width)
        for mask, box in zip(one.masks, one.boxes, strict=True):
            ys, xs = np.nonzero(mask)
            own = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            assert (np.abs(np.array(own) - box) <= 1).all()


def test_one_bad_image_is_reported_and_loses_no_other(work, tmp_path):
    out = tmp_path / "out"
    result = run("localize", work / "m.onnx", work / "photos", "-o", out)
    assert result.exit_code == 1
    found = lines(result)
    names = [Path(line["image"]).name for line in found]
    assert names == ["0.png", "1.png", "2.png", "2a.jpg", "3.png"]
    assert [list(line) for line in found if "error" in line] == [["image", "error"]]
    assert "2a.jpg" in found[3]["error"]
    assert "2a.jpg" in result.stderr
    assert "fix:" in result.stderr
    assert "4 of 5 images" in result.stderr
    assert (out / "boxes.jsonl").read_text() == result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{number}.backlit.png" for number in range(4)),
        "boxes.jsonl",
        "boxes.run.json",
    ]


def test_equal_names_do_not_overwrite_each_other(work, good, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes(good[1].read_bytes())
    out = tmp_path / "out"
    run("saliency", work / "m.onnx", good[0], other / "0.png", good[0], "-o", out)
    names = [f"{name}.{kind}" for name in ("0", "0_2", "0_3") for kind in ("backlit.png", "npy")]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)


def test_images_from_stdin(work, good):
    text = "".join(f"{path}\n" for path in good) + "\n"
    result = run("saliency", work / "m.onnx", "-", stdin=text)
    assert [line["image"] for line in lines(result)] == [str(path) for path in good]
    assert run("saliency", work / "m.onnx", "-", stdin="\n").exit_code == 2


@pytest.mark.parametrize("command", ["saliency", "localize"])
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--class", "9"], 1, "classes 0 to 4"),
        (["--class", "-9"], 1, "classes 0 to 4"),
        (["--class", "dgo"], 1, "did you mean 'dog'"),
        (["--top", "6"], 1, "5 classes"),
        (["--top", "0"], 1, "5 classes"),
        (["--top", "2", "--class", "1"], 2, "contradict"),
        (["--crops", "3"], 2, "'3' is not one of '1', '2', '10'"),
        (["--batch", "0"], 2, "--batch"),
        (["--threads", "0"], 2, "0 threads"),
        (["--providers", "gpu"], 2, "cuda, tensorrt, cpu, openvino"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_options_that_cannot_be(work, good, command, options, code, words):
    result = run(command, work / "m.onnx", good[0], *options)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.skipif(probing.probe("cuda").loads, reason="CUDA loads here")
def test_a_provider_that_does_not_load(work, good):
    result = run("localize", work / "m.onnx", good[0], "--providers", "cuda,cpu")
    assert result.exit_code == 1
    assert "fix: pip install" in result.stderr
    assert result.stdout == ""


def test_help_names_every_recipe():
    from backlit.runtime.boxes.recipes import RECIPES

    text = " ".join(run("localize", "-h").stdout.split())
    line = text.split("How a map becomes a box:")[1].split("[default")[0]
    assert set(RECIPES) <= set(re.findall(r"[\w-]+", line))


def test_a_bomb_among_others_is_one_line_and_no_warning(work, good):
    environment = {**os.environ, "BACKLIT_MAX_PIXELS": "3500"}  # 70x60 is above, 40x60 is not
    done = subprocess.run(
        [*PROGRAM, "saliency", str(work / "m.onnx"), str(good[0]), str(good[3])],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert "scores" in first
    assert "too large: 60x70 pixels, limit 3500" in second["error"]
    assert "Warning" not in done.stderr
    assert "BACKLIT_MAX_PIXELS" in done.stderr


def test_unknown_recipe(work, good):
    result = run("localize", work / "m.onnx", good[0], "--recipe", "magic")
    assert result.exit_code == 2
    assert "default" in result.stderr


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "folder", "truncated", "plain", "new"]
)
def test_files_that_are_no_backlit_file(work, good, tmp_path, kind):
    path = tmp_path / "bad.onnx"
    data = (work / "m.onnx").read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "plain":
        write_linear_file(path, metadata=False)
    elif kind == "new":
        write_linear_file(path, metadata='{"schema": 99, "tool": "backlit 7.0"}')
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello\n", "truncated": data[:-500]}[kind])
    out = tmp_path / "out"
    result = run("localize", path, good[0], "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "  fix: " in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not list(out.glob("*"))
    assert {"plain": "not a Backlit file", "new": "schema 99"}.get(
        kind, "bad.onnx"
    ) in result.stderr


def test_folder_without_images(work, tmp_path):
    result = run("localize", work / "m.onnx", tmp_path)
    assert result.exit_code == 2
    assert "without images" in result.stderr


@pytest.mark.parametrize("where", ["file", "under a file", "read-only"])
def test_output_that_cannot_be_written_is_an_error_before_any_work(work, good, tmp_path, where):
    (tmp_path / "file").write_text("kept")
    target = {"file": "file", "under a file": "file/out", "read-only": "locked/out"}[where]
    (tmp_path / "locked").mkdir(mode=0o500)
    if where == "read-only" and os.access(tmp_path / "locked", os.W_OK):
        target = "/proc/backlit"  # root may write anywhere but here
        if not Path("/proc").is_dir():
            pytest.skip("this user may write everywhere")
    result = run("localize", work / "m.onnx", good[0], "-o", tmp_path / target)
    assert result.exit_code == 1
    assert "cannot be" in result.stderr
    assert result.stdout == ""
    assert (tmp_path / "file").read_text() == "kept"


def test_files_are_whole_or_absent(tmp_path):
    path, mark = tmp_path / "a.bin", re.compile(b"old|new")
    path.write_bytes(b"old")

    def half():
        with output.whole_file(path, mark) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_bytes() == b"old"
    with output.whole_file(path, mark) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    with pytest.raises(OutputError), output.whole_file(tmp_path / "no" / "a.bin"):
        pass


# A real process


def test_streams_of_a_real_process(work):
    done = subprocess.run(
        [*PROGRAM, "localize", str(work / "m.onnx"), str(work / "photos")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 5
    assert done.stderr.splitlines()[-1].startswith("4 of 5 images on ")
    assert "Traceback" not in done.stderr


def under_way(images, *command):
    """The program in a process of its own, fed the images, its first line read and right."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and so its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write("\n".join(map(str, images)))
    process.stdin.close()
    assert json.loads(process.stdout.readline())["image"] == str(images[0])
    return process


def test_broken_pipe_ends_quietly(work, good):
    process = under_way(good * 200, "saliency", work / "m.onnx", "-")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(20) == 1


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_ends_cleanly_and_leaves_nothing_half_written(work, good, tmp_path):
    process = under_way(good * 500, "localize", work / "m.onnx", "-", "-o", tmp_path / "out")
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    said = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(20) == 130
    text = (tmp_path / "out" / "boxes.jsonl").read_text()
    done = [json.loads(line)["image"] for line in text.splitlines()]
    assert text.endswith("\n")
    assert done == [str(path) for path in (good * 500)[: len(done)]]
    assert said == "the same command with --resume goes on from here\ninterrupted\n"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = {f"{number:06d}_{Path(image).stem}.backlit.png" for number, image in enumerate(done, 1)}
    assert drawn <= names - {"boxes.jsonl", "boxes.run.json"}
    assert not [name for name in names if name.startswith(".")]
