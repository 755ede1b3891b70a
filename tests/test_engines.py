"""TensorRT is asked for the right engine, through the cache and as a file."""

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import warnings
from pathlib import Path

import onnx
import pytest
from backlit.runtime.backend import ort, probing
from backlit.runtime.backend.machine import gpu, tensorrt_version
from backlit.runtime.backend.placement import Node
from backlit.runtime.backend.protobuf import metadata
from backlit.runtime.backend.sessions import open_on
from backlit.runtime.backend.tensorrt import (
    context_file as engine_file,
)
from backlit.runtime.backend.tensorrt import (
    engine_options,
    engines,
)
from backlit.runtime.backend.tensorrt.cache import CacheWarning, EngineCache, Shapes
from backlit.runtime.backend.tensorrt.context_file import write_context
from backlit.runtime.backend.tensorrt.engine_options import key_of
from backlit.runtime.backend.tensorrt.engines import open_tensorrt
from backlit.runtime.cli import group as cli
from backlit.runtime.contract import ENGINE_KEY, Contract
from backlit.runtime.contract import KEY as CONTRACT_KEY
from backlit.runtime.errors import ModelError, OptionError, OutputError, ProviderError
from click.testing import CliRunner
from support.engine_builder import GPU, KEY, OTHER, names
from support.hardship import largest_file, open_folder, read_only
from support.linear_file import write_linear_file
from support.trt_stand_in import Provider

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX locks and signals")
__all__ = ["open_folder"]  # a fixture


# Keys


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A GPU and TensorRT, and a cache of the test's own."""
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "caches"))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(probing, "candidates", lambda names: [names])
    monkeypatch.setattr(engine_options, "gpu", lambda device: GPU)
    monkeypatch.setattr(engine_options, "tensorrt_version", lambda: "10.13.3")
    return EngineCache()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "linear.onnx"
    return write_linear_file(path)


def test_every_part_of_a_key_counts(machine, monkeypatch, file, tmp_path):
    model = file.path.read_bytes()
    whole = file.contract
    fewer = dataclasses.replace(whole, maps=())

    def key(model=model, contract=whole, options=None, shapes=Shapes(), path=str(file.path)):  # noqa: B008
        given = {"tensorrt": options or {}}
        return key_of(model, contract, given, shapes, path).digest()

    assert key() == key()
    seen = [key(), key(model=model[:-1]), key(contract=fewer)]
    parts = [field.name for field in dataclasses.fields(Shapes)]
    seen += [key(shapes=dataclasses.replace(Shapes(), **{name: 7})) for name in parts]
    seen += [key(options={"trt_builder_optimization_level": level}) for level in "45"]
    seen += [key(options={"trt_engine_hw_compatible": "1"}), key(options={"trt_new_option": "1"})]
    weights = Path(f"{file.path}.data")
    for text in ("one", "two"):
        weights.write_text(text)
        seen.append(key())
    weights.unlink()
    for field in dataclasses.fields(GPU):
        value = getattr(GPU, field.name)
        other = dataclasses.replace(GPU, **{field.name: value + type(value)(1)})
        monkeypatch.setattr(engine_options, "gpu", lambda device, other=other: other)
        seen.append(key())
    monkeypatch.setattr(engine_options, "gpu", lambda device: GPU)
    with monkeypatch.context() as patch:
        patch.setattr(engine_options, "tensorrt_version", lambda: "10.14.0")
        seen.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(ort.onnxruntime(), "__version__", "1.99.0")
        seen.append(key())
    with monkeypatch.context() as patch:
        patch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        seen.append(key())
    base = key_of(model, whole, None, Shapes(), None)
    seen.append(dataclasses.replace(base, system="win32 AMD64").digest())
    assert len(set(seen)) == len(seen)
    # what is of the run alone does not
    for option in ("device_id", "user_compute_stream", "trt_cuda_graph_enable"):
        assert key(options={option: "1"}) == key()
    assert {field.name for field in dataclasses.fields(base)} == {
        *("model", "maps", "onnxruntime", "tensorrt", "gpu", "options", "shapes", "system")
    }


def test_timings_are_shared_by_models_and_not_by_machines():
    assert KEY.timing() == OTHER.timing()
    smaller = dataclasses.replace(GPU, processors=66)
    for change in ({"tensorrt": "10.14.0"}, {"gpu": smaller}, {"system": "win32 AMD64"}):
        assert dataclasses.replace(KEY, **change).timing() != KEY.timing()


FAKE_DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 70; return ordinal > 1 ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 71 ? "GPU one" : "GPU zero", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 85899345920ul; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : -1; return 0; }
int getInferLibMajorVersion(void) { return 10; }
int getInferLibMinorVersion(void) { return 13; }
int getInferLibPatchVersion(void) { return 3; }
"""


def test_the_gpu_and_tensorrt_are_asked(tmp_path):
    source, library = tmp_path / "driver.c", tmp_path / "libdriver.so"
    source.write_text(FAKE_DRIVER)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    found = gpu(1, str(library))
    assert dataclasses.astuple(found) == ("GPU one", "9.0", "13.2", 85899345920, 132)
    assert tensorrt_version(str(library)) == "10.13.3"
    with pytest.raises(ProviderError, match="GPU 2: cuDeviceGet gave 101"):
        gpu(2, str(library))
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        gpu(0, str(tmp_path / "libnone.so"))


def test_a_real_tensorrt_tells_its_version():
    rtx = pytest.importorskip("tensorrt_rtx_libs", reason="the tensorrt-check extra is missing")
    (library,) = Path(rtx.__path__[0]).glob("libtensorrt_rtx.so*")
    told = importlib.metadata.version("tensorrt_rtx_cu13_libs")
    assert told.startswith(tensorrt_version(str(library)) + ".")


# What TensorRT is asked


def asked(call):
    return {name: value for name, value in call.items() if name.startswith("trt_")}


def test_an_engine_is_built_once_and_found_then(machine, file):
    provider = Provider()
    first = open_tensorrt(file.path, file.contract, opener=provider)
    assert (provider.built, provider.loaded, first.built) == (1, 1, True)
    assert first.folder == machine.root / first.folder.name
    assert (first.provider, first.session, first.shapes) == ("tensorrt", "session", Shapes())
    again = open_tensorrt(file.path, file.contract, opener=provider)
    assert (provider.built, provider.loaded, again.built) == (1, 2, False)
    assert again.folder == first.folder
    moved = file.path.rename(file.path.with_name("moved.onnx"))
    open_tensorrt(moved.read_bytes(), file.contract, path=str(moved), opener=provider)
    assert provider.built == 1
    profiles = {
        "trt_profile_min_shapes": "image:1x8x6x3,class_index:1x1",
        "trt_profile_opt_shapes": "image:8x8x6x3,class_index:8x1",
        "trt_profile_max_shapes": "image:32x8x6x3,class_index:32x5",
    }
    building, loading = asked(provider.calls[0]), asked(provider.calls[1])
    work = Path(building.pop("trt_engine_cache_path"))
    assert Path(building.pop("trt_timing_cache_path")) == work.parent / "timing"
    assert work.parent.parent == machine.root
    common = {"trt_engine_cache_enable": "1", "trt_engine_cache_prefix": "backlit", **profiles}
    assert building == {**common, "trt_timing_cache_enable": "1"}
    assert loading == {**common, "trt_engine_cache_path": str(first.folder)}
    (timing,) = [entry for entry in machine.entries() if entry.name.startswith("timing")]
    assert not timing.damage


def test_shapes(machine, tmp_path):
    file = write_linear_file(tmp_path / "f.onnx", dtype="float32", channels=1)
    provider = Provider()
    wanted = Shapes(max_images=4, max_classes=2, tuned_images=2, tuned_classes=2)
    engine = open_tensorrt(file.path, file.contract, shapes=wanted, opener=provider)
    assert engine.shapes == wanted
    told = {key: value for key, value in provider.calls[0].items() if "profile" in key}
    assert told == {
        "trt_profile_min_shapes": "image:1x1x8x6,class_index:1x1",
        "trt_profile_opt_shapes": "image:2x1x8x6,class_index:2x2",
        "trt_profile_max_shapes": "image:4x1x8x6,class_index:4x2",
    }
    # the same by TensorRT's own options
    again = open_tensorrt(file.path, file.contract, {"tensorrt": told}, opener=provider)
    assert (again.shapes, again.folder, provider.built) == (wanted, engine.folder, 1)
    other = open_tensorrt(file.path, file.contract, opener=provider)
    assert other.folder != engine.folder
    for wrong in (
        {**told, "trt_profile_min_shapes": "image:2x1x8x6,class_index:2x1"},
        {**told, "trt_profile_opt_shapes": "image:2x1x9x6,class_index:2x2"},
        {**told, "trt_profile_max_shapes": "nonsense"},
        {"trt_profile_max_shapes": told["trt_profile_max_shapes"]},
    ):
        with pytest.raises(OptionError, match="are not of"):
            open_tensorrt(file.path, file.contract, {"tensorrt": wrong}, opener=provider)
    for shapes in (Shapes(tuned_images=33), Shapes(tuned_classes=0), Shapes(max_images=0)):
        with pytest.raises(OptionError, match="cannot be tuned"):
            open_tensorrt(file.path, file.contract, shapes=shapes, opener=provider)


def test_the_users_options_go_along(machine, file):
    provider = Provider()
    options = {"tensorrt": {"trt_builder_optimization_level": "5"}, "cuda": {"use_tf32": "0"}}
    tuned = open_tensorrt(file.path, file.contract, options, opener=provider)
    assert all(call["trt_builder_optimization_level"] == "5" for call in provider.calls)
    assert open_tensorrt(file.path, file.contract, opener=provider).folder != tuned.folder
    for name in ("trt_engine_cache_path", "trt_ep_context_file_path", "trt_timing_cache_path"):
        with pytest.raises(OptionError, match=name):
            open_tensorrt(file.path, file.contract, {"tensorrt": {name: "/x"}}, opener=provider)


def test_without_the_cache(machine, file):
    provider = Provider()
    off = {"tensorrt": {"trt_engine_cache_enable": "0"}}
    engine = open_tensorrt(file.path, file.contract, off, opener=provider)
    assert engine.folder is None
    assert not machine.root.exists()
    (call,) = provider.calls
    assert asked(call)["trt_engine_cache_enable"] == "0"
    assert "trt_profile_max_shapes" in call
    assert "trt_engine_cache_path" not in call


def test_a_cache_that_cannot_be_written(machine, file, monkeypatch):
    monkeypatch.setenv("BACKLIT_CACHE", f"{file.path}/below/a/file")
    provider = Provider()
    with pytest.warns(CacheWarning, match="built again at each start"):
        engine = open_tensorrt(file.path, file.contract, opener=provider)
    assert engine.folder is None
    assert provider.built == 1


def test_a_warm_read_only_cache_opens(machine, file, monkeypatch, open_folder):
    monkeypatch.setenv("BACKLIT_CACHE", str(open_folder / "caches"))
    provider, model = Provider(), file.path.read_bytes()
    folder = open_tensorrt(model, file.contract, opener=provider).folder
    with read_only(open_folder / "caches"):
        engine = open_tensorrt(model, file.contract, opener=provider)
    assert (engine.folder, engine.built, provider.built) == (folder, False, 1)


def test_a_full_disk_that_the_provider_does_not_see(machine, file):
    provider, model = Provider(), file.path.read_bytes()
    with largest_file(4000), pytest.warns(CacheWarning, match="is the disk full"):
        engine = open_tensorrt(model, file.contract, opener=provider)
    assert engine.folder is None
    assert [entry.name[:6] for entry in machine.entries()] == ["timing"]
    with largest_file(0), pytest.warns(CacheWarning, match="cannot be written"):
        open_tensorrt(model, file.contract, opener=Provider())
    assert open_tensorrt(model, file.contract, opener=provider).folder is not None


def aged(machine, file, provider):
    """An entry that is whole, and yet not what this TensorRT takes."""
    model = file.path.read_bytes()
    open_tensorrt(model, file.contract, opener=provider)
    key = key_of(model, file.contract, None, Shapes(), None)
    machine.discard(key)
    told = {name: value for name, value in provider.calls[0].items() if "profile" in name}

    def old(made):
        (made / "backlit_hash_0_sm90.engine").write_bytes(b"of another age")
        (made / "backlit_hash_0_sm90.profile").write_text(json.dumps(told, sort_keys=True))

    return machine.folder(key, old)


def test_an_engine_that_tensorrt_refuses_is_built_again(machine, file):
    provider = Provider()
    folder = aged(machine, file, provider)
    with pytest.warns(CacheWarning, match="does not take a cached engine"):
        engine = open_tensorrt(file.path.read_bytes(), file.contract, opener=provider)
    assert (engine.folder, engine.built, provider.built) == (folder, True, 2)


def test_a_refused_engine_in_a_read_only_cache(machine, file, open_folder, monkeypatch):
    monkeypatch.setenv("BACKLIT_CACHE", str(open_folder / "caches"))
    provider, model = Provider(), file.path.read_bytes()
    folder = aged(EngineCache(), file, provider)
    with (
        read_only(open_folder / "caches"),
        pytest.warns(CacheWarning, match="does not take a cached engine"),
    ):
        engine = open_tensorrt(model, file.contract, opener=provider)
    assert (engine.folder, engine.built, provider.built) == (None, True, 2)
    assert folder.exists()


def test_an_onnxruntime_that_writes_into_an_entry_is_noticed(machine, file):
    provider = Provider()
    open_tensorrt(file.path, file.contract, opener=provider)
    with pytest.warns(CacheWarning, match="built its own"):
        open_tensorrt(file.path, file.contract, opener=Provider(names="other"))
    assert machine.find(key_of(file.path.read_bytes(), file.contract, None, Shapes(), None)) is None


def test_other_failures_cost_no_engine(machine, file):
    provider = Provider()
    folder = open_tensorrt(file.path, file.contract, opener=provider).folder
    provider.fails = "out of memory"
    with pytest.raises(ModelError, match="out of memory"):
        open_tensorrt(file.path, file.contract, opener=provider)
    assert folder.exists()
    provider.fails = "Following input(s) has no associated shape profiles provided: /conv"
    with pytest.raises(ModelError, match="as one engine") as raised:
        open_tensorrt(file.path, file.contract, opener=provider)
    assert "backlit check" in raised.value.fix


def test_what_is_not_in_the_engine_is_named(machine, file):
    left = tuple(Node(f"node{number}", "TopK", "cpu") for number in range(10))
    with pytest.warns(CacheWarning, match=r"node0 \(TopK, cpu\), .* and 2 more"):
        open_tensorrt(file.path, file.contract, opener=Provider(elsewhere=left))
    with pytest.warns(CacheWarning, match="3 engines"):
        open_tensorrt(file.path, file.contract, opener=Provider(engines=3))


# As a file


def test_an_engine_as_a_file(machine, file, tmp_path):
    provider, out = Provider(), tmp_path / "edge.onnx"
    shapes = Shapes(max_images=4, tuned_images=1)
    made = write_context(file.path, file.contract, out, None, shapes, opener=provider)
    assert (made.built, made.shapes, provider.built) == (True, shapes, 1)
    assert names(tmp_path) == ["caches", "edge.onnx", "linear.onnx"]
    assert [name[:6] for name in names(machine.root)] == ["timing"]
    call = asked(provider.calls[0])
    assert call["trt_dump_ep_context_model"] == call["trt_ep_context_embed_mode"] == "1"
    assert "trt_engine_cache_path" not in call  # which may not be absolute here
    assert Path(call["trt_ep_context_file_path"]).is_relative_to(machine.root)
    model = onnx.load(out)
    assert [node.op_type for node in model.graph.node] == ["EPContext"]
    assert Contract.from_json(metadata(out.read_bytes())[CONTRACT_KEY]) == file.contract

    opened = open_tensorrt(out, file.contract, opener=provider)
    assert (opened.shapes, opened.folder, opened.built) == (shapes, None, False)
    last = provider.calls[-1]
    assert asked(last) == {"trt_engine_cache_enable": "0"}
    assert last["optimise"] is False
    with pytest.raises(ModelError, match="an engine already"):
        write_context(out, file.contract, tmp_path / "again.onnx", opener=provider)


def test_an_engine_file_of_another_machine(machine, file, tmp_path, monkeypatch):
    provider, out, wide = Provider(), tmp_path / "edge.onnx", tmp_path / "wide.onnx"
    write_context(file.path, file.contract, out, opener=provider)
    compatible = {"tensorrt": {"trt_engine_hw_compatible": "1"}}
    write_context(file.path, file.contract, wide, compatible, opener=provider)
    smaller = dataclasses.replace(GPU, capability="8.6")
    monkeypatch.setattr(engine_options, "gpu", lambda device: smaller)
    with pytest.raises(ModelError, match=r"compute capability 9\.0, and here is 8\.6"):
        open_tensorrt(out, file.contract, opener=provider)
    open_tensorrt(wide, file.contract, opener=provider)
    older = dataclasses.replace(GPU, capability="7.5")
    monkeypatch.setattr(engine_options, "gpu", lambda device: older)
    with pytest.raises(ModelError, match=r"here is 7\.5"):
        open_tensorrt(wide, file.contract, opener=provider)
    monkeypatch.setattr(engine_options, "gpu", lambda device: GPU)
    monkeypatch.setattr(engine_options, "tensorrt_version", lambda: "10.14.0")
    with pytest.raises(ModelError, match=r"TensorRT 10\.13\.3, and here is 10\.14\.0"):
        open_tensorrt(out, file.contract, opener=provider)
    data = out.read_bytes()
    damaged = data.replace(b'"capability"', b'"capabilitx"')
    assert ENGINE_KEY.encode() in damaged != data
    with pytest.raises(ModelError, match="is damaged"):
        open_tensorrt(damaged, file.contract, opener=provider)


def test_no_file_of_half_a_graph(machine, file, tmp_path):
    out = tmp_path / "edge.onnx"
    left = (Node("topk", "TopK", "cpu"),)
    for provider in (Provider(elsewhere=left), Provider(engines=2)):
        with pytest.raises(ModelError, match="as one engine"):
            write_context(file.path, file.contract, out, opener=provider)
    with pytest.raises(ModelError, match="out of memory"):
        write_context(file.path, file.contract, out, opener=Provider(fails="out of memory"))
    with pytest.raises(OutputError):
        write_context(file.path, file.contract, tmp_path / "no" / "edge.onnx", opener=Provider())
    assert names(tmp_path) == ["caches", "linear.onnx"]
    assert not [name for name in names(machine.root) if name.startswith(".")]


# The command


@pytest.fixture
def command(machine, monkeypatch):
    provider = Provider()

    def opening(function):
        return lambda *args, **named: function(*args, **{**named, "opener": provider})

    monkeypatch.setattr(engines, "open_tensorrt", opening(open_tensorrt))
    monkeypatch.setattr(engine_file, "write_context", opening(write_context))

    def run(*arguments):
        result = CliRunner().invoke(cli.main, ["build", *map(str, arguments)])
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        return result, lines, provider

    return run


def test_build(command, machine, file):
    result, (line,), provider = command(file.path)
    assert result.exit_code == 0
    assert line["built"]
    assert line["bytes"] == sum(path.stat().st_size for path in Path(line["path"]).iterdir())
    assert (line["engines"], line["elsewhere"], line["maps"]) == (1, [], ["saliency"])
    assert line["shapes"] == dataclasses.asdict(Shapes())
    assert "built in" in result.stderr
    _, (line,), _ = command(file.path, "--maps", "saliency")
    assert not line["built"]
    _, (line,), _ = command(
        file.path, "--max-images", 4, "--provider-option", "tensorrt.trt_sparsity_enable=1"
    )
    assert line["built"]
    assert line["shapes"]["tuned_images"] == 4
    assert provider.calls[-1]["trt_sparsity_enable"] == "1"

    result, lines, _ = command("--list")
    assert [entry["damage"] for entry in lines] == [""] * 3
    assert lines[0]["about"]["model"] == "linear.onnx"
    assert "there are 3 entries" in result.stderr
    result, lines, _ = command("--clear")
    assert (result.exit_code, len(lines), names(machine.root)) == (0, 3, [])
    assert command("--list")[1] == []


def test_build_a_file(command, file, tmp_path):
    result, (line,), _ = command(file.path, "-o", tmp_path / "edge.onnx", "--tuned", 1)
    assert result.exit_code == 0
    assert line["path"] == str(tmp_path / "edge.onnx")
    assert line["bytes"] == (tmp_path / "edge.onnx").stat().st_size


def test_build_says_what_is_wrong(command, file, tmp_path, monkeypatch):
    assert command()[0].exit_code == 2
    assert command(file.path, "--list")[0].exit_code == 2
    assert command(file.path, "--providers", "cuda")[0].exit_code == 2
    assert command(file.path, "--maps", "gradcam")[0].exit_code == 2
    assert command(file.path, "--tuned", 64)[0].exit_code == 2
    result, lines, _ = command(tmp_path / "none.onnx")
    assert (result.exit_code, lines) == (1, [])
    monkeypatch.setenv("BACKLIT_CACHE", f"{file.path}/below/a/file")
    result, lines, _ = command(file.path)
    assert (result.exit_code, lines) == (1, [])
    assert result.stderr.startswith("warning: the engine cache cannot be written.")
    assert "error: " in result.stderr


@pytest.mark.skipif(probing.probe("tensorrt").loads, reason="TensorRT loads here")
def test_without_tensorrt_the_fix_comes_at_once(file, monkeypatch, tmp_path):
    monkeypatch.setenv("BACKLIT_CACHE", str(tmp_path / "caches"))
    with monkeypatch.context() as patch:
        for name in ("read", "open_tensorrt"):  # it is neither read nor built
            patch.setattr(engines, name, lambda *_, **__: pytest.fail("went on"))
        result = CliRunner().invoke(cli.main, ["build", str(file.path)])
    assert result.exit_code == 1
    assert "tensorrt" in result.stderr
    assert "fix: " in result.stderr
    assert not (tmp_path / "caches").exists()
    with pytest.raises(ProviderError):
        open_tensorrt(file.path, file.contract, opener=open_on)
    with warnings.catch_warnings(record=True) as told, pytest.raises(ProviderError):
        write_context(file.path, file.contract, tmp_path / "edge.onnx", opener=open_on)
    assert not told
