"""Providers that are plugins: registered, given a device, refused with the fix where that fails."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from backlit.runtime.backend import options as provider_options
from backlit.runtime.backend import placement, plugins, probing, sessions
from backlit.runtime.backend.provider import Provider
from backlit.runtime.backend.providers.table import PROVIDERS
from backlit.runtime.errors import OptionError, ProviderError
from support.linear_file import write_linear_file

PLUGINS = [row for row in PROVIDERS.values() if row.plugin is not None]
CHECKED = [row for row in PROVIDERS.values() if row.values]


class Device(types.SimpleNamespace):
    """A device as ONNX Runtime lists it."""

    ep_name: str
    ep_metadata: Mapping[str, str]


class Runtime:
    """As much of ONNX Runtime as registers a plugin."""

    package_name, __version__ = "onnxruntime", "1.31.1"

    def __init__(self, *found: Device) -> None:
        self.found, self.registered = list(found), 0

    def get_available_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_ep_devices(self) -> list[Device]:
        return self.found if self.registered else []

    def register_execution_provider_library(self, name: str, path: str) -> None:
        assert (name, path) == ("onnxruntime-ep-openvino", "the library")
        self.registered += 1


class Settings:
    """As much of SessionOptions as takes a provider."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, dict[str, str]]] = []

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.given.append((devices, options))

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        self.given.append((name, options))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's package, installed or not: it says where its library is."""
    module = types.ModuleType("onnxruntime_ep_openvino")
    module.get_library_path = lambda: "the library"  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader(module.__name__, loader=None)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def device(name: str, full: str = "OpenVINOExecutionProvider") -> Device:
    return Device(ep_name=full, ep_metadata={"ov_device": name})


def test_a_library_is_registered_once_and_its_own_devices_are_listed(package: None) -> None:
    ort, row = Runtime(device("CPU"), device("x", "Other")), PROVIDERS["openvino"]
    for _ in range(2):
        assert [one.ep_metadata["ov_device"] for one in plugins.devices(ort, row)] == ["CPU"]
    assert ort.registered == 1


def test_a_session_is_given_the_device_that_is_named_and_the_first_otherwise(package: None) -> None:
    ort, row = Runtime(device("CPU"), device("GPU")), PROVIDERS["openvino"]
    for own, name in (({}, "CPU"), ({"device_type": "GPU"}, "GPU")):
        settings = Settings()
        plugins.add(ort, settings, row, {"load_config": "{}", **own})
        ((devices, options),) = settings.given
        assert [one.ep_metadata["ov_device"] for one in devices] == [name]
        assert options == {"load_config": "{}"}  # the device is no option of the plugin's
    with pytest.raises(OptionError, match=r"openvino\.device_type=NPU") as caught:
        plugins.add(ort, Settings(), row, {"device_type": "NPU"})
    assert "choose among CPU, GPU" in caught.value.fix


def test_what_is_no_plugin_is_given_by_its_name_beside_one() -> None:
    settings = Settings()
    plugins.add(Runtime(), settings, PROVIDERS["cpu"], {})
    assert settings.given == [("CPUExecutionProvider", {})]


def test_no_device_and_an_onnxruntime_that_takes_no_plugins(package: None) -> None:
    with pytest.raises(ProviderError, match="onnxruntime-ep-openvino finds no device") as caught:
        plugins.add(Runtime(), Settings(), PROVIDERS["openvino"], {})
    assert "a processor, GPU or NPU of Intel's" in caught.value.fix
    old = types.ModuleType("onnxruntime")
    old.package_name, old.__version__ = "onnxruntime", "1.20.0"  # type: ignore[attr-defined]
    with pytest.raises(ProviderError, match=r"onnxruntime 1\.20\.0 takes no plugins") as caught:
        plugins.devices(old, PROVIDERS["openvino"])
    assert "pip install -U onnxruntime" in caught.value.fix


@pytest.mark.parametrize("row", PLUGINS, ids=lambda row: row.name)
def test_a_plugin_that_is_not_installed_names_the_package_and_the_fix(
    row: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "here", lambda other: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    tried = probing._probe(row.name, row)
    assert (tried.here, tried.loads) == (False, False)
    assert row.plugin is not None
    assert tried.reason == f"{row.plugin.package} is not installed"
    assert tried.fix.startswith(f"pip install {row.brings}")
    assert "uninstall" not in tried.fix  # it stands beside any build


@pytest.mark.parametrize("row", PLUGINS, ids=lambda row: row.name)
def test_a_library_that_does_not_load_is_a_reason_with_the_fix(
    row: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(ort: Any, other: Provider) -> list[Any]:
        raise RuntimeError("[FAIL]\nFailed to load library x.so with error: y.so: not there")

    monkeypatch.setattr(plugins, "here", lambda other: True)
    monkeypatch.setattr(plugins, "devices", fails)
    tried = probing._probe(row.name, row)
    assert (tried.here, tried.loads) == (True, False)
    assert tried.reason
    assert "--providers cpu" in tried.fix


def test_a_plugin_that_takes_no_node_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ONNX Runtime had left the plugin out without a word."""
    row, node = PROVIDERS["openvino"], placement.Node("g", "Conv", "cpu")
    if not plugins.here(row):
        pytest.skip("onnxruntime-ep-openvino is not installed")
    assert probing._probe("openvino", row).loads
    monkeypatch.setattr(placement, "placed", lambda *args: ((node,), 0))
    tried = probing._probe("openvino", row)
    assert (tried.here, tried.loads) == (True, False)
    assert "fell back to the CPU" in tried.reason


def test_a_file_of_which_a_provider_takes_no_node_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not probing.probe("openvino").loads:
        pytest.skip(probing.probe("openvino").reason)
    write_linear_file(tmp_path / "a.onnx")
    node = placement.Node("g", "Conv", "cpu")
    monkeypatch.setattr(placement, "placed", lambda *args: ((node,), 0))
    with pytest.raises(ProviderError, match="openvino takes no node of"):
        sessions.open_session(tmp_path / "a.onnx", "openvino", shape=(1, 1))


@pytest.mark.parametrize("row", CHECKED, ids=lambda row: row.name)
def test_every_option_that_is_checked_here_refuses_what_is_wrong(row: Provider) -> None:
    def check(key: str, value: str) -> None:
        provider_options.check_names({row.name: {key: value}}, [row.name])

    with pytest.raises(OptionError, match=f"the {row.name} provider has no option 'banana'"):
        check("banana", "1")
    first = next(iter(row.values))
    with pytest.raises(OptionError) as caught:
        check(first + "x", "1")
    assert f"did you mean {row.name}." in caught.value.fix
    for key, takes in row.values.items():
        right = takes[-1] if isinstance(takes, tuple) else "3"
        check(key, right)
        if takes is not str:
            with pytest.raises(OptionError, match=f"{row.name}.{key}=banana: no"):
                check(key, "banana")


def test_webgpu_without_a_gpu_fails_in_words_and_in_silence(tmp_path: Path) -> None:
    """In a process of its own: the plugin is registered for good."""
    write_linear_file(tmp_path / "a.onnx")
    (tmp_path / "a.png").write_bytes(b"no image")
    words = ["saliency", tmp_path / "a.onnx", tmp_path / "a.png", "--providers", "webgpu"]
    line = [sys.executable, "-m", "backlit.runtime", *map(str, words)]
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("ORT_WEBGPU")}
    done = subprocess.run(line, capture_output=True, text=True, env=quiet)
    if "a.png" in done.stderr:
        pytest.skip("WebGPU loads here")
    assert (done.returncode, done.stdout) == (1, "")
    problem, fix = done.stderr.splitlines()
    assert problem.startswith("error: the execution provider 'webgpu' does not load: ")
    assert fix.startswith("  fix: ")
