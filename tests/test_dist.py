"""What is published: all of the package and nothing else, the same bytes from the same files."""

from __future__ import annotations

import os
import runpy
import subprocess
import tarfile
import tomllib
import zipfile
from email.message import Message
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from release import dist, environment, repack, wheel

ROOT = Path(__file__).parents[1]
HALVES = {"export": "backlit/export", "runtime": "backlit/runtime", "models": "backlit/models"}
BUILDS = pytest.mark.skipif(
    not getattr(find_spec("build"), "origin", None), reason="the package build is not installed"
)
WHEN = 1_600_000_000


def tracked(*folders: str) -> list[str]:
    return [name for name in dist.files(ROOT) if name.split("/")[0] in folders]


def in_wheel(name: str) -> str:
    top, _, inner = name.partition("/")
    return f"{HALVES.get(top, top)}/{inner}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clean copy of the files that the package is built from."""
    return dist.copy(ROOT, dist.files(ROOT), tmp_path / "work", dist.FIRST)


def test_every_folder_with_modules_is_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.setattr(setuptools, "setup", lambda **named: said.update(named))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    modules = [path for top in ("backlit", *HALVES) for path in (ROOT / top).rglob("*.py")]
    wanted = {Path(in_wheel(path.relative_to(ROOT).as_posix())).parent for path in modules}
    assert set(said["packages"]) == {".".join(folder.parts) for folder in wanted}
    assert {"backlit", "backlit.models", "backlit.export.rules"} <= set(said["packages"])


@BUILDS
def test_wheel_and_sdist_hold_the_package(tree: Path) -> None:
    built, source = dist.build(tree, WHEN, dist.FIRST)
    names = set(repack.members(built))
    info = f"{built.name.removesuffix('-py3-none-any.whl')}.dist-info"
    package = {in_wheel(name) for name in tracked("backlit", *HALVES)}
    assert {name for name in names if not name.startswith(info)} == package
    assert f"{info}/licenses/LICENSE" in names
    for data in ("tiny_convnet.onnx", "tiny_convnet.labels.txt", "samples/boxes.json", "py.typed"):
        assert f"backlit/models/{data}" in names

    top = source.name.removesuffix(".tar.gz")
    held = {name.removeprefix(f"{top}/") for name in repack.members(source)}
    assert held >= set(tracked("backlit", *HALVES))
    assert held >= {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert not [name for name in held if name.startswith(("tests", "docs", "benchmarks"))]


@BUILDS
def test_a_build_that_depends_on_its_folder_is_refused(tree: Path, tmp_path: Path) -> None:
    setup = tree / "setup.py"
    planted = "import os\nsetup(\n    maintainer=os.getcwd(),"
    setup.write_text(setup.read_text("utf-8").replace("setup(", planted, 1), "utf-8")
    said = r"^[^\n]*\.whl is not reproducible: [^\n]* the bytes of [^\n]*/METADATA; fix: [^\n]*$"
    with pytest.raises(dist.DistError, match=said):
        dist.make(tree, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


@BUILDS
def test_a_build_that_fails_says_so_in_one_line(tree: Path, tmp_path: Path) -> None:
    (tree / "setup.py").write_text("raise SystemExit('no')", "utf-8")
    with pytest.raises(dist.DistError, match=r"^the wheel cannot be built: [^\n]*; fix: [^\n]*$"):
        dist.make(tree, tmp_path / "dist")


def archives(folder: Path, names: list[str], mode: int, when: int) -> tuple[Path, Path]:
    """A .tar.gz and a .whl of the same three members, as a tree in ``folder`` would give them."""
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the text of {Path(name).name}", "utf-8")
        (folder / name).chmod(mode)
        os.utime(folder / name, (when, when))
    packed, zipped = folder / "raw.tar.gz", folder / "raw.whl"
    with tarfile.open(packed, "w:gz") as tar, zipfile.ZipFile(zipped, "w") as archive:
        for name in names:
            tar.add(folder / name, name)
            archive.write(folder / name, name)
    repack.sdist(packed, folder / "new.tar.gz", WHEN)
    repack.wheel(zipped, folder / "new.whl", WHEN)
    return folder / "new.tar.gz", folder / "new.whl"


MEMBERS = ["p-1.dist-info/RECORD", "p/b.py", "p/a.py", "p-1.dist-info/METADATA"]


def test_times_modes_and_order_are_nothing_to_the_bytes(tmp_path: Path) -> None:
    first = archives(tmp_path / "a", MEMBERS, 0o644, 1_500_000_000)
    second = archives(tmp_path / "b", MEMBERS[::-1], 0o600, 1_400_000_001)
    raw = [tmp_path / one / "raw.tar.gz" for one in "ab"]
    assert repack.difference(*raw) == "the mode, owner or time of p-1.dist-info/METADATA"
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert repack.difference(one, other) is None
    with zipfile.ZipFile(first[1]) as archive:
        assert [one.filename for one in archive.infolist()] == [
            "p/a.py", "p/b.py", "p-1.dist-info/METADATA", "p-1.dist-info/RECORD",
        ]  # fmt: skip
        assert archive.read("p/a.py") == b"the text of a.py"
    with tarfile.open(first[0]) as tar:
        assert {(one.uid, one.uname, one.mode, one.mtime) for one in tar} == {(0, "", 0o644, WHEN)}
    header = first[0].read_bytes()[:8]  # of gzip: no file's name, and the time that was given
    assert (header[3], int.from_bytes(header[4:], "little")) == (0, WHEN)


def test_a_program_stays_one(tmp_path: Path) -> None:
    packed, zipped = archives(tmp_path / "a", ["p/tool"], 0o700, 1_500_000_000)
    with tarfile.open(packed) as tar, zipfile.ZipFile(zipped) as archive:
        assert tar.getmember("p/tool").mode == 0o755
        assert archive.getinfo("p/tool").external_attr >> 16 & 0o777 == 0o755


def test_the_comparison_names_the_member(tmp_path: Path) -> None:
    first = archives(tmp_path / "a", MEMBERS, 0o644, WHEN)
    less = archives(tmp_path / "b", MEMBERS[:2], 0o644, WHEN)
    program = archives(tmp_path / "c", MEMBERS, 0o755, WHEN)
    (tmp_path / "d").mkdir()
    other = tmp_path / "d" / "new.whl"
    with zipfile.ZipFile(first[1]) as old, zipfile.ZipFile(other, "w") as new:
        for one in old.infolist():
            new.writestr(one, old.read(one).replace(b"b.py", b"B.py"))
    assert repack.difference(first[1], other) == "the bytes of p/b.py"
    for whole, two in zip(first, less, strict=True):
        assert repack.difference(whole, two) == "p-1.dist-info/METADATA, which only one of them has"
    for whole, two in zip(first, program, strict=True):
        assert repack.difference(whole, two) == "the mode, owner or time of p-1.dist-info/METADATA"


def test_without_git_what_was_generated_is_left_out(tmp_path: Path) -> None:
    for name in (
        "setup.py",
        "p/a.py",
        "p/__pycache__/a.pyc",
        "dist/x.whl",
        ".venv/x",
        "p.egg-info/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert dist.files(tmp_path) == ["p/a.py", "setup.py"]


@pytest.mark.parametrize(
    ("said", "wanted"), [("1700000000", 1_700_000_000), ("1", repack.EARLIEST)]
)
def test_the_time_that_is_asked_for(
    said: str, wanted: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    assert dist.epoch(tmp_path) == wanted


def test_what_an_extra_asks_for() -> None:
    said = Message()
    for name, line in (
        ("Name", "backlit"),
        ("Requires-Dist", "click>=8.1"),
        ("Requires-Dist", 'onnxruntime-gpu>=1.20; extra == "gpu"'),
        ("Requires-Dist", 'backlit[export]; extra == "gpu"'),
        ("Requires-Dist", 'onnx>=1.20; extra == "export"'),
    ):
        said.add_header(name, line)
    assert environment.requirements(said, "gpu") == ["click", "onnxruntime-gpu"]
    assert environment.requirements(said, "cpu,export") == ["click", "onnx"]


def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(dist.DistError, match="'yesterday'; fix: give it seconds since 1970"):
        dist.epoch(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert dist.epoch(tmp_path) == repack.EARLIEST


def test_a_package_that_is_not_for_a_python_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As pip says it of MLServer on Python 3.13, for which an old version without a bound is."""
    said = (
        "ERROR: Ignored the following versions that require a different python version: 1.7.1 "
        "Requires-Python <3.13,>=3.9\nERROR: No matching distribution found for mlserver>=1.7\n"
    )

    def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        asked.append([str(word) for word in words])
        return subprocess.CompletedProcess(words, int("install" in words), "", said)

    asked: list[list[str]] = []
    monkeypatch.setattr(environment, "run", run)
    here = environment.Environment(tmp_path / "env", tmp_path, "mlserver")
    with pytest.raises(environment.NotInstallableError, match="mlserver is not for this Python"):
        environment.install("python3.13", here, tmp_path / "backlit.whl")
    assert str(environment.OLDER) in asked[-1]
    said = "ERROR: Cannot install mlserver: these package versions have conflicting dependencies.\n"
    monkeypatch.setattr(environment, "requirements", lambda *_: [])
    monkeypatch.setattr(environment, "metadata", lambda *_: None)
    with pytest.raises(environment.WheelError, match="conflicting"):
        environment.install("python3.13", here, tmp_path / "backlit.whl")


def test_every_extra_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["optional-dependencies"]) == set(environment.BRINGS)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.version_of("python3.99") is None
    rows = [
        wheel.Row("python3", "cpu", 184_000_000, True, "ok: x"),
        wheel.Row("p", "gpu", 0, None, "-"),
    ]
    assert wheel.table(rows).splitlines()[1:] == [
        "python3  cpu    184  ok: x",
        "p        gpu      -  -",
    ]
