"""The model of an H100 on files, and beside what was measured there.

    python -m benchmarks.gpu.cost FILE... [--batch 64]
    python -m benchmarks.gpu.cost --measured
    python -m benchmarks.gpu.cost --record NAME=FILE...

The first prints a line per kind of kernel, as `backlit check FILE --cost` does for people. The
second compares the model with the kernels that were measured (h100.json). The third writes the
launches of the files of those networks there: do it when classes of kernels change, not the files.
No GPU is needed; with a stand-in for CUDA's libraries (tests/support/fakecuda.py) on
LD_LIBRARY_PATH the graph is the one that the CUDA provider makes of the file.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from backlit.export.check.cost.cost import CostReport, cost, report, shaped
from backlit.export.check.cost.launches import Launch, launches

RECORDED = Path(__file__).with_name("h100.json")


def recorded() -> dict[str, dict[str, Any]]:
    """What was measured on the H100, per network: see h100.json."""
    return dict(json.loads(RECORDED.read_text(encoding="utf-8")))


def modelled(rows: list[list[Any]], batch: int) -> CostReport:
    """The model's report of recorded launches."""
    fields = [field.name for field in dataclasses.fields(Launch)][1:]
    found = [
        Launch("", **dict(zip(fields, row, strict=True))) for *row, count in rows
        for _ in range(count)
    ]  # fmt: skip
    return report(found, batch, optimised=True)


def show(name: str, found: CostReport) -> None:
    """A line per kind."""
    total, kernels = 1e3 * found.seconds, sum(s.kernels for s in found.shares)
    print(
        f"{name}: {total:.2f} ms, floor {1e3 * found.floor:.2f} ms, {kernels} kernels"
        f"{'' if found.optimised else ' (as written)'}"
    )
    for share in found.shares:
        print(
            f"  {share.kind:16} {share.kernels:5} {share.moved / 1e9:8.2f} GB "
            f"{share.operations / 1e12:7.3f} TFLOP {1e3 * share.seconds:8.2f} ms"
        )


def compare() -> None:
    """The model beside what was measured, by kind; measured are the largest kernels alone."""
    for name, network in recorded().items():
        found = modelled(network["launches"], network["batch"])
        ratio = 1e3 * found.seconds / network["ms"]
        print(f"{name}: model {1e3 * found.seconds:.2f} ms, measured {network['ms']} ({ratio:.2f})")
        for share in found.shares:
            seen = network["kinds"].get(share.kind)
            beside = f"{seen:8.2f}" if seen is not None else "       -"
            print(f"  {share.kind:16} {1e3 * share.seconds:8.2f} {beside}")


def record(named: list[str]) -> None:
    """Write the launches of files into h100.json."""
    networks = recorded()
    for item in named:
        name, _, file = item.partition("=")
        graph, optimised = shaped(Path(file), networks[name]["batch"])
        if not optimised:
            raise SystemExit("the CUDA provider does not load: put the stand-in on the path")
        rows = collections.Counter(dataclasses.astuple(each)[1:] for each in launches(graph))
        networks[name]["launches"] = [[*row, count] for row, count in rows.items()]
    lines = [f"{json.dumps(name)}: {_lines(network)}" for name, network in networks.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _lines(network: dict[str, Any]) -> str:
    """A network as JSON, a line per launch."""
    about = json.dumps({key: value for key, value in network.items() if key != "launches"})
    rows = ",\n".join(json.dumps(row) for row in network["launches"])
    return f'{about[:-1]}, "launches": [\n{rows}\n]}}'


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--measured", action="store_true")
    parser.add_argument("--record", nargs="+", default=[], metavar="NAME=FILE")
    given = parser.parse_args()
    if given.record:
        record(given.record)
    for file in given.files:
        show(str(file), cost(file, batch=given.batch))
        sys.stdout.flush()
    if given.measured:
        compare()


if __name__ == "__main__":
    main()
