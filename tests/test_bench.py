"""The benchmark: real processes, and what is made of their times."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from backlit.export.bench import bench
from backlit.export.bench import table as bench_table
from backlit.export.bench.files import Subject, from_file, from_source, inputs
from backlit.export.bench.process import Failed, Worker
from backlit.export.bench.result import (
    WARM_UP,
    Case,
    Result,
    compared,
    distance_of,
    measured,
    quartiles,
)
from backlit.export.bench.worker import Job
from backlit.runtime.backend.probing import probe
from backlit.runtime.cli import main
from backlit.runtime.errors import OptionError
from click.testing import CliRunner
from support.small import CLASSES, convnet

CROPPED = {"size": 12, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}

PEERS = "benchmarks.bench.peers"


def small_module() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(100, CLASSES)).eval()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return from_source(small_module(), tmp_path_factory.mktemp("bench"), **CROPPED)


@pytest.fixture(scope="module")
def case(subject: Subject) -> Case:
    wanted = ["classifier", "backlit-cpu", "backlit-cpu-singly", "torch", "torch-channels-last"]
    wanted += [
        "torch-batched",
        *(f"{PEERS}:{name}" for name in ("wrong", "refuses", "dies")),
    ]
    return bench.run(subject, 2, 2, rounds=4, wanted=wanted)


def result(case: Case, name: str) -> Result:
    found = case.get(name)
    assert found is not None
    return found


def test_contenders_run_and_agree(case: Case) -> None:
    assert case.results[0].contender == "forward"
    assert (result(case, "forward").low, result(case, "forward").high) == (1, 1)
    for name in ("backlit-cpu", "backlit-cpu-singly", "torch", "torch-channels-last"):
        found = result(case, name)
        assert (found.status, found.reason) == ("ok", "")
        assert found.distance is not None
        assert found.distance < 1e-5
        pairs = zip(found.times, result(case, "forward").times, strict=True)
        assert found.ratio == pytest.approx(statistics.median(mine / own for mine, own in pairs))
        assert len(found.times) == len(found.cpu_times) == case.rounds
        assert found.open_seconds is not None
        assert found.open_seconds > 0
    assert result(case, "torch-batched").agrees
    assert result(case, "torch").versions == {"torch": torch.__version__}
    assert result(case, "backlit-cpu").versions["onnxruntime"] == ort.__version__


def test_the_plain_classifier_is_what_the_yardstick_computes(case: Case) -> None:
    for name in ("forward", "classifier"):
        found = result(case, name)
        assert found.scores_distance is not None
        assert found.scores_distance < 1e-5
        assert found.distance is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_process_alone(case: Case) -> None:
    held, torch_held = result(case, "backlit-cpu"), result(case, "torch")
    assert held.running_bytes is not None
    assert held.per_image_bytes is not None
    assert torch_held.running_bytes is not None
    # This process, which started it, has torch; the worker has ONNX Runtime alone.
    assert 2**24 < held.running_bytes < 2**27 < torch_held.running_bytes
    assert 0 <= held.per_image_bytes < held.running_bytes / 2


def test_a_fast_wrong_contender_shows(case: Case) -> None:
    wrong = result(case, f"{PEERS}:wrong")
    assert wrong.status == "ok"
    assert not wrong.agrees
    assert wrong.distance is not None
    assert wrong.distance > 0.5
    assert "**WRONG**" in bench_table.markdown([case])
    assert bench_table.geometric_mean([case], f"{PEERS}:wrong") is None


def test_failures_are_reported_with_their_reason(case: Case) -> None:
    refuses, dies = (
        result(case, f"{PEERS}:refuses"),
        result(case, f"{PEERS}:dies"),
    )
    assert refuses.status == dies.status == "failed"
    assert refuses.reason == "RuntimeError: it does not open at all"
    assert dies.reason == "ended by signal 6: last words"
    page = bench_table.markdown([case])
    assert f"{PEERS}:dies: ended by signal 6: last words" in page


def test_json_holds_everything(case: Case) -> None:
    line = case.line()
    assert Case.read(json.loads(json.dumps(line, allow_nan=False))) == case
    assert [r["agrees"] for r in line["results"]].count(False) == 1
    infinite = Case("m", 1, 1, 1, 1, 8, 8, [Result("x", "ok", distance=math.inf)])
    read = Case.read(json.loads(json.dumps(infinite.line(), allow_nan=False)))
    assert not read.results[0].agrees


def test_one_that_takes_too_long_is_ended(subject: Subject, tmp_path: Path) -> None:
    job = worker_job(subject, tmp_path, f"{PEERS}:sleeps")
    worker = Worker(job, timeout=20)
    worker._timeout = 0.2
    with pytest.raises(Failed, match="not done within 0 s"):
        worker.ask("run")
    worker.close()
    killed = -signal.SIGKILL if os.name == "posix" else 1
    assert worker._process.returncode == killed  # in its sleep: nobody waited for its end


def worker_job(subject: Subject, folder: Path, contender: str) -> Job:
    images, index = inputs(subject.contract, 1, 1)
    np.save(folder / "images.npy", images)
    np.save(folder / "index.npy", index)
    return Job(
        contender, 1, str(folder / "images.npy"), str(folder / "index.npy"),
        CLASSES, str(subject.backlit), str(subject.forward), version="7",
    )  # fmt: skip


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has nothing installed."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, symlinks=os.name == "posix")
    return folder / ("bin/python" if os.name == "posix" else "Scripts/python.exe")


def test_another_interpreter_sees_nothing_of_this_one(
    subject: Subject, tmp_path: Path, other_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(np.__file__).parents[1]))
    job = worker_job(subject, tmp_path, "backlit-cpu")
    with pytest.raises(Failed, match="No module named 'numpy'"):
        Worker(job, 20, other_python)


def test_another_interpreter_runs_the_runtime_beside_the_worker(
    subject: Subject, tmp_path: Path, other_python: Path
) -> None:
    (site,) = other_python.parents[1].glob("**/site-packages")
    # Its packages are this interpreter's, but for backlit: that is installed by an import hook.
    (site / "packages.pth").write_text(str(Path(np.__file__).parents[1]))
    worker = Worker(worker_job(subject, tmp_path, "backlit-cpu"), 20, other_python)
    try:
        assert worker.opened["versions"] == {"onnxruntime": ort.__version__, "backlit": "7"}
        assert worker.ask("run")["seconds"] > 0
    finally:
        worker.close()
    with pytest.raises(Failed, match="'qnn' does not load"):
        Worker(worker_job(subject, tmp_path, "backlit-qnn"), 20, other_python)


def test_openvino_beside_the_cpu_provider(subject: Subject) -> None:
    if not probe("openvino").loads:
        pytest.skip(f"OpenVINO does not load: {probe('openvino').reason}")
    names = ["backlit-openvino", "backlit-openvino-singly", "backlit-cpu"]
    case = bench.run(subject, 2, 2, rounds=2, wanted=names)
    assert result(case, "backlit-cpu").distance == 0  # the others are compared with it
    for name in names[:2]:
        found = result(case, name)
        assert (found.status, found.reason) == ("ok", "")
        assert found.distance is not None
        assert found.distance < 1e-5
        assert found.versions == {
            "backlit": result(case, "backlit-cpu").versions["backlit"],
            "onnxruntime": ort.__version__,
        }


def test_openvino_has_a_file_of_its_own(subject: Subject) -> None:
    assert subject.openvino != subject.backlit
    asked = bench.contenders(subject, 1)["backlit-openvino"]
    assert (asked == "") == probe("openvino").loads


def test_ratios_are_taken_round_by_round() -> None:
    # The machine is ten times slower in every second round; only medians of ratios bear it.
    slow = [1.0, 10.0, 1.0, 10.0, 1.0]
    yardstick = [(9.0, 9.0)] * WARM_UP + [(s, s) for s in slow]
    factors = [2.0, 2.2, 2.1, 2.4, 2.3]
    turns = [(1.0, 1.0)] * WARM_UP
    turns += [(s * f, s * f / 2) for s, f in zip(slow, factors, strict=True)]
    said = {"before_bytes": 100, "running_bytes": 500, "opening_bytes": 300}
    found = measured("x", turns, yardstick, said, batch=4)
    assert found.ratio == pytest.approx(2.2)
    assert (found.low, found.high) == pytest.approx((2.1, 2.3))
    assert found.cpu_ratio == pytest.approx(1.1)
    assert found.seconds == pytest.approx(2.3)
    assert found.first_seconds == 1.0
    assert found.per_image_bytes == 100
    assert len(found.times) == len(slow)
    assert measured("x", turns, None, said, 1).ratio is None
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)


def test_distance() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((2, 1, 4, 4)).astype(np.float32)
    norm = np.linalg.norm
    assert distance_of(wanted, wanted, norm) == 0
    assert distance_of(wanted * np.float32(1.01), wanted, norm) == pytest.approx(0.01, rel=1e-3)
    assert distance_of(wanted[:1], wanted, norm) == math.inf
    assert distance_of(np.full_like(wanted, np.nan), wanted, norm) == math.inf
    scores = np.array([[1.0, -4.0]], np.float32)
    off = {"scores": scores + np.float32(2), "saliency": wanted}
    answer = compared(Result("x", "ok"), off, {"scores": scores, "saliency": wanted})
    assert answer.scores_distance == pytest.approx(0.5)
    assert not answer.agrees


def test_geometric_mean() -> None:
    def one(ratio: float | None) -> Case:
        return Case("m", 1, 1, 1, 1, 8, 8, [Result("x", "ok", ratio=ratio)])

    assert bench_table.geometric_mean([one(2.0), one(4.5)], "x") == pytest.approx(3.0)
    assert bench_table.geometric_mean([one(2.0), one(None)], "x") is None
    assert bench_table.geometric_mean([one(2.0)], "y") is None


@pytest.mark.parametrize("options", [{}, {"input": "float32"}, {"bgr": True, "range": "0-255"}])
def test_a_file_alone_and_every_kind_of_input(options: dict[str, Any], tmp_path: Path) -> None:
    made = from_source(convnet(), tmp_path, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], **options)
    alone = tmp_path / "alone"
    alone.mkdir()
    file = from_file(made.backlit, alone)
    assert file.contract == made.contract
    assert bench.contenders(file, 1)["torch"].startswith("the source is no torch module")
    assert file.classifier is None
    session = ort.InferenceSession(file.forward, providers=["CPUExecutionProvider"])
    assert [v.name for v in session.get_inputs()] == ["image"]
    assert [v.name for v in session.get_outputs()] == ["scores"]
    case = bench.run(made, 2, 1, rounds=1, wanted=["classifier", "backlit-cpu"])
    for name in ("forward", "classifier"):  # the one without the prologue is fed what it takes
        assert result(case, name).status == "ok"
        assert (result(case, name).scores_distance or 0) < 1e-5


def test_command_line(subject: Subject, tmp_path: Path) -> None:
    args = ["bench", str(subject.backlit), "--batch", "1", "--rounds", "2"]
    args += ["--contender", "backlit-cpu", "-o", str(tmp_path / "bench.json")]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert [r["contender"] for r in json.loads(line)["results"]] == ["forward", "backlit-cpu"]
    assert "backlit-cpu" in done.stderr
    whole = json.loads((tmp_path / "bench.json").read_text())
    assert whole["cases"] == [json.loads(line)]
    assert whole["versions"]["onnxruntime"] == ort.__version__
    assert whole["machine"]["cores"] >= 1


NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5))

def local():
    class Local(Net):
        pass
    return Local()
"""


@pytest.mark.slow
def test_any_source_of_export_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benched_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)  # and taken away again
    args = ["bench", f"{tmp_path}/benched_nets.py:Net", "--weights", "random", "--size", "12"]
    args += ["--batch", "1", "--rounds", "1", "--contender"]
    done = CliRunner().invoke(main, [*args, "torch"])
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    forward, eager = json.loads(line)["results"]
    assert (forward["contender"], eager["contender"]) == ("forward", "torch")
    assert eager["agrees"]
    args[1] = "benched_nets:local"
    done = CliRunner().invoke(main, [*args, "torch"])  # its class is known to its function alone
    assert done.exit_code == 1
    assert "one that cannot be pickled" in done.stderr


def test_exit_status_tells_of_failures(subject: Subject) -> None:
    args = ["bench", str(subject.backlit), "--batch", "1", "--rounds", "1", "--contender", "torch"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 1
    assert "the source is no torch module" in done.stderr


@pytest.mark.parametrize(
    "args", [[], ["{file}", "--contender", "tensorflow"], ["{file}", "--weights", "random"],
             ["{file}", "--top", "7"], ["{file}", "--threads", "4096"]],
)  # fmt: skip
def test_usage_errors(args: list[str], subject: Subject) -> None:
    given = [arg.format(file=subject.backlit) for arg in args]
    done = CliRunner().invoke(main, ["bench", *given])
    assert done.exit_code == 2
    assert "fix:" in done.stderr


def test_unknown_contender(subject: Subject) -> None:
    with pytest.raises(OptionError, match="no contender nobody here"):
        bench.run(subject, wanted=["nobody"])
