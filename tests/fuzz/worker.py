"""A process that runs cases, one number a line on stdin, and answers a line of JSON for each.

python tests/fuzz/worker.py KIND FOLDER
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from fuzz.judge import judge
from fuzz.runner import SECONDS
from fuzz.table import KINDS

MEMORY = 8 << 30
"""Bytes of addresses that a worker may have: what asks for more is refused by the system."""


def main() -> None:
    """Serve until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from backlit.runtime.cli import main as backlit

    kind, folder = KINDS[sys.argv[1]], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")  # nothing else may write there
    os.dup2(2, 1)
    for line in sys.stdin:
        seed = int(line)
        case = folder / str(seed)
        case.mkdir(parents=True)
        arguments = kind.case(seed, case)
        (folder / f"{seed}.json").write_text(json.dumps(arguments))
        before = os.getcwd()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # SIGPROF ends the process
        with _native() as heard:
            os.chdir(case)
            try:
                result = CliRunner().invoke(backlit, arguments, prog_name="backlit")
            finally:
                os.chdir(before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        raised = result.exception
        if isinstance(raised, SystemExit):
            raised = None
        verdict, said = judge(result.exit_code, raised, result.stderr, heard[0])
        if raised is not None:
            said = f"{said}\n{_places(raised)}"
        print(json.dumps([seed, verdict, said]), file=answers, flush=True)
        gc.collect()


def _places(raised: BaseException) -> str:
    """Where it was raised, the innermost place first."""
    frames = traceback.extract_tb(raised.__traceback__)[:-7:-1]
    return " < ".join(f"{'/'.join(f.filename.split('/')[-2:])}:{f.lineno}" for f in frames)


@contextlib.contextmanager
def _native() -> Iterator[list[str]]:
    """What is written on the process's own stderr meanwhile, as the only entry of a list."""
    heard = [""]
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            heard[0] = file.read().decode("utf-8", "replace")


if __name__ == "__main__":
    main()
