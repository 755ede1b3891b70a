"""The process of one contender of the benchmark, as its parent sees it."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

_WORKER = Path(__file__).with_name("worker.py")


class Failed(Exception):  # noqa: N818  it is a finding, not an error
    """A contender did not open or run; the text is its reason."""


class AnyJob(Protocol):
    """What a worker is to run: a dataclass that travels as JSON, such as the worker's."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def threads(self) -> int:
        """Threads that may compute at a time."""


class Worker:
    """The process of one contender."""

    def __init__(
        self,
        job: AnyJob,
        timeout: float,
        python: Path | None = None,
        script: Path = _WORKER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            job: what it is to run.
            timeout: seconds for an answer.
            python: another interpreter, which finds nothing of what is installed for this one.
            script: what it runs: reads the job and then questions, a line each, and answers each
                with one line of JSON.
            environment: variables, over those that it would have.

        Raises:
            Failed: it does not open.
        """
        threads = str(job.threads)
        bounds = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        env = {
            **os.environ,
            **dict.fromkeys(bounds, threads),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path),
        }
        for name in ("PYTHONWARNINGS", *(("PYTHONPATH", "PYTHONHOME") if python else ())):
            env.pop(name, None)
        env |= environment or {}
        self._timeout = timeout
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(  # noqa: S603  our own file
            [python or sys.executable, "-P", str(script)], env=env, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(
            target=_forward_lines, args=(self._process.stdout, self._lines), daemon=True
        ).start()
        try:
            self.opened = self.ask(json.dumps(dataclasses.asdict(job)))
        except BaseException:
            self.close()
            raise

    def ask(self, text: str, timeout: float | None = None) -> dict[str, Any]:
        """Send a line and wait for the answer.

        Args:
            text: the line.
            timeout: seconds; None: as given at the start.

        Raises:
            Failed: it says why it cannot, has ended, or takes too long.
        """
        timeout = self._timeout if timeout is None else timeout
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(text + "\n")
                self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            raise Failed(f"not done within {timeout:.0f} s") from None
        if not line:
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._said):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    continue  # what was not sent any more

    def _last_words(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        how = f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
        return f"{how}: {lines[-1][:300]}" if lines else how


def _forward_lines(pipe: IO[str], lines: queue.Queue[str]) -> None:
    # A thread, because a pipe cannot be read with a time limit on every system.
    try:
        for line in pipe:
            lines.put(line)
    except ValueError:  # closed while it was read
        pass
    lines.put("")
