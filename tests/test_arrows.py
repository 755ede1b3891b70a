"""Arrows point down: what `make lint` says of a tree with an import that does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")
PLANTED = {
    "up": ("runtime/backend/cpu.py", "from ..maps import kinds", "from top to bottom BROKEN"),
    "up, for types alone": (
        "runtime/maps/explain.py",
        "if TYPE_CHECKING:\n    from ..session import Session",
        "from top to bottom BROKEN",
    ),
    "beside": ("runtime/images/load.py", "from ..backend import protobuf", "bottom BROKEN"),
    "a circle in a room": ("runtime/boxes/geometry.py", "from . import localize", "circle"),
    "the other half": ("runtime/stages.py", "from ..export import probes", "nothing of the"),
    "lazily": (
        "runtime/session.py",
        "def planted() -> None:\n    from ..export import build",
        "nothing of the",
    ),
    "rich below the commands": ("runtime/drawing/panels.py", "import rich", "click and rich"),
    "the exporter, up": ("export/graph/values.py", "from ..rules import relu", "bottom BROKEN"),
    "the exporter's core, too high in the runtime": (
        "export/wrap.py",
        "from ..runtime import session",
        "what differentiates knows",
    ),
    "a room of no layer": ("runtime/attic.py", "", "attic"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the repository as the package that they are."""
    tree = tmp_path_factory.mktemp("arrows")
    dull = shutil.ignore_patterns("__pycache__", "*.onnx", "samples")
    shutil.copytree(ROOT / "backlit", tree / "backlit", ignore=dull)
    for name in ("export", "runtime", "models"):
        shutil.copytree(ROOT / name, tree / "backlit" / name, ignore=dull)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    words = [LINT, "--no-logo", "--no-cache"]
    return subprocess.run(words, cwd=tree, capture_output=True, text=True)


def test_all_arrows_point_down(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_arrow_is_found(tree: Path, name: str) -> None:
    place, line, said = PLANTED[name]
    file = tree / "backlit" / place
    before = file.read_text(encoding="utf-8") if file.exists() else None
    file.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
    try:
        done = lint(tree)
    finally:
        file.unlink() if before is None else file.write_text(before, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    assert Path(place).stem in done.stdout
