"""The GPU benchmark, as far as no GPU is needed: the same code on the CPU provider, and its path
through CUDA on the stand-in for the CUDA libraries, whose numbers are garbage and must be refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from backlit.export.bench.process import Failed
from backlit.runtime.backend.probing import probe

from benchmarks.gpu import bench as gpu_bench
from benchmarks.gpu import case as gpu_case
from benchmarks.gpu import files as gpu_files
from benchmarks.gpu import page as gpu_page
from benchmarks.gpu import peers as gpu_peers
from benchmarks.gpu import profiling as gpu_profile
from benchmarks.gpu.case import OutOfTime, Pool
from benchmarks.gpu.record import Record
from benchmarks.gpu.result import Figure, Key, Result, figures
from benchmarks.gpu.worker import Job

PEERS = "benchmarks.gpu.peers"
MODEL = f"{PEERS}:perceptron"
COMMON = ["--only", MODEL, "--size", str(gpu_peers.SIZE), "--rounds", "2", "--threads", "1"]
CONTENDERS = ["--contender", "backlit-*", "--contender", "torch"]


def silent(text: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module", autouse=True)
def _sources() -> Iterator[None]:
    """Results depend on the sources; here nobody measures them again because of an edit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_files, "sources", lambda *_: "these")
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smallest network there is."""
    folder = tmp_path_factory.mktemp("files") / f"{PEERS}.perceptron"
    threads = torch.get_num_threads()
    gpu_files.make(MODEL, folder, gpu_files.stamp(gpu_peers.SIZE, "portable"))
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def out(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole benchmark on the CPU provider."""
    folder = tmp_path_factory.mktemp("gpu")
    shutil.copytree(files, folder / "files" / files.name)
    assert command(folder, *CONTENDERS) == 0
    return folder


def command(folder: Path, *more: str, device: str = "cpu") -> int:
    given = ["--device", device, *COMMON, "--batch", "3", "--k", "2", "--precision", "fp32"]
    return gpu_bench.main([*given, "--out", str(folder), *more])


def kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gpu.json").read_text())
    return found


def test_the_whole_command(out: Path) -> None:
    (case,) = kept(out)["cases"]
    assert case["case"] == {"model": MODEL, "precision": "fp32", "batch": 3, "k": 2}
    assert (case["rounds"], case["tf32"], case["machine"]["gpu"]) == (2, 1, None)
    results = {line["contender"]: Result.read(line) for line in case["results"]}
    assert list(results) == ["forward-cpu", "backlit-cpu", "torch-forward", "torch"]
    for name, yardstick in (("backlit-cpu", "forward-cpu"), ("torch", "torch-forward")):
        made = results[name]
        assert (made.status, made.reason, made.yardstick) == ("ok", "", yardstick)
        # torch computes the maps by itself; the reference is the CPU provider's.
        assert made.distance is not None
        assert made.distance < 1e-5
        for mode in ("host", "device"):
            figure = made.figures[mode]
            assert 0 < figure.low <= figure.seconds <= figure.high
            assert figure.ratio is not None
            assert figure.ratio_low is not None
            assert figure.ratio_high is not None
            assert 0 < figure.ratio_low <= figure.ratio <= figure.ratio_high
    assert results["forward-cpu"].figures["host"].ratio is None
    assert results["backlit-cpu"].versions["onnxruntime"] == ort.__version__


def test_parity_is_measured_against_the_cpu_and_float64(out: Path) -> None:
    lines = kept(out)["parity"][MODEL]
    assert [line["precision"] for line in lines] == ["fp32", "fp16"]
    assert all(line["good"] for line in lines)
    assert lines[0]["map"] == lines[0]["scores"] == 0  # the same provider
    assert 0 < lines[0]["own"] < 1e-6
    assert 0 < lines[1]["map"] < 1e-2


def test_the_page(out: Path) -> None:
    text = (out / "gpu.md").read_text()
    assert "**No GPU**: a rehearsal on the CPU provider." in text
    assert "TF32 in float32 products and convolutions: on, for everyone." in text
    row = re.search(rf"^\| {MODEL} \| 3 \| (\d+) \| (\d+) \((.*)\) \| \d+ \| .*\|$", text, re.M)
    assert row is not None
    (case,) = kept(out)["cases"]
    figure = Result.read(case["results"][1]).figures["device"]
    assert row[2] == f"{3 / figure.seconds:.0f}"
    assert row[3] == f"{figure.ratio:.2f}"
    assert f"| {MODEL} | backlit-cpu | fp16 |" in text
    assert f"## Where the time goes: {PEERS}.perceptron-fp32-batch3-k2, backlit-cpu" in text


def test_the_profile_names_operators_of_the_file(out: Path) -> None:
    profile = kept(out)["profile"]
    whole = {name: nodes for name, _, nodes, _ in profile["backlit"]["operators"]}
    plain = {name: nodes for name, _, nodes, _ in profile["forward"]["operators"]}
    assert whole["Gemm"] + whole.get("MatMul", 0) > plain["Gemm"]
    assert "ReduceMax" in whole
    for one in (profile["backlit"], profile["forward"]):
        assert one["seconds"] == pytest.approx(sum(seconds for *_, seconds in one["operators"]))
    assert "no CUDA" in profile["kernels_reason"]
    assert not list(out.glob("**/trace*"))


def test_what_is_done_is_not_run_again(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(out, folder)
    before = kept(folder)
    asked: list[list[str]] = []

    def measure(pool: Any, place: Path, key: Key, contenders: Any, *_: Any) -> list[Result]:
        asked.append(list(contenders))
        return [Result(name, "failed", "not for real") for name in contenders]

    monkeypatch.setattr(gpu_case, "measure", measure)
    assert command(folder, *CONTENDERS) == 0
    assert asked == []
    assert kept(folder) == before
    assert command(folder, "--contender", "torch-forward", "--contender", "captum") == 1
    assert asked == [["torch-forward", "captum"]]
    names = [result["contender"] for result in kept(folder)["cases"][0]["results"]]
    assert sorted(names) == ["backlit-cpu", "captum", "forward-cpu", "torch", "torch-forward"]
    assert command(folder, "--contender", "backlit-cpu", "--tf32", "0") == 1  # another measurement
    assert asked[1:] == [["forward-cpu", "backlit-cpu"]]
    assert len(kept(folder)["cases"][0]["results"]) == 2
    monkeypatch.setattr(gpu_bench, "digest", lambda: "other sources")
    good = {"good": True, "reason": "", "contender": "x", "precision": "fp32"}
    monkeypatch.setattr(gpu_case, "parity", lambda *_: [good])
    assert command(folder, "--contender", "backlit-cpu", "--tf32", "0", "--no-profile") == 1
    assert len(asked) == 3


def test_a_run_that_is_out_of_time_keeps_what_is_done(
    out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], files: Path
) -> None:
    folder = tmp_path / "short"
    assert command(folder, "--minutes", "0", "--files", str(files.parent)) == 1  # no page
    assert "out of time: the same command goes on" in capfd.readouterr().err
    assert not list(folder.glob("cpu/*-k2.json"))
    assert not (folder / "gpu.md").exists()
    over = Pool(deadline=time.monotonic() - 1)
    job, _ = gpu_case.jobs("fp32", ["cpu"], "cpu", True, 1)["backlit-cpu"]
    with pytest.raises(OutOfTime):
        over.ask(job, do="open")


def garbled(files: Path, folder: Path, *names: str) -> Path:
    """The prepared files with other maps as the reference."""
    shutil.copytree(files, folder / files.name)
    file = folder / files.name / "reference.npz"
    with np.load(file) as arrays:
        values = dict(arrays)
    for name in names:
        values[name] = values[name][::-1]
    np.savez(file, **values)
    return folder


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["saliency", "exact_saliency"], "maps are off by"),
        (["scores", "exact_scores"], "maps are off by"),
        (["saliency"], "the CPU provider's own maps are off from float64 by"),
    ],
)
def test_wrong_maps_get_no_speeds(
    files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, names: list[str], why: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(gpu_case, "measure", lambda *_: pytest.fail("timed"))
    folder = tmp_path / "out"
    assert command(folder, "--files", str(garbled(files, tmp_path / "files", *names))) == 3
    said = capfd.readouterr().err
    assert f"REFUSED {MODEL}: backlit-cpu, fp32: {why}" in said
    assert "gpu.md is not written: there are no speeds of right maps" in said
    assert not list(folder.glob("GPU.*"))
    assert not list(folder.glob("**/*-k2.json"))


def test_speeds_measured_before_the_maps_went_wrong_are_not_written(
    out: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(out / "cpu", folder / "cpu")
    record = Record(folder / "cpu")
    parity = record.read(f"parity-{PEERS}.perceptron")
    parity["lines"][0] |= {"good": False, "map": None}
    record.write(f"parity-{PEERS}.perceptron", parity)
    assert gpu_bench.main(["--device", "cpu", "--write", "--out", str(folder)]) == 1
    assert not (folder / "gpu.md").exists()
    assert "**refused**: no speeds" in "\n".join(gpu_page.parity_table({"m": parity["lines"]}))


def contenders(*names: str) -> dict[str, tuple[Job, str | None]]:
    every = gpu_case.jobs("fp32", ["cpu"], "cpu", True, 1)
    found = {"forward-cpu": every["forward-cpu"]}
    for name in names:
        kind = f"{PEERS}:{name}"
        found[name] = Job(name, kind, "cpu", "fp32", False, True), "forward-cpu"
    return found


def test_wrong_and_dying_contenders_show(files: Path) -> None:
    pool = Pool(timeout=60)
    try:
        key = Key(MODEL, "fp32", 3, 1)
        some = contenders("wrong", "dies")
        found = {r.contender: r for r in gpu_case.measure(pool, files, key, some, 2, silent)}
    finally:
        pool.close()
    assert (found["dies"].status, found["dies"].reason) == (
        "failed", "ended by signal 6: last words"
    )  # fmt: skip
    assert found["wrong"].status == "ok"
    assert not found["wrong"].agrees
    line = {
        "case": dataclasses.asdict(key), "results": [r.line() for r in found.values()],
        "sources": "", "tf32": 1, "size": 12,
        "machine": dict.fromkeys(("cpu", "cores", "system", "python", "date")),
    }  # fmt: skip
    text = gpu_page.page(gpu_page.Kept([json.loads(json.dumps(line))]), {})
    assert "**WRONG**" in text
    assert f"{PEERS}:perceptron, batch 3, dies: ended by signal 6: last words" in text


def test_one_that_takes_too_long_is_ended(files: Path) -> None:
    pool, (job, _) = Pool(timeout=60), contenders("sleeps")["sleeps"]
    case = {"folder": str(files), "batch": 1, "k": 1}
    try:
        assert pool.ask(job, do="close") == {}  # it runs
        pool._timeout = 0.2
        with pytest.raises(Failed, match="not done within 0 s"):
            pool.ask(job, do="open", case=case, mode="host")
        pool._timeout = 60
        assert pool.ask(job, do="close") == {}  # another process
    finally:
        pool.close()


def test_a_classifier_that_cannot_be_exported_is_told_of(files: Path, tmp_path: Path) -> None:
    names, said = [MODEL, f"{PEERS}:nobody"], []
    folder = tmp_path / "files"
    shutil.copytree(files, folder / files.name)
    found = gpu_files.prepare(names, folder, gpu_peers.SIZE, "portable", said.append)
    assert found == {MODEL: folder / files.name}
    assert said[0] == f"exporting {PEERS}:nobody"
    assert said[1].startswith(f"FAILED: {PEERS}:nobody cannot be exported: AttributeError: ")


def test_ratios_are_taken_round_by_round() -> None:
    # The machine is ten times slower in every second round; only medians of ratios bear it.
    slow = [1.0, 10.0, 1.0, 10.0, 1.0]
    mine = {"device": [s * f for s, f in zip(slow, [2.0, 2.2, 2.1, 2.4, 2.3], strict=True)]}
    figure = figures(mine, {"device": slow})["device"]
    assert figure.ratio == pytest.approx(2.2)
    assert (figure.ratio_low, figure.ratio_high) == pytest.approx((2.1, 2.3))
    assert figure.seconds == pytest.approx(2.3)
    assert figures(mine, None)["device"].ratio is None


def test_the_summary_says_what_is_asked() -> None:
    def one(name: str, seconds: float, ratio: float | None) -> Result:
        figure = Figure(seconds, seconds, seconds, ratio, ratio, ratio)
        return Result(name, "ok", figures={"device": figure, "host": figure})

    some = [
        one("backlit-cuda", 0.004, 2.0), one("backlit-cuda-graph", 0.002, 2.5),
        one("torch", 0.016, 3.0), one("torch-half", 0.008, 3.0), one("torch-compile", 0.003, 1.5),
    ]  # fmt: skip
    kept = gpu_page.Kept([
        {"case": dataclasses.asdict(Key("net", "fp16", 1, 1)), "results": [r.line() for r in some]}
    ])  # fmt: skip
    first, *rest = gpu_page.summary(kept)
    assert first == (
        "fp16, batch 1, K 1: 2.50 forward passes (geometric mean of 1, the better of Backlit's "
        "forms counting); 1.50 times as fast as torch-compile; 4.00 times as fast as torch."
    )
    assert rest[0] == "net, fp16, batch 1, device: CUDA graphs take 4.00 ms to 2.00 ms."
    worst = kept.worst()
    assert worst is not None
    assert worst[1].contender == "backlit-cuda-graph"  # the faster one, not the lower ratio


def test_json_holds_infinity() -> None:
    result = Result("x", "ok", distance=math.inf, figures=figures({"host": [1.0, 2.0]}, None))
    text = json.dumps(result.line(), allow_nan=False)
    assert Result.read(json.loads(text)) == result
    assert not json.loads(text)["agrees"]


def test_a_profile_is_summed_over_its_last_runs() -> None:
    def event(node: str, operator: str, microseconds: float) -> dict[str, Any]:
        args = {"op_name": operator, "provider": "CPUExecutionProvider"}
        return {"cat": "Node", "name": f"{node}_kernel_time", "dur": microseconds, "args": args}

    runs = [[event("a", "Conv", t), event("b", "Conv", 2 * t), event("c", "Mul", 1)]
            for t in (900, 10, 20)]  # fmt: skip
    other = [{"cat": "Session", "name": "model_run", "dur": 5, "args": {}}]
    found = gpu_profile.summed([*other, *(e for run in runs for e in run)], 2)
    names = [(name, nodes) for name, _, nodes, _ in found["operators"]]
    assert names == [("Conv", 2), ("Mul", 1)]
    assert found["operators"][0][3] == pytest.approx(45e-6)
    assert found["seconds"] == pytest.approx(46e-6)
    assert found["nodes"][0][:2] == ["b", "Conv"]


def test_cases_come_in_the_order_of_what_matters() -> None:
    found = gpu_bench.keys(gpu_bench.parsed([]))
    assert found[0] == Key("resnet50", "fp16", 64, 1)
    assert len(found) == len(set(found)) == 6 * 2 * 4
    assert {(key.batch, key.k) for key in found} == {(1, 1), (8, 1), (64, 1), (8, 5)}
    some = gpu_bench.keys(gpu_bench.parsed(["--only", "vit*,squeezenet1_1", "--batch", "1"]))
    assert {key.model for key in some} == {"vit_b_16", "squeezenet1_1"}
    every = gpu_case.jobs("fp16", ["cuda"], "cuda", True, 1)
    assert every["backlit-cuda-graph"][1] == "forward-cuda-graph"
    assert every["torch-compile"][1] == "torch-forward"
    assert every["backlit-cuda-graph"][0].options == {
        "cuda": {"use_tf32": "1", "enable_cuda_graph": "1"}
    }
    assert set(every) >= {"torch", "torch-half", "captum", "forward-cuda", "backlit-cuda"}


def test_backlit_need_not_be_installed(tmp_path: Path) -> None:
    """As on a GPU host without a package index: the packages it needs, and the checkout."""
    site = Path(ort.__file__).parents[1]
    code = (  # -S: no .pth files, through which the checkout is installed here
        f"import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(site)!r}]\n"
        "import importlib.metadata, importlib.util, pathlib\n"
        "from benchmarks.gpu import files\n"
        "assert importlib.util.find_spec('backlit.export') is None, 'it is there'\n"
        f"files.reachable(pathlib.Path({str(tmp_path / 'site')!r}))\n"
        "import backlit.export, backlit.runtime.session, backlit.models\n"
        "print(backlit.export.__file__, importlib.metadata.version('backlit'))\n"
    )
    command = [sys.executable, "-S", "-c", code]
    path = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, version = done.stdout.split()
    assert Path(file) == tmp_path / "site" / "backlit" / "export" / "__init__.py"
    assert (tmp_path / "site" / f"backlit-{version}.dist-info" / "METADATA").is_file()


def test_without_a_gpu_it_says_so_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if probe("cuda").loads:
        pytest.skip("there is a GPU")
    page = tmp_path / "gpu.md"
    assert command(tmp_path, "--page", str(page), device="cuda") == 1
    said = capfd.readouterr().err
    assert "FAILED: ProviderError: the execution provider 'cuda' does not load" in said
    assert not page.exists()
    assert not (tmp_path / "files").exists()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which ONNX Runtime's CUDA provider loads: its kernels do nothing."""
    default = Path(__file__).parents[2] / "shared"
    source = Path(os.environ.get("BACKLIT_SHARED", default)) / "gpu" / "fakecuda"
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include" / "cuda_runtime_api.h"
    for needed in (source, provider, cuda, shutil.which("gcc")):
        if needed is None or not Path(needed).exists():
            pytest.skip("no stand-in for CUDA: needs gcc, CUDA's headers and onnxruntime-gpu")
    folder = tmp_path_factory.mktemp("stand-in") / "fakecuda"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("lib"))
    build = [sys.executable, "build.py", str(provider)]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    # cuDNN is loaded when it is first needed; it, too, does nothing.
    names = sorted(set(re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", provider.read_bytes())))
    lines = ["static char handle;"]
    for name in map(bytes.decode, names):
        creates = name.startswith("cudnnCreate")
        version = 91000 if name == "cudnnGetVersion" else 0
        lines.append(
            f"long {name}(void **p) {{ *p = &handle; return 0; }}" if creates
            else f"long {name}(void) {{ return {version}; }}"
        )  # fmt: skip
    (folder / "cudnn.c").write_text("\n".join(lines))
    for name in ("libcudnn.so", "libcudnn.so.9"):
        build = ["gcc", "-shared", "-fPIC", "-w", "-o", f"lib/{name}", "cudnn.c"]
        subprocess.run(build, cwd=folder, check=True)
    return {"LD_LIBRARY_PATH": str(folder / "lib")}


def on_stand_in(precision: str) -> dict[str, tuple[Job, str | None]]:
    every = gpu_case.jobs(precision, ["cuda"], "cuda", True, 1)
    return {
        name: (dataclasses.replace(job, kind=f"{PEERS}:cuda_{job.kind}"), yardstick)
        for name, (job, yardstick) in every.items() if job.kind in ("forward", "backlit")
    }  # fmt: skip


def test_the_path_through_cuda(
    stand_in: dict[str, str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions with CUDA's options, binding on the device, graphs on and off, turns, answers."""
    monkeypatch.setenv("LD_LIBRARY_PATH", stand_in["LD_LIBRARY_PATH"])
    pool = Pool(timeout=60)
    try:
        key = Key(MODEL, "fp16", 8, 2)
        found = gpu_case.measure(pool, files, key, on_stand_in("fp16"), 2, silent)
    finally:
        pool.close()
    names = ["forward-cuda", "backlit-cuda", "forward-cuda-graph", "backlit-cuda-graph"]
    assert [(r.contender, r.status, r.reason) for r in found] == [(n, "ok", "") for n in names]
    for result in found:
        assert set(result.figures) == {"host", "device"}
        assert (result.figures["device"].ratio is None) == ("forward" in result.contender)
    assert not any(r.agrees for r in found if r.contender.startswith("backlit"))  # garbage


def test_garbage_from_cuda_is_refused(
    stand_in: dict[str, str], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LD_LIBRARY_PATH", stand_in["LD_LIBRARY_PATH"])
    monkeypatch.setattr(gpu_bench, "all_of", lambda args, precision: on_stand_in(precision))
    page = tmp_path / "gpu.md"
    more = ["--files", str(files.parent), "--page", str(page)]
    assert command(tmp_path / "out", *more, device="cuda") == 3
    said = capfd.readouterr().err
    assert said.count("REFUSED") == 4  # both precisions, graphs on and off
    assert not list(tmp_path.glob("GPU.*"))
    assert not list(tmp_path.glob("out/*/*-k2.json"))
