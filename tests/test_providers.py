import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from backlit.runtime.backend import creation, models, ort, plugins, probing, sessions
from backlit.runtime.backend.libraries import last_line
from backlit.runtime.backend.providers import table
from backlit.runtime.errors import ModelError, OptionError, ProviderError
from support.linear_file import write_linear_file

# Where CUDA really loads, the failing path cannot be tested.
NO_CUDA = pytest.mark.skipif(
    probing.probe("cuda").loads, reason="CUDA loads here: its failure cannot be tested"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "linear.onnx"
    write_linear_file(path)
    return path


def test_probe_tells_the_truth_about_the_cpu():
    probe = probing.probe("cpu")
    assert probe.here
    assert probe.loads
    assert probe.reason == probe.fix == ""


def test_probe_network_is_a_convolution():
    session = onnxruntime.InferenceSession(probing._TINY, providers=["CPUExecutionProvider"])
    value = np.full((1, 1, 1, 1), -1.5, np.float32)
    assert session.run(None, {"x": value})[0] == -3.0
    onnx.checker.check_model(onnx.load_from_string(probing._TINY))
    assert b"Conv" in probing._TINY  # cuDNN is loaded by the first convolution


def test_every_probe_that_fails_says_why_and_what_to_do():
    for name, row in table.PROVIDERS.items():
        probe = probing.probe(name)
        built = row.full in onnxruntime.get_available_providers()
        assert probe.here == (plugins.here(row) or built)
        assert probe.untested == row.untested
        if not probe.loads:
            assert probe.reason
            assert "pip install" in probe.fix or "--providers cpu" in probe.fix


def test_a_build_without_a_provider_names_the_extra_that_has_it():
    for name, extra in {"cuda": "gpu", "tensorrt": "gpu"}.items():
        probe = probing.probe(name)
        if not probe.here:
            assert f"'backlit[{extra}]'" in probe.fix
            # both go, whichever is here: they own one module
            assert "onnxruntime onnxruntime-gpu" in probe.fix


def test_candidates():
    assert probing.candidates("cpu") == [("cpu",)]
    unnamed = [name for name, row in table.PROVIDERS.items() if not row.named]
    assert unnamed == ["cuda", "tensorrt", "cpu"]
    loading = [name for name in unnamed if probing.probe(name).loads]
    assert probing.candidates(None) == [(name,) for name in loading]
    with pytest.raises(OptionError):
        probing.candidates("gpu")


def test_a_fixed_shape(file):
    opened = sessions.open_session(file, "cpu", shape=(3, 2))
    assert [value.shape for value in opened.session.get_inputs()] == [[3, 8, 6, 3], [3, 2]]


def test_nothing_asked_takes_what_loads_and_says_which(file):
    opened = sessions.open_session(file)
    first = next(name for name in table.PROVIDERS if probing.probe(name).loads)
    assert opened.provider == first
    assert opened.session.get_providers()[0] == table.PROVIDERS[first].full


@NO_CUDA
@pytest.mark.parametrize("asked", [["cuda"], "cuda", "cuda,cpu", ["tensorrt", "cuda"], "CUDA"])
def test_a_named_provider_that_does_not_load_is_an_error_with_the_fix(file, asked):
    with pytest.raises(ProviderError) as caught:
        sessions.open_session(file, asked)
    assert "pip install" in caught.value.fix
    compiled = probing.probe("cuda").here
    assert ("'onnxruntime-gpu[cuda,cudnn]'" if compiled else "'backlit[gpu]'") in caught.value.fix
    if "tensorrt" in asked:
        assert "tensorrt-cu13>=10.13,<11" in caught.value.fix


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_failure_is_quiet_and_costs_one_try_of_the_tiny_network_in_a_fresh_process(file, name):
    code = f"""
from backlit.runtime.backend import creation, probing
from backlit.runtime.errors import ProviderError
from backlit.runtime.backend.sessions import open_session
plain, tried = creation.create, []
def create(ort, model, *rest, **named):
    tried.append(model)
    return plain(ort, model, *rest, **named)
creation.create = create
for _ in range(2):  # the second time it is known
    try:
        open_session({str(file)!r}, [{name!r}])
    except ProviderError:
        pass
    else:
        raise SystemExit("no error")
assert tried == [probing._TINY] * probing.probe({name!r}).here, tried
print(open_session({str(file)!r}).provider)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = next(name for name in table.PROVIDERS if probing.probe(name).loads)
    assert done.stdout == f"{first}\n"
    assert done.stderr == ""


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "tensorrt", "tensorrt,cuda"])
def test_so_is_the_command_and_it_never_runs_on_the_cpu(file, name, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    line = [sys.executable, "-m", "backlit.runtime", "saliency", str(file)]
    line += [str(tmp_path / "a.png"), "--providers", name]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"the execution provider {name.split(',')[0]!r} does not load" in done.stderr
    assert "fix: " in done.stderr
    assert "a.png" not in done.stderr  # which was not read


def test_what_onnxruntime_took_is_compared_with_what_was_asked(file, monkeypatch):
    """As if the probe had been wrong: the session itself falls back without a word."""
    if probing.probe("cuda").loads:
        pytest.skip("CUDA loads here: its failure cannot be tested")
    if not probing.probe("cuda").here:
        pytest.skip("this ONNX Runtime is built without CUDA")
    monkeypatch.setattr(probing, "probe", lambda name: probing.Probe(name, here=True, loads=True))
    with pytest.raises(ProviderError, match="asked for cuda and took CPUExecutionProvider"):
        sessions.open_session(file, ["cuda"])


@pytest.mark.parametrize("names", ["gpu", "cuda,,cpu", [], ["cpu", "CUDAExecutionProvider"], ""])
def test_unknown_names(names):
    with pytest.raises(OptionError, match="no execution provider") as caught:
        probing.parse(names)
    assert "cuda, tensorrt, cpu, openvino, webgpu" in caught.value.fix


def test_parse():
    assert probing.parse(None) is None
    assert probing.parse(" CUDA, cpu,cuda") == ("cuda", "cpu")


def test_threads(file):
    opened = sessions.open_session(file, ["cpu"], threads=1)
    assert opened.session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(OptionError, match="0 threads"):
        sessions.open_session(file, ["cpu"], threads=0)


def test_bad_files(file, tmp_path, monkeypatch):
    def problem(path):
        with pytest.raises(ModelError) as caught:
            sessions.open_session(path, ["cpu"])
        assert caught.value.fix
        return caught.value.problem

    assert "does not exist" in problem(tmp_path / "no.onnx")
    assert "folder" in problem(tmp_path)
    bad = tmp_path / "bad.onnx"
    bad.touch()
    assert "is empty" in problem(bad)
    bad.write_text("not an ONNX file\n" * 10)
    assert "not an ONNX file" in problem(bad)
    bad.write_bytes(bytes(1000))
    assert str(bad) in problem(bad)
    data, plain, tried = file.read_bytes(), creation.create, []

    def create(ort, model, *rest, **named):
        tried.append(model)
        return plain(ort, model, *rest, **named)

    monkeypatch.setattr(creation, "create", create)
    sizes = {1, 2, 10, len(data) // 2, *range(100, len(data), 211), len(data) - 1}
    for size in sizes:
        bad.write_bytes(data[:size])
        assert str(bad) in problem(bad)
    assert tried == [str(bad)] * len(sizes)  # once each, and not again


def test_a_file_newer_than_this_onnxruntime(tmp_path):
    path = tmp_path / "new.onnx"
    write_linear_file(path)
    model = onnx.load(path)
    model.opset_import[0].version = 999
    onnx.save(model, path)
    with pytest.raises(ModelError, match="too old") as caught:
        sessions.open_session(path, ["cpu"])
    assert "pip install -U" in caught.value.fix


def test_onnxruntime_not_installed_or_an_empty_shell(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match="cannot be imported"):
        ort.onnxruntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    with pytest.raises(ProviderError, match="empty shell"):
        ort.onnxruntime()


def test_the_reason_in_a_message_of_cuda():
    long = "CUDNN_FE failure 6: GRAPH_FAILED ; GPU=0 ; hostname=a\n with the json:\n{...}"
    assert last_line(RuntimeError(long)) == "CUDNN_FE failure 6: GRAPH_FAILED"
    text = "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; file=a.cc ; line=9"
    assert last_line(RuntimeError(text)) == "CUDA failure 100: no CUDA-capable device is detected"
    assert last_line(RuntimeError("one\ntwo.\n\n")) == "two"
    assert last_line(ValueError()) == "ValueError"


def test_onnxruntimes_messages_become_errors_with_a_fix():
    def fix(text, names=None):
        return models.model_error("a.onnx", RuntimeError(text), names).fix

    assert "--batch" in fix("Failed to allocate memory for requested buffer of size 9", ("cuda",))
    assert "--batch" in fix("std::bad_alloc")
    assert "--providers cpu" in fix("CUDNN failure 4", ("cuda",))
    assert "export the model again" in fix("Non-zero status code returned")
