"""What a file would cost on a GPU: the model beside what was measured, and its arithmetic.

benchmarks/gpu/h100.json holds the launches of three files and what their largest kernels took on an
H100. The model saw them: these tests hold the fit, and that it tells apart what costs most.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from backlit.export import export
from backlit.export.check.cost.cost import cost, report, shaped
from backlit.export.check.cost.kinds import KINDS, LAUNCH
from backlit.export.check.cost.launches import launches
from backlit.runtime.cli import main
from click.testing import CliRunner
from support import fakecuda, small
from support.fakecuda import cuda_stand_in  # noqa: F401  a fixture

from benchmarks.gpu.cost import modelled, recorded

NETWORKS = recorded()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_is_within_a_quarter_of_what_was_measured(name: str) -> None:
    network = NETWORKS[name]
    found = modelled(network["launches"], network["batch"])
    assert 1e3 * found.seconds == pytest.approx(network["ms"], rel=0.25)
    assert found.seconds == pytest.approx(sum(share.seconds for share in found.shares))
    assert 0 < found.floor < found.seconds / 5


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_ranks_the_kinds_of_kernels_as_measured(name: str) -> None:
    network = NETWORKS[name]
    found = modelled(network["launches"], network["batch"])
    ms = {share.kind: 1e3 * share.seconds for share in found.shares}
    seen = network["kinds"]
    for kind, measured in seen.items():  # measured are the 22 largest kernels: at least so much
        assert measured > 1 or ms[kind] < 1, kind
        assert measured < 1 or measured / 1.25 < ms[kind] < 3 * measured, kind
    ranks = [np.argsort(np.argsort([-each[kind] for kind in seen])) for each in (ms, seen)]
    assert np.corrcoef(*ranks)[0, 1] > 0.85


def test_a_kernel_takes_the_longest_of_its_bounds_after_a_launch() -> None:
    product, pad = KINDS["product"], KINDS["pad"]
    assert product.seconds(0, 0, 0, 2) == LAUNCH
    assert product.seconds(product.bandwidth, 1, 1, 2) == pytest.approx(1 + LAUNCH)
    assert product.seconds(1, 1, product.half, 2) == pytest.approx(1 + LAUNCH)
    assert product.seconds(1, 1, product.single, 4) == pytest.approx(1 + LAUNCH)
    assert pad.seconds(1, 2 * pad.elements, 0, 2) == pytest.approx(2 + LAUNCH)


NETWORK = """<ir_version: 9, opset_import: ["" : 20]>
net (float[N, 8, 6, 6] x) => (float[N, K] y)
<float[16, 8, 3, 3] w, float[16] b, float[16, 5] m, float[1] one, int64[8] pads, int64[8] wide>
{
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    p = Pad (r, pads)
    q = Pad (p, wide)
    s = HardSigmoid <alpha = 3e38, beta = -1.0> (q)
    twice = Add (one, one)
    z = Mul (s, twice)
    h = Cast <to = 10> (z)
    f = Cast <to = 1> (h)
    g = GlobalAveragePool (f)
    v = Flatten (g)
    u = MatMul (v, m)
    y = Add (u, one)
}"""


def made(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(NETWORK)
    values = {
        "w": np.ones((16, 8, 3, 3)), "b": np.ones(16), "m": np.ones((16, 5)), "one": np.ones(1),
        "pads": np.array([0, 0, 1, 0, 0, 0, 1, 0]), "wide": np.array([0, 0, 0, 0, 1, 0, 0, 0]),
    }  # fmt: skip
    del model.graph.initializer[:]
    for name, value in values.items():
        value = value if value.dtype == np.int64 else value.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_bytes_and_operations_are_those_of_the_shapes(tmp_path: Path) -> None:
    graph, _ = shaped(made(tmp_path), 4)
    found = {(each.operator, each.kind): each for each in launches(graph)}
    image, map_ = 4 * 8 * 36, 4 * 16 * 36
    conv = found["Conv", "product"]
    assert conv.operations == 2 * map_ * 8 * 9
    assert conv.moved == 4 * (image + map_ + 16 * 8 * 9)
    assert found["Conv", "bias"].moved == 2 * 4 * map_
    assert found["Relu", "elementwise"].moved == 2 * 4 * map_
    assert found["Pad", "move"].elements == 4 * 16 * 48  # height and width alone: a fast kernel
    assert found["Pad", "pad"].elements == 5 * 16 * 48
    assert ("HardSigmoid", "mask") in found
    assert found["Cast", "cast"].width == 2  # the last of two
    assert found["MatMul", "product"].operations == 2 * 5 * 5 * 16
    # Add of constants, Flatten: nothing is launched for these.
    assert sum(each.operator == "Add" for each in launches(graph)) == 1
    assert not any(each.operator == "Flatten" for each in launches(graph))


def test_the_report_adds_up(tmp_path: Path) -> None:
    graph, optimised = shaped(made(tmp_path), 4)
    each = launches(graph)
    found = report(each, 4, optimised)
    assert sum(share.kernels for share in found.shares) == len(each)
    assert sum(share.moved for share in found.shares) == sum(launch.moved for launch in each)
    seconds = [share.seconds for share in found.shares]
    assert seconds == sorted(seconds, reverse=True)
    (layout,) = [share for share in found.shares if share.kind == "layout"]
    assert layout.slowest == (next(e.node for e in each if e.kind == "layout"),)


def test_a_batch_of_any_size_is_costed(tmp_path: Path) -> None:
    path = tmp_path / "net.backlit.onnx"
    export(small.convnet(), path, verify=False)
    few, many = cost(path, batch=1), cost(path, batch=64)
    assert (few.batch, many.batch) == (1, 64)
    moved = [sum(share.moved for share in found.shares) for found in (few, many)]
    assert 30 < moved[1] / moved[0] <= 64  # all but the weights


def test_the_command_explains_where_the_time_goes(tmp_path: Path) -> None:
    path = tmp_path / "net.backlit.onnx"
    export(small.convnet(), path, verify=False)
    done = CliRunner().invoke(main, ["check", str(path), "--cost", "--max-images", "8"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)["cost"]
    assert said["batch"] == 8
    assert {share["kind"] for share in said["shares"]} >= {"product", "elementwise", "bias"}
    for share in said["shares"]:
        words = KINDS[share["kind"]].what.split()
        assert words[0] in done.stderr
    assert "an engine that joined everything" in " ".join(done.stderr.split())
    alone = CliRunner().invoke(main, ["check", str(path), "--max-images", "8"])
    assert alone.exit_code == 2


ASKED = """
import dataclasses, json, sys
from backlit.export.check.cost.cost import cost
print(json.dumps(dataclasses.asdict(cost(sys.argv[1], batch=16))))
"""


def test_the_cuda_providers_own_graph_costs_about_as_much(
    tmp_path: Path,
    cuda_stand_in: Path,  # noqa: F811
) -> None:
    path = tmp_path / "net.backlit.onnx"
    export(small.convnet(), path, verify=False)
    done = fakecuda.run(cuda_stand_in, ["-c", ASKED, path])
    assert done.returncode == 0, done.stderr
    said, written = json.loads(done.stdout), cost(path, batch=16)
    assert said["optimised"] is True
    assert written.optimised is False
    assert said["seconds"] == pytest.approx(written.seconds, rel=0.2)
