"""A fresh environment with a wheel and one of its extras, outside the checkout."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
OLDER = ROOT / "tests" / "constraints-servers.txt"
"""For the extra mlserver, which wants an older Starlette than serve."""
TIMEOUT = 900

_ORT, _CV, _ONNX = "onnxruntime", "cv2", ("onnx", "onnx_ir", "onnxscript")
_HTTP = ("starlette", "uvicorn", "python_multipart", "prometheus_client")
BRINGS = {
    "cpu": (_ORT,),
    "gpu": (_ORT,),
    "openvino": ("onnxruntime_ep_openvino",),
    "webgpu": ("onnxruntime_ep_webgpu",),
    "tensorrt-rtx": ("onnxruntime_ep_nv_tensorrt_rtx",),
    "boxes": (_CV,),
    "serve": _HTTP,
    "mlserver": ("mlserver", *_HTTP),
    "export": _ONNX,
    "tensorrt-check": (*_ONNX, "tensorrt_rtx_bindings"),
}
"""The modules that an extra brings; none of the others may come with it."""


class WheelError(Exception):
    """Something that is wrong with the wheel; one line."""


class NotInstallableError(Exception):
    """There are no packages for this Python and system; one line."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment with the wheel and an extra, and the empty folder to run it from."""

    folder: Path
    empty: Path
    extra: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def has(self, module: str) -> bool:
        """Whether the extra brings that module."""
        return any(module in BRINGS[one] for one in self.extra.split(","))

    def backlit(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run the command that the wheel installed."""
        return run(self.folder / "bin" / "backlit", *words, cwd=self.empty)


def version_of(python: str) -> str | None:
    """Version of an interpreter; None if it is none, as a shim of a version that is not there."""
    try:
        done = run(python, "-c", "import platform; print(platform.python_version())", cwd=ROOT)
    except (FileNotFoundError, PermissionError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def metadata(wheel: Path) -> Message:
    """What a wheel says about itself: name, version, extras, requirements."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(opened.read(name))


def requirements(said: Message, extra: str) -> list[str]:
    """The packages that a wheel asks for with an extra, without their versions."""
    wanted = {"", *extra.split(",")}
    found = []
    for line in said.get_all("Requires-Dist", []):
        of = re.search(r"""extra == ['"]([\w-]+)""", line)
        if (of[1] if of else "") in wanted and (name := re.match(r"[\w.-]+", line)):
            found.append(name[0])
    return [name for name in found if name != said["Name"]]


def install(python: str, here: Environment, wheel: Path) -> None:
    """Make the environment and install into it, wheels only: nothing is compiled here.

    Raises:
        NotInstallableError: a package is needed that has no wheel for this Python at all.
        WheelError: it cannot be installed, for any other reason.
    """
    made = run(python, "-m", "venv", "--without-pip", here.folder, cwd=here.empty)
    if made.returncode:
        raise WheelError(f"no environment: {last(made.stderr or made.stdout)}")
    pip = [sys.executable, "-m", "pip", "--python", here.python, "install"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:"]
    what = f"{wheel}[{here.extra}]"
    constraints = OLDER if here.has("mlserver") else CONSTRAINTS
    done = run(*pip, "--constraint", constraints, what, cwd=here.empty)
    if done.returncode == 0:
        return
    # Its newer versions are for other Pythons, as pip says beside this line.
    lacks = re.search(r"No matching distribution found for ([\w.-]+)", done.stderr)
    if lacks and "that require a different python version" in done.stderr:
        raise NotInstallableError(f"{lacks[1]} is not for this Python")
    # Without our versions and our constraints: is it we who ask for what does not exist?
    for name in requirements(metadata(wheel), here.extra):
        if run(*pip, "--quiet", "--dry-run", "--no-deps", name, cwd=here.empty).returncode:
            raise NotInstallableError(f"no wheel of {name} for this Python and system")
    raise WheelError(_reason(done))


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program and catch what it says; what our Python is told to import, it is not."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(word) for word in words]
    return subprocess.run(
        command, cwd=cwd, env=own, capture_output=True, text=True, timeout=TIMEOUT
    )


def last(text: str) -> str:
    """The last line of what a program said."""
    return (text.strip() or "no word of why").splitlines()[-1]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why pip refused: the conflict if it names one, else its last error."""
    _, found, conflict = done.stdout.partition("The conflict is caused by:\n")
    if found:
        return "; ".join(line.strip() for line in conflict.split("\n\n")[0].splitlines())
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return (errors or [last(done.stderr)])[-1].removeprefix("ERROR: ")
