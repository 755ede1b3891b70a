"""What a classifier may take for an image: integers, greys, bands, rows, open lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from backlit.export import export
from backlit.export.build import ExportReport
from backlit.export.sources.stated import hugging_face
from backlit.runtime import Session
from backlit.runtime.cli import main
from backlit.runtime.contract import Verification
from backlit.runtime.errors import BacklitError, ModelError, OptionError
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from support import small
from support.real import SHARED
from support.slow import some_slow

Array = np.ndarray[Any, Any]
CASES = SHARED / "cases"
NEXT = "inner"  # what the first convolution reads where nodes stand before it


def verified(source: Any, folder: Path, **options: Any) -> ExportReport:
    """Export with verification against float64 differences of the source, or autograd."""
    report = export(source, folder / "made.onnx", **options)
    found = report.contract.verification
    assert isinstance(found, Verification)
    assert found.cosine > 0.9999
    assert found.relative_l2 < 1e-3
    assert found.scores_relative < 1e-4
    return report


def scores(folder: Path, image: Array) -> Array:
    session = Session(folder / "made.onnx", providers="cpu")
    found: Array = session.run(image, np.full((len(image), 1), -1)).scores
    return found


def own_scores(model: onnx.ModelProto, image: Array, **others: Array) -> Array:
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = engine.run(["logits"], {"input": image, **others})[0]
    return found


def behind(model: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """The classifier with nodes from ``input`` to ``inner`` before it."""
    for node in model.graph.node:
        node.input[:] = [NEXT if name == "input" else name for name in node.input]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def takes(model: onnx.ModelProto, dtype: int, shape: list[Any]) -> onnx.ModelProto:
    made = helper.make_tensor_value_info("input", dtype, shape)
    model.graph.input[0].CopyFrom(made)
    return model


def pixels(count: int, channels: int = 3, size: int = 12) -> Array:
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


FLOAT = TensorProto.FLOAT
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


# -- integers --------------------------------------------------------------------------------------


def cast_then_scale() -> onnx.ModelProto:
    nodes = [node("Cast", ["input"], "fl", to=FLOAT), node("Div", ["fl", "s"], NEXT)]
    return behind(small.convnet(), *nodes, s=np.float32(255))


def cast_twice() -> onnx.ModelProto:
    """As converters of quantised models write it: to int32, less the zero point, then to float."""
    nodes = [
        node("Cast", ["input"], "i", to=TensorProto.INT32),
        node("Sub", ["i", "zero"], "j"),
        node("Cast", ["j"], "fl", to=FLOAT),
        node("Mul", ["fl", "s"], NEXT),
    ]
    return behind(small.convnet(), *nodes, s=np.float32(1 / 128), zero=np.int32(120))


def padded_before_the_cast() -> onnx.ModelProto:
    nodes = [
        node("Pad", ["input", "pads", "fill"], "padded"),
        node("Slice", ["padded", "start", "end", "axis"], "q"),
        node("Cast", ["q"], "fl", to=FLOAT),
        node("Div", ["fl", "s"], NEXT),
    ]
    return behind(
        small.convnet(), *nodes, s=np.float32(255), pads=np.array([0, 0, 1, 0, 0, 0, 0, 0]),
        fill=np.array(9, np.uint8), start=np.array([0]), end=np.array([12]), axis=np.array([2]),
    )  # fmt: skip


def masked() -> onnx.ModelProto:
    """What is compared stays what it was: dark pixels become 9, and do not count."""
    nodes = [
        node("Greater", ["input", "dark"], "bright"),
        node("Where", ["bright", "input", "fill"], "chosen"),
        node("Cast", ["chosen"], "fl", to=FLOAT),
        node("Div", ["fl", "s"], NEXT),
    ]
    dark, fill = np.array(30, np.uint8), np.array(9, np.uint8)
    return behind(small.convnet(), *nodes, s=np.float32(255), dark=dark, fill=fill)


def dequantised() -> onnx.ModelProto:
    nodes = [node("DequantizeLinear", ["input", "s", "z"], NEXT)]
    return behind(small.convnet(), *nodes, s=np.float32(0.01), z=np.array(114, np.uint8))


@pytest.mark.parametrize(
    "make", [cast_then_scale, cast_twice, padded_before_the_cast, masked, dequantised],
    ids=lambda make: make.__name__,
)  # fmt: skip
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
def test_pixels_go_in_as_they_are(make: Any, last: bool, tmp_path: Path) -> None:
    """The file takes the pixels that the classifier takes, and its scores are the classifier's."""
    model = takes(make(), TensorProto.UINT8, ["N", 3, 12, 12])
    if last:
        turn = node("Transpose", ["input"], "turned", perm=FIRST)
        for one in model.graph.node:
            one.input[:] = ["turned" if name == "input" else name for name in one.input]
        model.graph.node.insert(0, turn)
        takes(model, TensorProto.UINT8, ["N", 12, 12, 3])
    report = verified(model, tmp_path)
    how = report.contract.normalisation
    assert (how.range, how.mean, how.std, how.assumed) == ("0-255", (0,) * 3, (1,) * 3, False)
    x = pixels(2)
    expected = own_scores(model, x if last else np.ascontiguousarray(x.transpose(FIRST)))
    np.testing.assert_allclose(scores(tmp_path, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["INT32", "INT64", "UINT16", "INT16"])
def test_wider_integers_hold_pixels(kind: str, tmp_path: Path) -> None:
    dtype = TensorProto.DataType.Value(kind)
    model = takes(cast_then_scale(), dtype, [1, 3, 12, 12])
    verified(model, tmp_path)
    x = pixels(1)
    given = x.transpose(FIRST).astype(helper.tensor_dtype_to_np_dtype(dtype))
    np.testing.assert_allclose(scores(tmp_path, x), own_scores(model, given), rtol=1e-4, atol=1e-4)


def test_signed_bytes_are_pixels_less_128(tmp_path: Path) -> None:
    model = takes(cast_then_scale(), TensorProto.INT8, ["N", 3, 12, 12])
    report = verified(model, tmp_path)
    assert report.contract.normalisation.mean == (128,) * 3
    x = pixels(2)
    given = (x.transpose(FIRST).astype(np.int32) - 128).astype(np.int8)
    np.testing.assert_allclose(scores(tmp_path, x), own_scores(model, given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("op_type", "dtype"), [("Div", TensorProto.INT32), ("Sub", TensorProto.UINT8)]
)
def test_arithmetic_of_integers_is_refused(op_type: str, dtype: int, tmp_path: Path) -> None:
    """A quotient is rounded and a byte wraps around: floats would give other scores."""
    nodes = [node(op_type, ["input", "k"], "i"), node("Cast", ["i"], NEXT, to=FLOAT)]
    k = np.array(2, helper.tensor_dtype_to_np_dtype(dtype))
    model = takes(behind(small.convnet(), *nodes, k=k), dtype, ["N", 3, 12, 12])
    with pytest.raises(ModelError, match=f"{op_type} 'i' computes with it as integers") as caught:
        export(model, tmp_path / "made.onnx")
    assert "Cast to float" in caught.value.fix


# -- greys and rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("rank", [2, 3])
def test_greys_and_rows(rank: int, batch: Any, tmp_path: Path) -> None:
    """[N, H, W] and [N, H * W] become [N, 1, H, W]."""
    count = -1 if batch == "N" else batch
    model = behind(
        small.convnet(channels=1, batch=batch), node("Reshape", ["input", "to"], NEXT),
        to=np.array([count, 1, 12, 12]),
    )  # fmt: skip
    takes(model, FLOAT, [batch, 144] if rank == 2 else [batch, 12, 12])
    report = verified(model, tmp_path, size=12 if rank == 2 else None)
    image = report.contract.image
    assert (image.channels, image.height, image.width, image.colour) == (1, 12, 12, "grey")
    x = pixels(batch if batch != "N" else 2, 1)
    given = (
        (x.transpose(FIRST) / 255).astype(np.float32).reshape(len(x), *([144], [12, 12])[rank - 2])
    )
    np.testing.assert_allclose(scores(tmp_path, x), own_scores(model, given), rtol=1e-4, atol=1e-4)


def test_a_row_of_colours(tmp_path: Path) -> None:
    model = behind(
        small.convnet(), node("Reshape", ["input", "to"], NEXT), to=np.array([-1, 3, 12, 12])
    )
    verified(takes(model, FLOAT, ["N", 432]), tmp_path, size=(12, 12))


@pytest.mark.parametrize(
    ("size", "says"), [(None, "is flat: nothing says"), (10, "10x10 pixels are no row of 144")]
)
def test_rows_of_unknown_size_ask_for_it(size: Any, says: str, tmp_path: Path) -> None:
    model = behind(
        small.convnet(channels=1), node("Reshape", ["input", "to"], NEXT),
        to=np.array([-1, 1, 12, 12]),
    )  # fmt: skip
    with pytest.raises(OptionError, match=says) as caught:
        export(takes(model, FLOAT, ["N", 144]), tmp_path / "made.onnx", size=size)
    assert "--size" in caught.value.fix


@pytest.mark.parametrize("channels", [1, 3])
def test_one_image_without_a_batch(channels: int, tmp_path: Path) -> None:
    model = behind(
        small.convnet(channels=channels, batch=1), node("Unsqueeze", ["input", "axis"], NEXT),
        axis=np.array([0]),
    )  # fmt: skip
    takes(model, FLOAT, [channels, 12, 12])
    model.graph.node.append(node("Squeeze", ["logits", "axis"], "only"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("only", FLOAT, [6]))
    verified(model, tmp_path)
    x = pixels(2, channels)
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = (x.transpose(FIRST) / 255).astype(np.float32)
    expected = [engine.run(None, {"input": one})[0] for one in given]
    np.testing.assert_allclose(scores(tmp_path, x), expected, rtol=1e-4, atol=1e-4)


def test_layers_of_one_image_without_a_batch_are_refused(tmp_path: Path) -> None:
    """As torch writes a convolution of [C,H,W]: the batch comes off after it."""
    model = behind(
        small.convnet(batch=1), node("Unsqueeze", ["input", "axis"], NEXT), axis=np.array([0])
    )
    takes(model, FLOAT, [3, 12, 12])
    at = next(i for i, one in enumerate(model.graph.node) if one.op_type == "Relu")
    model.graph.node[at].input[0] = "again"
    model.graph.node.insert(at, node("Unsqueeze", ["off", "axis"], "again"))
    model.graph.node.insert(at, node("Squeeze", ["c", "axis"], "off"))
    with pytest.raises(ModelError, match="one image without a batch") as caught:
        export(model, tmp_path / "made.onnx")
    assert "with a batch" in caught.value.fix


# -- channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 4, 6, 13])
@pytest.mark.parametrize("shape", ["fixed", "open", "nhwc"])
def test_bands(channels: int, shape: str, tmp_path: Path) -> None:
    """Lengths or the first convolution tell how many there are, and which axis they are."""
    model = small.convnet(channels=channels)
    if shape == "nhwc":
        model = takes(
            behind(model, node("Transpose", ["input"], NEXT, perm=FIRST)), FLOAT,
            ["N", 12, 12, channels],
        )  # fmt: skip
    elif shape == "open":
        takes(model, FLOAT, ["N", "C", "H", "W"])
    report = verified(model, tmp_path, size=12)
    image = report.contract.image
    assert (image.channels, image.height, image.width, image.colour) == (channels, 12, 12, "bands")
    x = pixels(2, channels)
    given = (x / 255).astype(np.float32)
    given = given if shape == "nhwc" else np.ascontiguousarray(given.transpose(FIRST))
    np.testing.assert_allclose(scores(tmp_path, x), own_scores(model, given), rtol=1e-4, atol=1e-4)


def test_channels_are_asked_for(tmp_path: Path) -> None:
    model = takes(small.convnet(channels=4), FLOAT, ["N", "C", 12, 12])
    assert verified(model, tmp_path, channels=4).contract.image.channels == 4
    for made in (model, small.convnet(channels=4)):
        with pytest.raises(OptionError, match="images of 4 channels, not 3"):
            export(made, tmp_path / "x.onnx", channels=3)


class Banded(torch.nn.Module):
    """A convolution that is defined first and runs last, and one that takes the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.late = torch.nn.Conv2d(8, 5, 1)
        self.early = torch.nn.Conv2d(channels, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.late(torch.relu(self.early(x))).mean((2, 3))
        return scores


@pytest.mark.parametrize("channels", some_slow([2, 4, 6, 13], {2, 6}))
def test_modules_of_bands(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(800, 5),
    ).eval()  # fmt: skip
    assert verified(plain, tmp_path, size=12).contract.image.channels == channels
    made = verified(Banded(channels).eval(), tmp_path, size=12, channels=channels)
    assert made.contract.image.channels == channels
    assert made.contract.verification is not None
    assert made.contract.verification.reference == "torch.autograd"


def test_a_module_whose_first_convolution_is_another(tmp_path: Path) -> None:
    assert verified(Banded(3).eval(), tmp_path, size=12).contract.image.channels == 3


def test_a_module_that_takes_no_such_image_says_so_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot run on images of 7 x 12 x 12") as caught:
        export(Banded(3).eval(), tmp_path / "made.onnx", size=12, channels=7)
    assert "\n" not in caught.value.problem
    assert "--channels" in caught.value.fix


# -- other inputs ----------------------------------------------------------------------------------


def scaled() -> onnx.ModelProto:
    model = behind(small.convnet(), node("Mul", ["input", "gain"], NEXT))
    model.graph.input.append(helper.make_tensor_value_info("gain", FLOAT, ["N", 1, 1, 1]))
    return model


def test_other_inputs_become_constants(tmp_path: Path) -> None:
    verified(scaled(), tmp_path, constants={"gain": 0.5})
    x = pixels(2)
    given = np.ascontiguousarray((x / 255).astype(np.float32).transpose(FIRST))
    gain = np.full((2, 1, 1, 1), 0.5, np.float32)
    expected = own_scores(scaled(), given, gain=gain)
    np.testing.assert_allclose(scores(tmp_path, x), expected, rtol=1e-4, atol=1e-4)


def test_verify_takes_them_too(tmp_path: Path) -> None:
    source, file = str(tmp_path / "scaled.onnx"), str(tmp_path / "made.onnx")
    onnx.save(scaled(), source)
    run = CliRunner()
    given = ["--constant", "gain=0.5"]
    assert run.invoke(main, ["export", source, "-o", file, *given, "--no-verify"]).exit_code == 0
    assert run.invoke(main, ["verify", file, source, *given]).exit_code == 0
    other = run.invoke(main, ["verify", file, source, "--constant", "gain=0.9"])
    assert other.exit_code == 3, other.output
    none = run.invoke(main, ["verify", file, source])
    assert none.exit_code == 1
    assert "--constant gain=1" in none.stderr
    report = run.invoke(main, ["verify", file, "--report", str(tmp_path), "--images", ".", *given])
    assert report.exit_code == 2
    assert "--constant go with SOURCE" in report.stderr


@pytest.mark.parametrize(
    ("constants", "says", "fix"),
    [
        (None, "its inputs are: input FLOAT", "--constant"),
        ({"gian": 1}, "no input 'gian'", "choose among input, gain"),
        ({"gain": "much"}, "'much' is no value for the input 'gain'", "one number"),
        ({"gain": np.ones((2, 5, 7))}, "is no value for the input 'gain'", "of that shape"),
    ],
)
def test_other_inputs_are_told(constants: Any, says: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(BacklitError, match=says) as caught:
        export(scaled(), tmp_path / "made.onnx", constants=constants)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (["N", 3, 8, 12, 12], "looks like a volume or a video"),
        (["N"], "is no image"),
        ([], "is no image"),
    ],
)
def test_what_is_no_picture_is_said(shape: list[Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        export(takes(small.convnet(), FLOAT, shape), tmp_path / "made.onnx")
    assert "classifier of pictures" in caught.value.fix


def test_a_signal_is_no_grey_picture(tmp_path: Path) -> None:
    model = takes(small.convnet(), FLOAT, ["N", 3, 144])
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(weight)[..., 0]
    weight.CopyFrom(numpy_helper.from_array(values, "w"))
    with pytest.raises(ModelError, match="is no image"):
        export(model, tmp_path / "made.onnx")


def test_a_backlit_file_is_none(tmp_path: Path) -> None:
    export(small.convnet(), tmp_path / "made.onnx", verify=False)
    with pytest.raises(ModelError, match="a Backlit file already"):
        export(tmp_path / "made.onnx", tmp_path / "again.onnx")


def test_the_command_line_has_the_options_and_verify_the_source(tmp_path: Path) -> None:
    """A source that was laid out for its file is laid out again to be compared with it."""
    for name, model, options in (
        ("open", takes(small.convnet(channels=4), FLOAT, ["N", "C", "H", "W"]),
         ["--size", "12", "--channels", "4"]),
        ("pixels", takes(cast_then_scale(), TensorProto.UINT8, ["N", 3, 12, 12]), []),
    ):  # fmt: skip
        source, file = tmp_path / f"{name}.onnx", tmp_path / f"{name}.backlit.onnx"
        source.write_bytes(model.SerializeToString())
        for args in (["export", source, "-o", file, *options], ["verify", file, source]):
            result = CliRunner().invoke(main, list(map(str, args)))
            assert result.exit_code == 0, result.output
    source.write_bytes(scaled().SerializeToString())
    for constant, code in (("gain=0.5", 0), ("gain=much", 2), ("0.5", 2), ("other=1", 2)):
        args = ["export", source, "-o", file, "--constant", constant]
        assert CliRunner().invoke(main, list(map(str, args))).exit_code == code, constant


# -- Hugging Face's files beside it ----------------------------------------------------------------

PROCESSOR = {
    "do_center_crop": True, "crop_size": {"height": 12, "width": 12}, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.3], "resample": 3, "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 16},
}  # fmt: skip


def optimum(folder: Path, below: str = ".", **processor: Any) -> Path:
    """As Optimum writes it: all lengths open, and two configurations beside it."""
    model = takes(small.convnet(), FLOAT, ["batch_size", "num_channels", "height", "width"])
    names = {str(i): f"kind {i}" for i in range(small.CLASSES)}
    config = {"model_type": "vit", "id2label": names, "image_size": 12}
    (folder / below).mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    how = {**PROCESSOR, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    path = folder / below / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("below", [".", "onnx"])
def test_optimum_needs_no_options(below: str, tmp_path: Path) -> None:
    contract = verified(optimum(tmp_path, below), tmp_path).contract
    image, how = contract.image, contract.normalisation
    assert (image.channels, image.height, image.width) == (3, 12, 12)
    assert (image.crop_fraction, image.interpolation) == (0.75, "bicubic")
    assert (how.range, how.assumed) == ("0-1", False)
    np.testing.assert_allclose(how.mean, [0.5, 0.4, 0.3])
    np.testing.assert_allclose(how.std, [0.2, 0.2, 0.3])
    assert contract.labels == tuple(f"kind {i}" for i in range(small.CLASSES))


def test_options_come_before_what_lies_beside(tmp_path: Path) -> None:
    path = optimum(tmp_path, crop_size=24)
    contract = verified(path, tmp_path, size=12, mean=[0.1], labels=list("abcdef")).contract
    assert contract.image.height == 12
    assert contract.normalisation.mean == (0.1,) * 3
    assert contract.labels == tuple("abcdef")


def test_damaged_configurations_are_left_alone(tmp_path: Path) -> None:
    path = optimum(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(OptionError, match="no fixed height and width"):
        export(path, tmp_path / "made.onnx")
    assert verified(path, tmp_path, size=12).contract.normalisation.assumed


@pytest.mark.parametrize(
    ("how", "channels"),
    [
        ({}, [0.1, 0.2]),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, [0.1, 0.2]),
        ({"do_rescale": False}, [10.0, 20.0]),
        ({"do_normalize": False}, None),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5}, None),
    ],
)
def test_the_processors_arithmetic(how: dict[str, Any], channels: list[float] | None) -> None:
    """What the file computes of pixels is what an image processor does."""
    given = {
        "do_normalize": True,
        "image_mean": channels,
        "image_std": [0.5, 0.25],
        "size": 8,
    } | how
    says = hugging_face({}, given)
    pixel = np.arange(0.0, 256, 17)
    assert says.mean is not None
    assert says.std is not None
    unit = 1 / 255 if says.range == "0-1" else 1.0
    found = (pixel * unit - says.mean[0]) / says.std[0]
    expected = pixel
    if given.get("do_rescale", True):
        expected = pixel * given.get("rescale_factor", 1 / 255) - bool(given.get("rescale_offset"))
    if given["do_normalize"]:
        assert channels is not None
        expected = (expected - channels[0]) / 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"size": 224}, (224, 224)),
        ({"size": [224, 192]}, (224, 192)),
        ({"size": {"height": 30, "width": 20}}, (30, 20)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, (224, 224)),
        ({"size": {"shortest_edge": 256}, "do_center_crop": False, "crop_size": 224}, (256, 256)),
        ({"size": "large"}, None),
        ({"size": {"height": True, "width": -2}}, None),
    ],
)
def test_the_processors_size(given: dict[str, Any], size: tuple[int, int] | None) -> None:
    assert hugging_face({}, given).size == size
    assert hugging_face({"image_size": 48}, {}).size == (48, 48)


@pytest.mark.parametrize("name", ["uint8_nhwc", "int32_nchw", "hf_dynamic_channels"])
def test_reported_files_export_and_verify(name: str, tmp_path: Path) -> None:
    path = CASES / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("the reported files are not here")
    verified(path, tmp_path, size=32)
