"""Weights of files, files as sources, and modules that Python code makes."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backlit.export import export
from backlit.export.sources.checkpoints import fit, read, set_weights
from backlit.export.sources.load import load, to_onnx
from backlit.runtime.errors import BacklitWarning, ModelError, OptionError

CODE = """
import torch
import {helper}


class Net(torch.nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, classes)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def make():
    return Net()


def asks(size):
    return Net()


def leaves():
    raise SystemExit("usage: train.py")


ready = Net()
"""


class Net(torch.nn.Module):
    """The same network as in CODE."""

    def __init__(self, classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return scores


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is on no path, with my_nets.py in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_nets", "my_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "my_nets.py").write_text(CODE.format(helper="my_helper"))
    (tmp_path / "my_helper.py").write_text("")
    return tmp_path


def scores(classifier: Any) -> torch.Tensor:
    assert classifier.module is not None
    with torch.no_grad():
        made: torch.Tensor = classifier.module(image())
    return made


def image() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def safetensors(state: dict[str, torch.Tensor]) -> bytes:
    table, data = {}, b""
    names = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    for key, value in state.items():
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        table[key] = {
            "dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": offsets,
        }  # fmt: skip
        data += raw
    head = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    return struct.pack("<Q", len(head)) + head + data


# How a checkpoint holds a state dict.
HELD: dict[str, Any] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=1.0, out=pathlib.Path("x"))},
    "ema": lambda s: {"ema": s, "best": np.float64(0.9), "scores": np.zeros(3)},
    "another key": lambda s: {"student": s, "epoch": 1},
    "DataParallel": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "both": lambda s: prefixed("module._orig_mod.", s),
    "averaged": lambda s: {**prefixed("module.", s), "n_averaged": torch.tensor(3)},
    "Lightning": lambda s: {
        "state_dict": {**prefixed("model.", s), "loss.weight": torch.ones(5)},
        "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.5",
    },
    "Lightning, compiled": lambda s: {"state_dict": prefixed("net._orig_mod.", s)},
    "without counts": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}  # fmt: skip


@pytest.mark.parametrize("held", HELD)
def test_a_state_dict_is_found_however_it_is_held(held: str, tmp_path: Path) -> None:
    other = Net(seed=7).eval()
    torch.save(HELD[held](other.state_dict()), tmp_path / "w.ckpt")
    found = scores(load(Net(), str(tmp_path / "w.ckpt")))
    torch.testing.assert_close(found, other(image()), rtol=0, atol=0)


def test_a_wrapped_module_takes_the_weights_of_what_it_wraps(tmp_path: Path) -> None:
    other = Net(seed=7).eval()
    torch.save(other.state_dict(), tmp_path / "w.pt")
    wrapped = torch.nn.Sequential(Net())
    found = scores(load(wrapped, str(tmp_path / "w.pt")))
    torch.testing.assert_close(found, other(image()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["safetensors", "TorchScript", "pt2"])
def test_weights_of_other_files(kind: str, tmp_path: Path) -> None:
    other = Net(seed=7).eval()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt2")
    if kind == "safetensors":
        path.write_bytes(safetensors(other.state_dict()))
    else:
        _save_graph(other, path, kind)
    found = scores(load(Net(), str(path)))
    torch.testing.assert_close(found, other(image()), rtol=0, atol=0)


def _save_graph(module: torch.nn.Module, path: Path, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "TorchScript":
            torch.jit.trace(module, image()).save(path)
        else:
            torch.export.save(torch.export.export(module, (image(),)), path)


def test_safetensors_of_bfloat16_and_nothing(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3).bfloat16(), "b": torch.zeros(0, 4)}
    (tmp_path / "w.safetensors").write_bytes(safetensors(state))
    found = read(tmp_path / "w.safetensors")
    assert found["a"].dtype == torch.bfloat16
    assert torch.equal(found["a"], state["a"])
    assert found["b"].shape == (0, 4)


def test_of_two_sets_of_weights_the_choice_is_said(tmp_path: Path) -> None:
    first, second = Net(seed=1).state_dict(), Net(seed=2).state_dict()
    torch.save({"ema": second, "model": first}, tmp_path / "w.pt")
    with pytest.warns(BacklitWarning, match="under model, ema: those of model are taken"):
        found = read(tmp_path / "w.pt")
    assert torch.equal(found["head.weight"], first["head.weight"])
    both = {**prefixed("teacher.", first), **prefixed("student.", second)}
    with pytest.raises(ModelError, match=r"2 sets of weights that fit the model, under teacher\."):
        fit(both, list(first), tmp_path / "w.pt")


def test_what_does_not_fit_is_told_by_number_and_first_names() -> None:
    state = {k: v for k, v in Net(7).state_dict().items() if "norm" not in k}
    state |= {f"layer{i}.weight": torch.zeros(1) for i in range(50)}
    with pytest.raises(ModelError) as caught:
        set_weights(Net(), state, Path("w.pt"))
    said = caught.value.problem
    assert "4 of the model's 9 tensors are missing in the file (norm.weight, norm.bias, " in said
    assert "50 of the file's 55 are not the model's (layer0.weight, layer1.weight" in said
    assert "head.weight 7x8 in the file, 5x8 in the model" in said
    assert "layer3" not in said
    assert len(said) < 500


def test_a_pickle_that_needs_code_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        load(Net(), str(tmp_path / "w.pth"))
    assert "Net, and that could do anything" in caught.value.problem
    assert "state_dict" in caught.value.fix


@pytest.mark.parametrize(
    ("held", "said"),
    [([torch.zeros(1)], "holds a list"), ({"optimizer": {"lr": 1}}, "its keys are: optimizer")],
)
def test_a_checkpoint_without_weights(held: Any, said: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=said):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", ["TorchScript", "pt2"])
def test_a_file_with_a_graph_is_a_source(kind: str, tmp_path: Path) -> None:
    net = Net().eval()
    _save_graph(net, tmp_path / "net.pt", kind)
    report = export(tmp_path / "net.pt", tmp_path / "m.onnx", size=16)
    assert report.contract.source.name == "net.pt"
    assert report.contract.verification is not None
    assert report.contract.verification.reference == "torch.autograd"


STARTS = {
    "page": b"<!DOCTYPE html>", "keras": b"\x89HDF\r\n\x1a\n", "lite": b"\x1c\x00\x00\x00TFL3",
    "pointer": b"version https://git-lfs.github.com/spec/v1", "joblib": b"\x80\x04\x95",
    "cut": b"PK\x03\x04", "openvino": b"<?xml",
}  # fmt: skip


def _file(kind: str, path: Path) -> None:
    if kind == "state dict":
        torch.save(Net().state_dict(), path)
    elif kind == "module":
        torch.save(Net(), path)
    elif kind == "safetensors":
        path.write_bytes(safetensors(Net().state_dict()))
    elif kind == "ort":
        path.write_bytes(b"\x18\x00\x00\x00ORTM" + bytes(40))
    elif kind == "python":
        path.write_text("Net = None")
    else:
        path.write_bytes(STARTS[kind] + bytes(40))


@pytest.mark.parametrize(
    ("kind", "name", "problem", "fix"),
    [("state dict", "w.pt", "holds 9 tensors, not a classifier", r"--weights .*w\.pt$"),
     ("state dict", "w.onnx", "holds 9 tensors, not a classifier", r"--weights"),
     ("safetensors", "w.safetensors", "holds 9 tensors", r"--weights .*w\.safetensors$"),
     ("module", "w.pth", "needs code to be unpickled, .*Net", "give the module to backlit.export"),
     ("ort", "w.ort", "ONNX Runtime's own format", r"give the \.onnx file"),
     ("page", "w.pt", "a file of HTML", "download the file itself"),
     ("page", "w.onnx", "a file of HTML", "download the file itself"),
     ("pointer", "w.onnx", "a file of Git LFS", "git lfs pull"),
     ("lite", "w.onnx", "a file of TensorFlow Lite", "--tflite"),
     ("openvino", "w.xml", "a file of OpenVINO", r"give the \.onnx file"),
     ("joblib", "w.joblib", "needs code to be unpickled, and that", "if you trust it"),
     ("cut", "w.pt", "not what its name says", "complete"),
     ("python", "nets.py", "a Python file", r"nets\.py:NAME"),
     ("keras", "w.h5", "a file of Keras", r"give the \.onnx file")],
)  # fmt: skip
def test_a_file_without_a_graph_says_what_to_give(
    kind: str, name: str, problem: str, fix: str, tmp_path: Path
) -> None:
    _file(kind, tmp_path / name)
    with pytest.raises(ModelError, match=problem) as caught:
        load(str(tmp_path / name))
    assert re.search(fix, caught.value.fix), caught.value.fix


@pytest.mark.parametrize(
    ("files", "problem", "fix"),
    [(("saved_model.pb",), "a folder of TensorFlow", "--saved-model"),
     (("config.json", "model.safetensors"), "a folder, not", "hf:"),
     (("config.json", "model.onnx"), "a folder, not", r"give a file of it: .*model\.onnx\.$"),
     (("best.xml", "best.bin"), "a folder of OpenVINO", r"give the \.onnx file"),
     ((), "a folder, not", r"give the \.onnx file")],
)  # fmt: skip
def test_a_folder_says_what_of_it_to_give(
    files: tuple[str, ...], problem: str, fix: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"\x08\x01")
    with pytest.raises(ModelError, match=problem) as caught:
        load(tmp_path)
    assert re.search(fix, caught.value.fix), caught.value.fix


def test_weights_in_a_hugging_face_folder_name_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(Net().state_dict()))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "model.safetensors")
    assert caught.value.fix.endswith(f"hf:{tmp_path}")


@pytest.mark.parametrize("source", ["my_nets:Net", "my_nets.py:Net"])
def test_a_class_of_the_current_folder(source: str, here: Path) -> None:
    other = Net(seed=7).eval()
    torch.save(other.state_dict(), "w.pt")
    torch.testing.assert_close(scores(load(source, "w.pt")), other(image()), rtol=0, atol=0)
    with pytest.warns(BacklitWarning, match=r"no weights were given(?s:.*)random"):
        load(source)
    load(source, "random")  # without a warning: then it is meant
    load(source.replace("Net", "make"))
    load(source.replace("Net", "ready"))


def test_a_file_in_another_folder_imports_what_is_beside_it(here: Path) -> None:
    (here / "inner").mkdir()
    code = CODE.format(helper="beside_it_only")
    (here / "inner" / "their_nets.py").write_text(code)
    (here / "inner" / "beside_it_only.py").write_text("")
    try:
        assert load("inner/their_nets.py:make").module is not None
    finally:
        for name in ("their_nets", "beside_it_only"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("source", "said"),
    [("my_nets:Nett", "has no 'Nett'(?s:.*)Net, make, asks, leaves"),
     ("my_nets:asks", "cannot be called: TypeError"),
     ("my_nets:leaves", "cannot be called: SystemExit"),
     ("my_nets:torch.float32", "a dtype is not a torch.nn.Module"),
     ("no_such_module:Net", "cannot be imported: ModuleNotFoundError"),
     ("no_such_file.py:Net", "no_such_file.py does not exist"),
     ("broken.py:Net", "cannot be imported: SyntaxError"),
     ("leaving.py:Net", "cannot be imported: SystemExit")],
)  # fmt: skip
def test_code_that_makes_no_classifier(source: str, said: str, here: Path) -> None:
    (here / "broken.py").write_text("def (")
    (here / "leaving.py").write_text("raise SystemExit(2)")
    with pytest.raises(ModelError, match=said):
        load(source)


def test_the_console_script_looks_into_the_current_folder(here: Path) -> None:
    """Its own folder is first on the path, and the current one is not."""
    torch.save(Net().state_dict(), "w.pt")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "backlit.runtime", "export", "my_nets:Net", "-o", "m.onnx",
         "--size", "16", "--weights", "w.pt", "--no-verify"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (here / "m.onnx").is_file()


def test_compiled_and_parallel_modules_are_what_they_hold() -> None:
    net = Net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(net)
    for wrapped in (compiled, torch.nn.DataParallel(net), torch.nn.Sequential(compiled)):
        classifier = load(wrapped)
        _, exporter = to_onnx(classifier, (16, 16))
        assert exporter == "torch.export"
        torch.testing.assert_close(scores(classifier), net(image()))


@pytest.mark.parametrize("batch", [1, 2, None])
def test_an_exported_program_is_a_source(batch: int | None, tmp_path: Path) -> None:
    shapes = None if batch else ({0: torch.export.Dim("images")},)
    program = torch.export.export(
        Net().eval(), (torch.rand(batch or 2, 3, 16, 16),), dynamic_shapes=shapes
    )
    report = export(program, tmp_path / "m.onnx")  # its size is its own
    assert report.contract.verification is not None
    assert report.contract.verification.reference == "torch.autograd"
    with pytest.raises(OptionError, match="has its own"):
        load(program, "w.pt")


def test_a_program_in_training_mode_is_refused() -> None:
    program = torch.export.export(Net().train(), (image(),))
    with pytest.raises(ModelError, match="exported in training mode"):
        load(program)


def test_an_onnx_program_is_a_source(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(Net().eval(), (image(),), dynamo=True, verbose=False)
    assert export(program, tmp_path / "m.onnx").contract.score.classes == 5


class Pixels(Net):
    """Takes uint8 images with their channels last, as a service does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 3, 1, 2).float() / 255)


class OnlyBytes(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.uint8:
            raise TypeError("bytes, please")
        return super().forward(x / 255)


def test_a_module_that_scales_its_pixels_takes_them_as_they_are(tmp_path: Path) -> None:
    contract = export(Pixels(), tmp_path / "m.onnx", size=16).contract
    assert contract.normalisation.range == "0-255"
    assert set(contract.normalisation.mean) == {0.0}
    assert not contract.normalisation.assumed
    assert contract.image.channels == 3
    plain = export(Net(), tmp_path / "m.onnx", size=16, verify=False).contract
    assert plain.normalisation.range == "0-1"
    alone = export(OnlyBytes(), tmp_path / "m.onnx", size=16).contract
    assert (alone.normalisation.range, alone.image.channels) == ("0-255", 3)


@pytest.mark.parametrize(
    ("source", "said"),
    [(Net, "give an instance"), ({"a": 1}, "dictionary of weights"), (None, "NoneType"),
     ([Net()], "the module in it alone"), (argparse.Namespace(model=Net()), r"its \.model")],
    ids=["class", "dict", "None", "list", "learner"],
)  # fmt: skip
def test_objects_that_are_no_modules(source: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load(source)
