"""The runtime works in a process in which torch, onnx and the exporter cannot be imported."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.linear_file import write_linear_file

BLOCK = """
import sys

class Block:
    names = ("torch", "onnx", "onnx_ir", "onnxscript", "torchvision", "timm")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names or name.startswith("backlit.export"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Block())
for name in (*Block.names, "backlit.export"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} was imported")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("isolation")
    write_linear_file(folder / "m.onnx", height=32, width=32)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def isolated(code, folder):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK + code],
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_python(folder):
    code = """
from backlit.runtime import Localization, Saliency, Session
session = Session("m.onnx")
(maps,) = session.saliency("a.png", top=2, crops=10)
(found,) = session.localize("a.png", top=2)
assert isinstance(maps, Saliency) and isinstance(found, Localization)
print(maps.maps.shape, [box is not None for box in found.boxes], found.masks.shape)
"""
    done = isolated(code, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(2, 37, 37) [True, True] (2, 50, 60)\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "args",
    [
        ["-h"],
        ["info", "m.onnx"],
        ["doctor"],
        ["saliency", "m.onnx", "a.png", "-o", "maps"],
        ["localize", "m.onnx", "a.png", "--top", "2", "-o", "boxes"],
    ],
)
def test_command_line(folder, args):
    done = isolated(f"from backlit.runtime.cli import main\nmain({args!r})", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if args[0] == "saliency":
        assert (folder / "maps" / "a.npy").exists()
    if args[0] == "localize":
        assert (folder / "boxes" / "boxes.jsonl").read_text() == done.stdout


@pytest.mark.parametrize("command", ["export", "verify", "ops"])
def test_commands_that_need_the_extra_say_so(folder, command):
    done = isolated(f"from backlit.runtime.cli import main\nmain([{command!r}, '-h'])", folder)
    assert done.returncode == 1
    assert "pip install 'backlit[export]'" in done.stderr
    assert done.stdout == ""


def test_importing_every_module_of_the_runtime(folder):
    code = """
import importlib, pkgutil, backlit.runtime
for module in pkgutil.walk_packages(backlit.runtime.__path__, "backlit.runtime."):
    if not module.name.endswith(".__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # what runs in a server's process needs the server
            if error.name not in ("mlserver", "triton_python_backend_utils"):
                raise
        print(module.name)
"""
    done = isolated(code, folder)
    assert done.returncode == 0, done.stderr
    assert "backlit.runtime.session\n" in done.stdout
    assert "backlit.runtime.boxes.localize\n" in done.stdout
