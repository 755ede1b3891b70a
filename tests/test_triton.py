"""A model repository for Triton: what is written, and what its Python models do.

`test_triton_server.py` has a real server load one.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from backlit.export import export
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.hosted.names import NOTHING
from backlit.runtime.maps.kinds import KINDS
from click.testing import CliRunner
from support.service import export_embedded
from support.small import convnet

from backlit import models

PHOTOS = [path.read_bytes() for path in sorted(models.samples().glob("*.jpg"))]
STEPS = ("decode", "maps", "cut")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_embedded(tmp_path_factory.mktemp("triton") / "my_model.backlit.onnx")


def write(file: Path, out: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["triton", str(file), "-o", str(out), *options])
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def refused(file: Path, out: Path, *options: str) -> str:
    done = CliRunner().invoke(main, ["triton", str(file), "-o", str(out), *options])
    assert done.exit_code in (1, 2), done.output
    return done.stderr


def configs(out: Path) -> dict[str, Any]:
    """Each model's config, read as Triton reads it."""
    pytest.importorskip("tritonclient.grpc", reason="tritonclient reads the configs")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    paths = sorted(out.glob("*/config.pbtxt"))
    found = {path.parent.name: text_format.Parse(path.read_text(), ModelConfig()) for path in paths}
    assert all(name == config.name for name, config in found.items())
    return found


def tensors(listed: Any) -> dict[str, tuple[int, list[int]]]:
    return {one.name: (one.data_type, list(one.dims)) for one in listed}


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt", "python"])
def test_the_configs_fit_the_file_and_each_other(backend: str, file: Path, tmp_path: Path) -> None:
    write(file, tmp_path, "--backend", backend, "--maps", "saliency", "--max-images", "8")
    found = configs(tmp_path)
    maps = found["my_model_maps"]
    graph = onnx.load(tmp_path / "my_model_maps/1/model.onnx").graph
    kinds = {onnx.TensorProto.UINT8: 2, onnx.TensorProto.INT64: 9, onnx.TensorProto.FLOAT: 11}
    for values, listed in ((graph.input, maps.input), (graph.output, maps.output)):
        wanted = {}
        for value in values:
            kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
            lengths = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
            assert lengths[0] == -1
            wanted[value.name] = (kinds[kind], lengths[1:])
        assert tensors(listed) == wanted
    assert (maps.backend, maps.default_model_filename) == {
        "onnxruntime": ("onnxruntime", "model.onnx"),
        "tensorrt": ("tensorrt", "model.plan"),
        "python": ("python", ""),
    }[backend]
    check_ensemble(found)


def check_ensemble(found: dict[str, Any]) -> None:
    """Every tensor has one shape and type wherever it is named, and comes before it is read."""
    whole = found["my_model"]
    known = tensors(whole.input)
    for step in whole.ensemble_scheduling.step:
        takes, gives = tensors(found[step.model_name].input), tensors(found[step.model_name].output)
        assert set(step.input_map) == set(takes)
        for key, value in step.input_map.items():
            assert known[value] == takes[key], (step.model_name, key)
        known |= {value: gives[key] for key, value in step.output_map.items()}
    for name, said in tensors(whole.output).items():
        assert known[name] == said, name
    assert {config.max_batch_size for config in found.values()} == {8}


def test_batches_accelerators_and_warm_up(file: Path, tmp_path: Path) -> None:
    write(file, tmp_path / "plain", "--delay", "3.5")
    plain = configs(tmp_path / "plain")["my_model_maps"]
    assert list(plain.dynamic_batching.preferred_batch_size) == [8, 32]
    assert plain.dynamic_batching.max_queue_delay_microseconds == 3500
    (group,) = plain.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (1, 0, [])  # KIND_AUTO
    (cuda,) = plain.optimization.execution_accelerators.gpu_execution_accelerator
    assert cuda.name == "cuda"
    assert cuda.parameters["use_tf32"] == "1"
    assert [warm.batch_size for warm in plain.model_warmup] == [1, 32]
    for warm in plain.model_warmup:
        assert {name: list(one.dims) for name, one in warm.inputs.items()} == {
            "image": [96, 96, 3],
            "class_index": [1],
        }

    write(file, tmp_path / "fast", "--accelerator", "tensorrt", "--device", "0,2", "--max-top", "4")
    fast = configs(tmp_path / "fast")["my_model_maps"]
    (group,) = fast.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, 1, [0, 2])  # KIND_GPU
    (tensorrt,) = fast.optimization.execution_accelerators.gpu_execution_accelerator
    assert tensorrt.name == "tensorrt"
    assert tensorrt.parameters["trt_engine_cache_enable"] == "1"
    folder = tensorrt.parameters["trt_engine_cache_path"]
    assert f"-v backlit-engines:{folder}" in (tmp_path / "fast/README.md").read_text()
    shapes = tensorrt.parameters["trt_profile_max_shapes"]
    assert shapes == "image:32x96x96x3,class_index:32x4"

    write(file, tmp_path / "plan", "--backend", "tensorrt")
    said = (tmp_path / "plan/README.md").read_text()
    assert "--maxShapes=image:32x96x96x3,class_index:32x10" in said
    assert "--gpus all" in said


def test_the_file_of_a_repository_has_the_maps_that_are_wanted(file: Path, tmp_path: Path) -> None:
    said = write(file, tmp_path, "--name", "other")
    assert said["models"] == ["other", "other_decode", "other_maps", "other_cut"]
    assert said["maps"] == ["features"]
    left = Session(tmp_path / "other_maps/1/model.onnx", "cpu", threads=1)
    assert [made.name for made in left.contract.maps] == ["features"]
    (whole,) = Session(file, "cpu", threads=1).localize([PHOTOS[0]])
    (found,) = left.localize([PHOTOS[0]])
    np.testing.assert_array_equal(found.maps, whole.maps)
    assert found.boxes == whole.boxes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--backend", "python", "--accelerator", "cuda"), "--accelerator is for"),
        (("--name", "../up"), "'../up' is no name of a model"),
        (("--map", "gradcam"), "the file returns no 'gradcam' map"),
        (("--maps", "layercam"), "the file returns no 'layercam' map"),
        (("--device", "x"), "--device x is no list of GPUs"),
        (("--recipe", "nothing"), "there is no recipe 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], says: str, file: Path, tmp_path: Path
) -> None:
    assert says in refused(file, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_map_of_several_runs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "whole.onnx"
    maps = ["saliency", "gradient"]
    export(convnet(), file, mean=[0.5] * 3, std=[0.25] * 3, maps=maps, verify=False)
    for kind in ("smoothgrad", "ig", "gradxinput", "gradient"):
        assert kind in KINDS
        assert f"the map {kind} is not" in refused(file, tmp_path / "out", "--map", kind)


def test_files_of_others_stay(file: Path, tmp_path: Path) -> None:
    """A second repository lies beside the first; what Backlit wrote is replaced alone."""
    write(file, tmp_path)
    write(file, tmp_path, "--name", "second")
    write(file, tmp_path, "--max-images", "2")
    assert "max_batch_size: 2\n" in (tmp_path / "my_model/config.pbtxt").read_text()
    (tmp_path / "my_model/config.pbtxt").write_text("name: 'mine'")
    said = refused(file, tmp_path)
    assert "my_model/config.pbtxt cannot be written: a file is there" in said
    assert (tmp_path / "my_model/config.pbtxt").read_text() == "name: 'mine'"
    write(file, tmp_path, "--overwrite")
    assert 'name: "my_model"' in (tmp_path / "my_model/config.pbtxt").read_text()


@pytest.fixture
def python_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The Python models, with the little of Triton's own module that they ask for."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])
    module.Tensor, module.InferenceResponse, module.TritonError = Tensor, Response, str
    monkeypatch.setitem(sys.modules, module.__name__, module)
    name = "backlit.runtime.hosted.triton.models"
    yield importlib.import_module(name)
    del sys.modules[name]


@dataclasses.dataclass
class Tensor:
    name: str
    values: Any

    def as_numpy(self) -> Any:
        return self.values


@dataclasses.dataclass
class Response:
    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    error: str | None = None

    def arrays(self) -> dict[str, Any]:
        assert self.error is None
        return {one.name: one.values for one in self.tensors}


class Steps:
    """The steps of an ensemble, one after the other, as its config says."""

    def __init__(self, modules: Any, out: Path, name: str) -> None:
        self.steps = [modules.Decode(), modules.Maps(), modules.Cut()]
        for step, model in zip(STEPS, self.steps, strict=True):
            folder = out / f"{name}_{step}"
            assert f"import {type(model).__name__} as" in (folder / "1/model.py").read_text()
            model.initialize({
                "model_repository": str(folder), "model_version": "1",
                "model_instance_kind": "CPU", "model_instance_device_id": "0",
            })  # fmt: skip

    def run(self, asked: list[tuple[list[bytes], list[list[int]]]]) -> list[Any]:
        """The answers to requests of images and classes: arrays by name, or an error."""
        decode, maps, cut = self.steps
        made = decode.execute([
            {"image": np.array(data, np.object_)[:, None], "class_index": np.array(index)}
            for data, index in asked
        ])  # fmt: skip
        good = [one.arrays() for one in made if one.error is None]
        ran = maps.execute(
            [{"image": one["pixels"], "class_index": one["checked"]} for one in good]
        )
        known = [{**one, **more.arrays()} for one, more in zip(good, ran, strict=True)]
        name = next(name for name in ("features", "saliency") if name in known[0])
        done = cut.execute([{**one, "map": one[name]} for one in known])
        left = iter({**one, **more.arrays()} for one, more in zip(known, done, strict=True))
        return [next(left) if one.error is None else one.error for one in made]

    def end(self) -> None:
        self.steps[2].finalize()


def exported(tmp_path: Path, **options: Any) -> Path:
    given = {"mean": [0.5] * 3, "std": [0.25] * 3, "range": "0-1", "verify": False, **options}
    return Path(export(models.tiny_convnet(), tmp_path / "tiny.backlit.onnx", **given).path)


@pytest.mark.parametrize("how", ["uint8", "float32", "crop", "saliency", "no labels"])
def test_the_steps_answer_as_localize_does(how: str, tmp_path: Path, python_models: Any) -> None:
    labels = models.labels().read_text(encoding="utf-8").splitlines()
    options: dict[str, Any] = {
        "uint8": {"labels": labels},
        "float32": {"labels": labels, "input": "float32"},
        "crop": {"labels": labels, "resize": "crop"},
        "saliency": {"labels": labels, "maps": ["saliency"]},
        "no labels": {},
    }[how]
    file = exported(tmp_path, **options)
    write(file, tmp_path / "out", "--backend", "python", "--max-images", "8")
    steps = Steps(python_models, tmp_path / "out", "tiny")
    asked = [(PHOTOS[:2], [[-1, -2], [3, 7]]), (PHOTOS[2:3], [[-1]]), (PHOTOS[3:4], [[-1, 0]])]
    session = Session(file, "cpu")
    for (data, index), answer in zip(asked, steps.run(asked), strict=True):
        for row, one in enumerate(session.localize(data, classes=index, crops=1)):
            assert answer["class"][row].tolist() == one.classes.tolist()
            np.testing.assert_array_equal(answer["score"][row], one.scores)
            assert [tuple(box) for box in answer["box"][row].tolist()] == list(one.boxes)
            wanted = ["" if label is None else label for label in one.labels]
            assert [label.decode() for label in answer["label"][row]] == wanted
    steps.end()


def test_one_bad_request_is_one_error(file: Path, tmp_path: Path, python_models: Any) -> None:
    write(file, tmp_path, "--backend", "python", "--max-top", "2")
    steps = Steps(python_models, tmp_path, "my_model")
    asked = [
        (PHOTOS[:1], [[-1]]),
        ([PHOTOS[0], b"junk"], [[-1], [-1]]),
        (PHOTOS[:1], [[12]]),
        (PHOTOS[:1], [[0, 1, 2]]),
        (PHOTOS[1:2], [[-1]]),
    ]
    first, junk, out_of_range, many, last = steps.run(asked)
    found = Session(file, "cpu").localize(PHOTOS[:2], crops=1)
    assert [tuple(one["box"][0, 0].tolist()) for one in (first, last)] == [
        one.boxes[0] for one in found
    ]
    assert "convert it to JPEG or PNG" in junk
    assert "class 12 is out of range" in out_of_range
    assert "3 classes are too many. ask for 2 at most." in many
    steps.end()


def test_nothing_found_is_a_box_of_ones_below_zero(
    file: Path, tmp_path: Path, python_models: Any
) -> None:
    write(file, tmp_path, "--backend", "python")
    steps = Steps(python_models, tmp_path, "my_model")
    place = [[360, 240, 96 / 360, 96 / 240, 0, 0]]
    (answer,) = steps.steps[2].execute([{
        "frame": np.full((1, 96, 96, 3), 7, np.uint8), "place": np.array(place),
        "class": np.array([[3]]), "score": np.ones((1, 1), np.float32),
        "map": np.zeros((1, 1, 12, 12), np.float32),
    }])  # fmt: skip
    assert answer.arrays()["box"].tolist() == [[list(NOTHING)]]
    steps.end()
