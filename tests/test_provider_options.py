"""Options of execution providers, and what ONNX Runtime's real providers say of them."""

import json
import subprocess
import sys

import onnx
import pytest
from backlit.runtime.backend import options as provider_options
from backlit.runtime.backend import placement, sessions
from backlit.runtime.backend.providers.table import PROVIDERS
from backlit.runtime.errors import OptionError
from onnx import TensorProto, helper
from PIL import Image
from support.fake_libraries import environment, tensorrt, with_cudnn  # noqa: F401
from support.linear_file import write_linear_file

OPEN = """
import json, sys
from backlit.runtime.errors import BacklitError
from backlit.runtime.backend.options import parse
from backlit.runtime.backend.sessions import open_session
path, names, *texts = sys.argv[1:]
for text in texts:
    try:
        opened = open_session(path, names, options=parse([text]))
        full = opened.session.get_providers()[0]
        found = opened.session.get_provider_options()[full]
        print(json.dumps([text, opened.provider, found]))
    except BacklitError as error:
        print(json.dumps([text, type(error).__name__, error.problem, error.fix]))
"""


def python(code, *args, libraries=()):
    line = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, env=environment(*libraries))


def answers(*args, libraries=()):
    done = python(OPEN, *args, libraries=libraries)
    assert (done.returncode, done.stderr) == (0, "")
    return {text: rest for text, *rest in map(json.loads, done.stdout.splitlines())}


def backlit(*args, libraries=()):
    line = [sys.executable, "-m", "backlit.runtime", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, env=environment(*libraries))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "linear.onnx"
    write_linear_file(path)
    return path


@pytest.fixture(scope="module")
def left(file):
    """The same with a node that CUDA has not: an LpPool; its Reshape's shape is computed."""
    model = onnx.load(file)
    (last,) = (node for node in model.graph.node if "scores" in node.output)
    last.output[list(last.output).index("scores")] = "raw"
    for node in model.graph.node:
        node.input[:] = ["raw" if name == "scores" else name for name in node.input]
    constants = {"first": [0], "second": [1], "rest": [1, -1]}
    for name, values in constants.items():
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        model.graph.initializer.append(tensor)
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["raw"], ["dims"], "the_shape"),
            helper.make_node("Slice", ["dims", "first", "second"], ["many"], "a_slice"),
            helper.make_node("Concat", ["many", "rest"], ["wanted"], "a_concat", axis=0),
            helper.make_node("Reshape", ["raw", "wanted"], ["rows"], "a_reshape"),
            helper.make_node("LpPool", ["rows"], ["pooled"], "left_behind", kernel_shape=[1]),
            helper.make_node("Squeeze", ["pooled", "second"], ["scores"], "a_squeeze"),
        ]
    )
    path = file.with_name("left.onnx")
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


# Without any GPU library


def test_parse():
    texts = [
        "cuda.use_tf32=0",
        " CUDA.device_id = 1",
        "cuda.use_tf32=1",
        "openvino.load_config=a=b",
    ]
    assert provider_options.parse(texts) == {
        "cuda": {"use_tf32": "1", "device_id": "1"},
        "openvino": {"load_config": "a=b"},
    }
    assert provider_options.parse([]) == {}


@pytest.mark.parametrize("text", ["", "use_tf32=0", "cuda.use_tf32", "cuda.=0", ".a=b", "cuda"])
def test_what_is_no_option(text):
    with pytest.raises(OptionError, match="no provider option") as caught:
        provider_options.parse([text])
    assert "cuda.use_tf32=0" in caught.value.fix


def test_a_provider_that_does_not_exist():
    with pytest.raises(OptionError, match="no execution provider 'gpu'") as caught:
        provider_options.parse(["gpu.a=b"])
    assert "cuda, tensorrt, cpu, openvino" in caught.value.fix


def settings(name, own=None, threads=None):
    """The options that a provider gets."""
    return PROVIDERS[name].settings(own or {}, threads)


def test_the_users_options_are_over_the_defaults():
    assert settings("cpu") == settings("tensorrt") == {}
    assert settings("cuda")["use_tf32"] == "1"
    merged = settings("cuda", {"use_tf32": "0", "device_id": "1"})
    assert merged == {**settings("cuda"), "use_tf32": "0", "device_id": "1"}
    settings("cuda")["use_tf32"] = "0"
    assert settings("cuda")["use_tf32"] == "1"


def test_openvino_computes_in_float32_on_every_device():
    def properties(options, threads=2):
        return json.loads(settings("openvino", options.get("openvino", {}), threads)["load_config"])

    both = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
    assert properties({}) == {"CPU": both}
    gpu = {"GPU": {"INFERENCE_PRECISION_HINT": "f32"}}
    assert properties({"openvino": {"device_type": "GPU"}}) == gpu
    assert properties({"openvino": {"device_type": "NPU"}}) == {"NPU": {}}  # it has no float32
    assert properties({"openvino": {"load_config": "{}"}}) == {"CPU": both}
    assert properties({"openvino": {"num_streams": "2"}}) == {"CPU": {**both, "NUM_STREAMS": 2}}
    # what the user says is over it
    half = {"CPU": {**both, "INFERENCE_PRECISION_HINT": "bf16"}}
    assert properties({"openvino": {"precision": "bf16"}}) == half
    config = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}})
    assert properties({"openvino": {"load_config": config}}) == half


def test_tensorrts_flags_are_spelt_as_its_parser_wants_them():
    own = {"trt_engine_cache_enable": "1", "trt_dump_subgraphs": "0", "trt_dla_core": "1"}
    stream = {"has_user_compute_stream": "1", "user_compute_stream": "64"}
    assert settings("tensorrt", {**own, **stream}) == {
        "trt_engine_cache_enable": "True",
        "trt_dump_subgraphs": "False",
        "trt_dla_core": "1",
        "user_compute_stream": "64",
    }


def test_an_option_that_nobody_would_read(file):
    with pytest.raises(OptionError, match=r"cuda\.use_tf32=0 is an option of cuda,") as caught:
        sessions.open_session(file, "cpu", options={"cuda": {"use_tf32": "0"}})
    assert "--providers cuda" in caught.value.fix
    # ONNX Runtime's CPU provider takes any key and ignores it
    with pytest.raises(OptionError, match=r"cpu\.arena=1: the cpu provider has no options"):
        sessions.open_session(file, "cpu", options={"cpu": {"arena": "1"}})


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("saliency", ["IMAGE"]),
        ("localize", ["IMAGE"]),
        ("visualize", ["--class", "0", "-o", "FOLDER/a.png"]),
        ("evaluate", ["FOLDER", "-o", "FOLDER/out"]),
    ],
)
def test_every_command_that_runs_a_file_takes_them(file, tmp_path, command, more):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    more = [x.replace("FOLDER", str(tmp_path)) for x in more]
    more = [x.replace("IMAGE", str(tmp_path / "a.jpg")) for x in more]
    write_linear_file(gradient := tmp_path / "gradient.onnx", output="gradient")
    done = backlit(command, gradient, *more, "--providers", "cpu", "--provider-option", "cpu.a=b")
    assert done.returncode == 2
    assert "cpu.a=b: the cpu provider has no options" in done.stderr
    assert done.stdout == ""


def test_messages_of_another_kind_are_left_alone():
    given = {"cuda": {"device_id": "0"}}
    assert provider_options.refused("Failed to allocate memory", given) is None
    assert provider_options.refused('Unknown provider option: "x"', {}) is None


def test_shape_nodes(left, file):
    assert placement.shape_nodes(left.read_bytes()) >= {"a_slice", "a_concat"}
    names = placement.shape_nodes(left.read_bytes())
    assert not names & {"the_shape", "a_reshape", "left_behind", "a_squeeze"}


def test_a_line_about_many_nodes():
    nodes = tuple(placement.Node(f"n{i}" if i else "", "com.a.Op", "cpu") for i in range(7))
    line = placement.summary(nodes, "tensorrt")
    assert line.startswith("7 nodes that tensorrt does not take run on cpu")
    assert line.endswith(
        "(no name) (com.a.Op), n1 (com.a.Op), n2 (com.a.Op), n3 (com.a.Op), "
        "n4 (com.a.Op) and 2 more"
    )


# ONNX Runtime's real providers, on stand-ins for the libraries under them


def test_the_real_cuda_provider_refuses_what_is_wrong(file, with_cudnn):  # noqa: F811
    texts = {
        "cuda.use_tf33=0": ("the cuda provider has no option 'use_tf33'.", "cuda.use_tf32?"),
        "cuda.quux=0": ("the cuda provider has no option 'quux'.", "device_id, has_user"),
        "cuda.use_tf32=maybe": ("cuda.use_tf32=maybe: not a value of its type.", "use_tf32"),
        "cuda.cudnn_conv_algo_search=FAST": (
            "cuda.cudnn_conv_algo_search=FAST: no such choice.",
            "cudnn_conv_algo_search",
        ),
        "cuda.device_id=7": ("cuda.device_id=7: Invalid device ID: 7, must be", "device_id"),
    }
    found = answers(file, "cuda", *texts, "cuda.use_tf32=0", libraries=[with_cudnn])
    for text, (problem, fix) in texts.items():
        kind, said, mend = found[text]
        assert kind == "OptionError"
        assert problem in said
        assert fix in mend
    provider, taken = found["cuda.use_tf32=0"]
    assert provider == "cuda"
    assert taken["use_tf32"] == "0"
    assert taken["arena_extend_strategy"] == "kSameAsRequested"
    # what there is to choose from is what this provider says it has
    assert set(taken) == set(PROVIDERS["cuda"].keys)


def test_the_real_tensorrt_provider_refuses_what_is_wrong(file, with_cudnn, tmp_path):  # noqa: F811
    tensorrt(tmp_path)
    code = f"""
from backlit.runtime.backend import probing, sessions
tried = probing.Probe("tensorrt", here=True, loads=True)
probing.probe = lambda name: tried
{OPEN}"""
    texts = {
        "tensorrt.trt_fp16_enabl=1": ("has no option 'trt_fp16_enabl'.", "trt_fp16_enable?"),
        "tensorrt.trt_fp16_enable=maybe": ("trt_fp16_enable=maybe: should be 'True' or", "see"),
        "tensorrt.trt_auxiliary_streams=x": ("not a number", "give a number"),
        "tensorrt.trt_load_user_initializer=1": ("has no option", "choose among"),
    }
    done = python(code, file, "tensorrt", *texts, libraries=[with_cudnn, tmp_path])
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(texts)
    for text, kind, said, mend in found:
        assert kind == "OptionError"
        assert texts[text][0] in said
        assert texts[text][1] in mend


def test_nodes_left_to_the_cpu_are_named(left, file, with_cudnn, tmp_path):  # noqa: F811
    code = """
import dataclasses, json, sys
from backlit.runtime.backend.sessions import open_session
for path in sys.argv[1:]:
    opened = open_session(path, "cuda")
    print(json.dumps([[dataclasses.astuple(x) for x in opened.elsewhere], opened.engines > 5]))
"""
    done = python(code, left, file, libraries=[with_cudnn])
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [[["left_behind", "LpPool", "cpu"]], True],
        [[], True],
    ]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    done = backlit(
        "saliency", left, tmp_path / "a.jpg", "--providers", "cuda", libraries=[with_cudnn]
    )
    assert done.returncode == 0, done.stderr
    (note,) = (line for line in done.stderr.splitlines() if line.startswith("note"))
    assert note.startswith("note: a node that cuda does not take runs on cpu")
    assert note.endswith("in every run: left_behind (LpPool)")
    assert json.loads(done.stdout)["image"].endswith("a.jpg")


def test_the_shape_computation_was_on_the_cpu_and_not_named(left, with_cudnn):  # noqa: F811
    """Else the test above would hold for a reason of its own."""
    code = """
import sys
import onnxruntime as ort
settings = ort.SessionOptions()
settings.log_severity_level = 4
settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
session = ort.InferenceSession(sys.argv[1], settings, providers=["CUDAExecutionProvider"])
for group in session.get_provider_graph_assignment_info():
    if group.ep_name == "CPUExecutionProvider":
        print(*(node.name for node in group.get_nodes()))
"""
    done = python(code, left, libraries=[with_cudnn])
    assert done.returncode == 0, done.stderr
    assert {"left_behind", "a_concat"} <= set(done.stdout.split())
