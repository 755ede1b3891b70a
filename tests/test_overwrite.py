"""What a command reads is never replaced, and what Backlit did not write only by --overwrite."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from backlit.runtime import files
from backlit.runtime.cli import group as cli
from backlit.runtime.errors import OutputError
from backlit.runtime.guard import reading
from click.testing import CliRunner, Result
from PIL import Image
from support.labelled import write_classifier, write_wsolevaluation
from support.linear_file import write_linear_file
from support.small import convnet

import backlit

MINE = b"nobody else has a copy of this"
PICTURES = ("a.png", "b.jpg")
FORMATS = ("--format", "csv", "--format", "coco", "--format", "voc")
SVG = ("--picture-format", "svg")
SHORT = ("--class", "0-1", "--steps", "2")

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "localize": (
        ("localize", "m.onnx", "photos", "-o", "out", "--masks", *FORMATS),
        (
            "out/boxes.jsonl", "out/boxes.run.json", "out/boxes.previous.jsonl", "out/boxes.csv",
            "out/coco.json", "out/Annotations/a.xml", "out/a.backlit.png",
        ),
    ),
    "localize one scale": (
        ("localize", "m.onnx", "photos", "-o", "out", "--scale", "run", "--sheet", "all.png"),
        ("out/b.npy", "out/b.backlit.png", "all.png"),
    ),
    "saliency": (
        ("saliency", "m.onnx", "photos", "-o", "out", "--panels", "saliency,smoothgrad"),
        ("out/a.npy", "out/a.smoothgrad.npy", "out/b.backlit.png"),
    ),
    "saliency as svg": (
        ("saliency", "m.onnx", "photos", "-o", "out", "--sheet", "s.svg", *SVG),
        ("out/a.backlit.svg", "s.svg"),
    ),
    "visualize": (
        ("visualize", "g.onnx", *SHORT, "--separate", "-o", "seen.png"),
        ("seen.png", "seen.jsonl", "seen_1.png"),
    ),
    "evaluate": (
        ("evaluate", "e.onnx", "data", "-o", "out", "--baselines", "none", "--heatmaps", "maps",
         "--gallery", "0"),
        (
            "out/metrics.json", "out/images.csv", "out/report.html", "out/records.jsonl",
            "out/records.run.json",
        ),
    ),
    "export": (("export", "net.onnx", "-o", "new.onnx", "--no-verify"), ("new.onnx",)),
}  # fmt: skip
EACH = [(name, place) for name, (_, places) in COMMANDS.items() for place in places]


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_linear_file(folder / "m.onnx", height=24, width=24, classes=3)
    write_linear_file(folder / "g.onnx", height=24, width=24, classes=3, output="gradient")
    write_classifier(folder / "e.onnx")
    write_wsolevaluation(folder / "data", 3)
    onnx.save(convnet(), folder / "net.onnx")
    (folder / "photos").mkdir()
    for number, name in enumerate(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("name", "place"), EACH, ids=[f"{n}: {p}" for n, p in EACH])
def test_a_file_of_somebody_else_stays(work: Path, name: str, place: str) -> None:
    command, _ = COMMANDS[name]
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_bytes(MINE)
    before = everything(work)
    done = run(*command)
    assert done.exit_code == 1, done.output
    assert f"{place} cannot be written" in done.stderr
    assert "--overwrite" in done.stderr
    assert done.stdout == ""
    assert everything(work) == before  # nothing has begun


@pytest.mark.parametrize("name", COMMANDS)
def test_own_files_are_replaced_and_others_by_overwrite(work: Path, name: str) -> None:
    command, places = COMMANDS[name]
    assert run(*command).exit_code == 0
    before = everything(work)
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert {*everything(work)} == {*before}
    here = [place for place in places if ".run." not in place and ".previous." not in place]
    for place in here:
        assert place in before, place
        Path(place).write_bytes(MINE)
    Path("out/boxes.run.json").unlink(missing_ok=True)
    Path("out/records.run.json").unlink(missing_ok=True)
    assert run(*command).exit_code == 1
    done = run(*command, "--overwrite")
    assert done.exit_code == 0, done.output
    assert MINE not in [Path(place).read_bytes() for place in here]
    assert {*everything(work)} == {*before}


def test_masks_and_heatmaps_of_somebody_else_stay(work: Path) -> None:
    command, _ = COMMANDS["localize"]
    run(*command)
    (mask,) = Path("out/masks").glob("a_*.png")
    shutil.rmtree("out")
    mask.parent.mkdir(parents=True)
    mask.write_bytes(MINE)
    assert f"{mask} cannot be written" in run(*command).stderr
    assert mask.read_bytes() == MINE
    heatmap = Path("maps/val/001.png.npy")
    heatmap.parent.mkdir(parents=True)
    np.save(heatmap, np.zeros((224, 224), np.float32))
    before = heatmap.read_bytes()
    assert f"{heatmap} cannot be written" in run(*COMMANDS["evaluate"][0]).stderr
    assert heatmap.read_bytes() == before


def links(path: Path) -> list[str]:
    """Other names of a file."""
    hard, soft = path.with_name(f"hard{path.suffix}"), path.with_name(f"soft{path.suffix}")
    os.link(path, hard)
    soft.symlink_to(path.name)
    return [str(path), f"./{path}", str(path.absolute()), str(hard), str(soft)]


READ: dict[str, tuple[str, tuple[str, ...]]] = {
    "export": ("net.onnx", ("export", "net.onnx", "-o")),
    "export's labels": ("l.txt", ("export", "net.onnx", "--labels", "l.txt", "-o")),
    "visualize": ("g.png", ("visualize", "g.png", *SHORT, "-o")),
    "bench": ("m.onnx", ("bench", "m.onnx", "-o")),
    "build": ("m.onnx", ("build", "m.onnx", "-o")),
    "verify": (
        "m.html", ("verify", "m.html", "--images", "photos", "--report"),
    ),
    "sheet": ("photos/a.png", ("localize", "m.onnx", "photos", "-o", "out", "--sheet")),
    "sheet of saliency": ("photos/a.png", ("saliency", "m.onnx", "photos", "-o", "out", "--sheet")),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_is_read_stays(work: Path, name: str) -> None:
    Path("l.txt").write_text("cat\ndog\n")
    shutil.copy("g.onnx", "g.png")
    shutil.copy("m.onnx", "m.html")
    read, command = READ[name]
    before = Path(read).read_bytes()
    for other in links(Path(read)):
        for more in ((), ("--overwrite",)):
            done = run(*command, other, *more)
            assert done.exit_code == 1, done.output
            assert "cannot be written: it is what is read" in done.stderr
            assert Path(read).read_bytes() == before
            assert Path(other).read_bytes() == before


def test_pictures_are_written_beside_photos(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work / "photos")
    before = everything(Path())
    for command in ("localize", "saliency"):
        for _ in range(2):
            done = run(command, "../m.onnx", ".", "-o", ".")
            assert done.exit_code == 0, done.output
            assert len(done.stdout.splitlines()) == len(PICTURES)  # results are no photos
    after = everything(Path())
    assert {name: after[name] for name in before} == before
    assert {"a.backlit.png", "b.backlit.png", "boxes.jsonl"} < {*after}


def test_an_own_picture_that_is_read_stays(work: Path) -> None:
    run("saliency", "m.onnx", "photos/a.png", "-o", "photos")
    before = Path("photos/a.backlit.png").read_bytes()
    names = ("photos/a.backlit.png", "photos/a.png")
    for more in ((), ("--overwrite",)):
        done = run("localize", "m.onnx", *names, "-o", "photos", *more)
        assert done.exit_code == 1
        assert "it is what is read" in done.stderr
    listed = CliRunner().invoke(
        cli.main, ["localize", "m.onnx", "-", "-o", "photos"], input="\n".join(names)
    )
    assert listed.exit_code == 0, listed.output
    assert Path("photos/a.backlit.png").read_bytes() == before
    done = run("localize", "m.onnx", "photos/a.backlit.png", "-o", "other")
    assert done.exit_code == 0  # to look at one again is no crime


def test_pictures_of_one_name_all_survive(work: Path) -> None:
    names = ("a.png", "x/a.jpg", "x/a.features.png", "x/A.PNG", "x/e\u0301.png", "x/\u00e9.png")
    Path("x").mkdir()
    for name in names:
        Image.open("photos/a.png").save(name)
    done = run("saliency", "m.onnx", *names, "-o", "out", "--panels", "saliency,smoothgrad")
    assert done.exit_code == 0, done.output
    assert len(list(Path("out").glob("*.backlit.png"))) == len(names)
    assert len(list(Path("out").glob("*.npy"))) == 2 * len(names)


def test_a_map_of_another_image_is_not_the_map_of_a_kind(work: Path) -> None:
    for name in ("a.png", "a.smoothgrad.png"):
        Image.open("photos/b.jpg").save(name)
    done = run("saliency", "m.onnx", "a.smoothgrad.png", "a.png", "-o", "out",
               "--panels", "saliency,smoothgrad")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(list(Path("out").glob("*.npy"))) == 4


def test_a_link_is_written_through_and_a_device_is_not(work: Path) -> None:
    Path("there").mkdir()
    Path("link.onnx").symlink_to("there/real.onnx")
    assert run("export", "net.onnx", "-o", "link.onnx", "--no-verify").exit_code == 0
    assert Path("link.onnx").is_symlink()
    assert onnx.load("there/real.onnx").producer_name == "backlit"
    for place in ("/dev/null", "photos"):
        with pytest.raises(OutputError, match="cannot be written: it is a"):
            backlit.export("net.onnx", place, verify=False)
    assert Path("/dev/null").is_char_device()


def test_saving_in_python(work: Path) -> None:
    session = backlit.Session("m.onnx")
    (found,) = session.localize("photos/a.png", map="saliency")
    before = Path("photos/a.png").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            found.save("photos/a.png", overwrite)
    assert Path("photos/a.png").read_bytes() == before
    for suffix in ("png", "jpg", "webp", "svg", "json", "npz", "npy"):
        place = Path(f"mine.{suffix}")
        place.write_bytes(MINE)
        with pytest.raises(OutputError, match="not of Backlit"):
            found.save(place)
        assert place.read_bytes() == MINE
        found.save(place, overwrite=True)
        found.save(place)  # its own
    with np.load("mine.npz") as arrays:
        np.testing.assert_array_equal(arrays["maps"], found.maps)
    np.testing.assert_array_equal(np.load("mine.npy"), found.maps)
    results = session.localize(["photos/a.png", "photos/b.jpg", "absent.png"], map="saliency")
    results.save("saved")
    results.save("saved")
    Path("saved/results.json").write_bytes(MINE)
    with pytest.raises(OutputError, match=r"results\.json"):
        results.save("saved")
    with pytest.raises(OutputError, match="it is what is read"):
        backlit.export("net.onnx", "net.onnx", overwrite=True)
    Path("other.onnx").write_bytes(MINE)
    with pytest.raises(OutputError, match="not of Backlit"):
        backlit.export("net.onnx", "other.onnx")


def test_weights_beside_a_file_are_its_own_or_somebody_elses(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backlit.export import write

    monkeypatch.setattr(write, "LARGE", 0)
    Path("big.onnx.data").write_bytes(MINE)
    with pytest.raises(OutputError, match=r"big\.onnx\.data"):
        backlit.export("net.onnx", "big.onnx", verify=False)
    assert Path("big.onnx.data").read_bytes() == MINE
    Path("big.onnx.data").unlink()
    for _ in range(2):
        backlit.export("net.onnx", "big.onnx", verify=False)
    assert backlit.Session("big.onnx").contract.score.classes == 6


def test_what_came_during_the_work_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write() -> None:
        with files.whole_file(path) as file:
            file.write(b"new")
            path.write_bytes(MINE)

    with pytest.raises(OutputError, match="not of Backlit"):
        write()
    assert path.read_bytes() == MINE
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_read_without_harm() -> None:
    guard = reading(None, Path("/"), 3, "nowhere", "a.py:make", overwrite=True)
    assert guard.overwrite
    assert len(guard.inputs) == 1
