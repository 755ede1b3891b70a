"""A small part of ``make fuzz``: hostile inputs of every kind work or are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import runner, table
from fuzz.judge import judge

CASES = {"backlit files": 40, "onnx files": 30, "data sets": 8, "command lines": 12}


@pytest.mark.parametrize("kind", CASES)
def test_hostile_inputs_work_or_are_refused_in_words(kind: str, tmp_path: Path) -> None:
    counts, failures = runner.fuzz(kind, range(CASES[kind]), tmp_path)
    assert failures == []
    assert counts.total() == CASES[kind]
    assert counts["worked"] > 0
    assert counts["refused"] > 0


def test_the_small_part_is_of_every_kind() -> None:
    assert set(CASES) <= set(table.KINDS)


@pytest.mark.parametrize("kind", table.KINDS)
def test_a_case_is_the_same_each_time(kind: str, tmp_path: Path) -> None:
    """So that a failure can be replayed by its number."""
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        arguments = table.KINDS[kind].case(7, folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        made.append((arguments, [(f.relative_to(folder), f.read_bytes()) for f in files]))
    assert made[0] == made[1]


# The runner, with a worker that does what no command may do.

PLANTED = """
import json, os, signal, sys, time
from pathlib import Path
for line in sys.stdin:
    seed = int(line)
    (Path(sys.argv[2]) / line.strip()).mkdir()
    (Path(sys.argv[2]) / f"{seed}.json").write_text("[]")
    if seed == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed == 2:
        time.sleep(60)
    if seed == 3:
        os.kill(os.getpid(), signal.SIGPROF)
    print(json.dumps([seed, "raw" if seed == 4 else "worked", "said"]), flush=True)
"""


def test_the_runner_counts_deaths_and_hangs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.setattr(runner, "WORKER", str(tmp_path / "planted.py"))
    out = tmp_path / "out"
    counts, failures = runner.fuzz("any", range(6), out, workers=2, patience=5)
    assert counts == {"worked": 2, "death": 1, "hang": 2, "raw": 1}
    assert [(f.seed, f.verdict) for f in failures] == [
        (1, "death"), (2, "hang"), (3, "hang"), (4, "raw"),
    ]  # fmt: skip
    for failure in failures:  # kept, to be run again
        assert (failure.folder / "arguments.json").read_text() == "[]"
    assert not (out / "0").exists()


@pytest.mark.parametrize(
    ("code", "raised", "stderr", "native", "verdict"),
    [
        (0, None, "", "", "worked"),
        (1, None, "error: it is broken.\n  fix: mend it.\n", "", "refused"),
        (2, None, "Usage: x\n\nError: No such option: --x\n", "", "refused"),
        (1, None, "error: it is broken.\n", "", "raw"),
        (1, None, "Error: No such option: --x\n", "", "raw"),
        (1, None, "", "", "raw"),
        (5, None, "error: it is broken.\n  fix: mend it.\n", "", "raw"),
        (1, ValueError("x"), "", "", "raw"),
        (1, None, "error: this is a bug in Backlit: x\n  fix: report it.\n", "", "raw"),
        (0, None, "Traceback (most recent call last):\n", "", "raw"),
        (0, None, "/a/b.py:3: RuntimeWarning: overflow\n", "", "noise"),
        (0, None, "", "[E:onnxruntime] failed", "noise"),
    ],
)
def test_what_is_no_refusal_in_words(
    code: int, raised: Exception | None, stderr: str, native: str, verdict: str
) -> None:
    assert judge(code, raised, stderr, native)[0] == verdict
