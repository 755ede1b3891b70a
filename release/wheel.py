"""The wheel of dist/, installed with each extra into a fresh environment, and tried there.

    python -m release.wheel [--pythons "python3.11 python3.12"] [--extras "cpu cpu,boxes,export"]

Environments lie in a temporary folder, commands run in an empty one, and what is imported must come
from the environment. What a Python or a system has no packages for is said, and is no failure; a
Python for which not one extra could be installed is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .environment import (
    BRINGS,
    ROOT,
    Environment,
    NotInstallableError,
    WheelError,
    install,
    last,
    metadata,
    run,
    version_of,
)

PROBE = Path(__file__).with_name("installed.py")
WHOLE = "cpu,boxes,export"
FILE = "tiny_convnet.backlit.onnx"
MUG = 7


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of an extra in a Python; ``ok`` is None where it cannot be installed there."""

    python: str
    extra: str
    size: int
    ok: bool | None
    result: str


def extras_of(wheel: Path) -> tuple[str, list[str]]:
    """A wheel's version, and its extras with the combination that does everything in front."""
    said = metadata(wheel)
    extras = [str(one) for one in said.get_all("Provides-Extra", [])]
    if unknown := set(extras) - set(BRINGS):
        raise WheelError(
            f"release/environment.py does not say what {min(unknown)} brings; fix: add it"
        )
    return str(said["Version"]), [WHOLE, *extras]


def row(python: str, wheel: Path, version: str, extra: str, kept: Path) -> Row:
    """Install the wheel with an extra, and try all that should work then.

    Args:
        python: the interpreter to make the environment with.
        wheel: the file.
        version: the version that it should have.
        extra: one, or several with commas.
        kept: folder where the whole combination leaves a Backlit file for the others to run.
    """
    shown = f"{Path(python).name} ({version_of(python)})"
    with tempfile.TemporaryDirectory(prefix="backlit-wheel-") as folder:
        here = Environment(Path(folder) / "env", Path(folder) / "empty", extra)
        here.empty.mkdir()
        size = 0
        try:
            install(python, here, wheel)
            size = sum(
                path.lstat().st_size for path in here.folder.rglob("*") if not path.is_symlink()
            )
            said = attempt(here, version, kept)
        except NotInstallableError as error:
            return Row(shown, extra, size, None, f"not installable here: {error}")
        except WheelError as error:
            return Row(shown, extra, size, False, f"FAILED: {error}")
    return Row(shown, extra, size, True, f"ok: {said}")


def attempt(here: Environment, version: str, kept: Path) -> str:
    """Try what should work with the extra, and what should be refused without the others.

    Returns:
        What was tried.

    Raises:
        WheelError: something did not do what it should.
    """
    modules = {name for brings in BRINGS.values() for name in brings}
    brings = [name for name in sorted(modules) if here.has(name)]
    asked = {"version": version, "brings": brings, "lacks": sorted(modules - set(brings))}
    missing = "export" if not here.has("onnx") else "cpu" if not here.has("onnxruntime") else ""
    asked |= {"missing": missing, "checkout": str(ROOT)}
    text = PROBE.read_text(encoding="utf-8")
    probed = run(here.python, "-I", "-c", text, json.dumps(asked), cwd=here.empty)
    sample = _ok(probed, "import backlit").strip()

    if "saliency" not in _ok(here.backlit("--help"), "backlit --help"):
        raise WheelError("backlit --help lists no saliency")
    doctor = json.loads(_ok(here.backlit("doctor"), "backlit doctor"))
    if doctor["packages"]["backlit"] != version:
        raise WheelError(f"backlit doctor names version {doctor['packages']['backlit']}")
    if missing:
        _refused(here.backlit("export", "-h"), "backlit export", missing)
    else:
        _ok(here.backlit("ops"), "backlit ops")

    file = kept / FILE
    if here.extra == WHOLE:
        _ok(here.backlit("demo", "-o", "out"), "backlit demo")
        if len(list((here.empty / "out").glob("*.png"))) != 12:
            raise WheelError("backlit demo did not draw 12 pictures")
        file.write_bytes((here.empty / "out" / FILE).read_bytes())
        return "imports, help, doctor, demo"
    if not here.has("onnxruntime"):
        _refused(here.backlit("saliency", sample, sample), "backlit saliency", "cpu")
        return "imports, help, doctor, refusals"
    if not file.exists():
        raise WheelError(f"there is no file to run: {WHOLE} makes it, which failed or was left out")
    words = ("saliency", file, sample, "-o", "maps", "--no-pictures")
    line = json.loads(_ok(here.backlit(*words), "backlit saliency"))
    if line["classes"] != [MUG]:
        raise WheelError(f"backlit saliency finds classes {line['classes']}, not {[MUG]}")
    if not (here.empty / line.get("npy", "")).is_file():
        raise WheelError("backlit saliency names no map that it has written")
    _refused(here.backlit("localize", file, sample), "backlit localize", "boxes")
    return "imports, help, doctor, refusals, scores and saliency of a file"


def table(rows: Iterable[Row]) -> str:
    """The rows as text, columns aligned."""
    cells = [("python", "extra", "MB", "result")]
    for one in rows:
        size = f"{one.size / 1e6:.0f}" if one.size else "-"
        cells.append((one.python, one.extra, size, one.result))
    wide = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        f"{python:<{wide[0]}}  {extra:<{wide[1]}}  {size:>{wide[2]}}  {result}"
        for python, extra, size, result in cells
    )


def main() -> None:
    """Try every extra in every Python, and print what came of it."""
    parser = argparse.ArgumentParser(description="Install the wheel of dist/ and try it.")
    parser.add_argument("--pythons", default="python3", help="interpreters to try")
    parser.add_argument("--extras", default="", help="only these; several with commas are one")
    asked = parser.parse_args()
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"wheel: dist/ holds {len(wheels)} wheels, not one; fix: make dist")
    try:
        version, extras = extras_of(wheels[0])
    except WheelError as error:
        sys.exit(f"wheel: {error}")
    extras = asked.extras.split() or extras
    if unknown := {one for extra in extras for one in extra.split(",")} - set(BRINGS):
        sys.exit(f"wheel: there is no extra {min(unknown)}; fix: choose of {', '.join(BRINGS)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="backlit-wheel-") as kept:
        if Path(kept).resolve().is_relative_to(ROOT):
            sys.exit("wheel: temporary files lie in the checkout; fix: set TMPDIR elsewhere")
        for python in asked.pythons.split():
            if version_of(python) is None:
                print(f"{python}: not found, skipped")
                continue
            for extra in sorted(extras, key=WHOLE.__ne__):  # first, because it makes the file
                print(f"{python}: {extra} ...", file=sys.stderr, flush=True)
                rows.append(row(python, wheels[0], version, extra, Path(kept)))
    if not rows:
        sys.exit(f"wheel: none of {asked.pythons} was found; fix: make wheel PYTHONS=python3")
    print(f"{wheels[0].name}\n{table(rows)}")
    failed = [one for one in rows if one.ok is False]
    untried = {one.python for one in rows} - {one.python for one in rows if one.ok}
    if failed or untried:
        sys.exit(f"wheel: {len(failed)} failed; with nothing tried: {sorted(untried) or 'none'}")


def _ok(done: subprocess.CompletedProcess[str], what: str) -> str:
    if done.returncode:
        raise WheelError(f"{what}: {last(done.stderr or done.stdout)}")
    return done.stdout


def _refused(done: subprocess.CompletedProcess[str], what: str, extra: str) -> None:
    """A command without its extra ends with one line that names it, not with a traceback."""
    if done.returncode != 1 or f"pip install 'backlit[{extra}]'" not in done.stderr:
        raise WheelError(f"{what} without {extra} does not name it: {last(done.stderr)}")
    if "Traceback" in done.stderr:
        raise WheelError(f"{what} without {extra} shows a traceback")


if __name__ == "__main__":
    main()
