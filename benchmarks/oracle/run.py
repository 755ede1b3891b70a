"""Gradients against onnx's own operator tests: every case run, or left out with its reason.

For each float input and output of each case, the gradient graph that ``differentiate`` builds is
compared with directional derivatives of the ORIGINAL model: central differences in float64, along
random directions, for two random seeds at once. The engine that differentiates the original must
first reproduce the outputs that onnx stores for the case, and agree with the other engines at the
point, so a wrong kernel is no reference; onnx's evaluator in float64 comes first, then ONNX Runtime
in float64 and float32.

    make oracle                     # the table; exit 1 where a case fails
    python -m benchmarks.oracle.run PATTERN  # only the cases whose name matches
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import re
import sys
import time
import zlib
from typing import Literal

import numpy as np
import onnx
from backlit.export import differentiate
from backlit.export.autodiff.registry import RULES
from backlit.runtime.errors import BacklitError
from onnx import TensorProto, helper
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.oracle.cases import Array, Case, collect, draws, frozen, retyped
from benchmarks.oracle.engines import Reference, close, evaluator, runtime, usable, wide

SEEDS, DIRECTIONS = 2, 2
OLDEST = 7
# Largest difference over the size of what was summed, by the type the gradient is computed in.
TOLERANCE = {"float64": 1e-6, "float32": 2e-4, "float16": 1e-2, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The gradient of one output by one input: what became of it, and why."""

    output: str
    wrt: str
    state: Literal["passed", "failed", "left out"]
    why: str = ""
    reference: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a case: failed if one of its gradients failed, left out if none could run."""

    case: Case
    pairs: tuple[Pair, ...]

    @property
    def state(self) -> Literal["passed", "failed", "left out"]:
        states = {pair.state for pair in self.pairs}
        return "failed" if "failed" in states else "passed" if "passed" in states else "left out"

    def reasons(self) -> list[str]:
        """Why gradients were left out or failed, each reason once."""
        return list(dict.fromkeys(p.why for p in self.pairs if p.state != "passed"))


def examine(case: Case) -> Result:
    """Differentiate a case in every way it allows."""
    wrts, outputs = case.floats(case.inputs), case.floats(case.outputs)

    def nothing(why: str) -> Result:
        return Result(case, (Pair("", "", "left out", why),))

    if case.lists:
        return nothing("takes or returns sequences or optional values")
    opset = max((o.version for o in case.model.opset_import if o.domain == ""), default=99)
    if opset < OLDEST:
        return nothing(f"older than opset {OLDEST}, which Backlit does not read")
    if not wrts:
        return nothing("no float input")
    if not outputs:
        return nothing("no float output")
    references = list(usable(case))
    if not references:
        return nothing("no engine here runs the original and reproduces its stored outputs")
    pairs = []
    kept = case.parameters()
    for output in outputs:
        for wrt in wrts:
            if wrt in kept:
                why = "a parameter of the operator, not a value: held constant"
                pairs.append(Pair(output, wrt, "left out", why))
                continue
            try:
                pairs.append(examine_pair(case, references, output, wrt))
            except BacklitError as error:
                pairs.append(Pair(output, wrt, "left out", reason(error)))
            except Exception as error:  # a crash is a failure of the case, not of the run
                text = f"{type(error).__name__}: {first_line(error)}"
                pairs.append(Pair(output, wrt, "failed", text))
    return Result(case, tuple(pairs))


def examine_pair(case: Case, references: list[Reference], output: str, wrt: str) -> Pair:
    """Compare one gradient, with the other inputs as constants and as inputs.

    Raises:
        BacklitError: Backlit refuses to differentiate this.
    """
    rng = np.random.default_rng(zlib.crc32(f"{case.name}/{output}/{wrt}".encode()))
    seeds = rng.standard_normal((SEEDS, *case.outputs[output].shape))
    directions = rng.standard_normal((DIRECTIONS, *case.inputs[wrt].shape))
    found = slopes(case, references, output, wrt, seeds, directions)
    point = case.inputs if found is None else found[1]
    others = {k: v for k, v in point.items() if k != wrt}
    try:
        made = differentiate(frozen(case.model, others), output=output, wrt=wrt, seed="seed")
    except BacklitError as error:
        if found and "does not depend on" in error.problem and not np.allclose(found[2], 0):
            why = "refused as independent of the input, but the derivative is not zero"
            return Pair(output, wrt, "failed", why)
        raise
    if found is None:
        why = "at every point tried not finite, not smooth, or computed too roughly"
        return Pair(output, wrt, "left out", why)
    reference, values, expected, expected_output = found
    feeds = [(made, {wrt: values[wrt]})]
    if others:
        try:
            live = differentiate(frozen(case.model, {}), output=output, wrt=wrt, seed="seed")
            feeds.append((live, dict(values)))
        except BacklitError:
            pass  # shapes and axes that must be constants
    for made, feed in feeds:
        how = "" if len(feed) == 1 else ", other inputs not constant"
        forward, gradient, dtype = run_gradient(
            case, made, feed, values, output, expected_output, seeds
        )
        if gradient.shape != (SEEDS, *values[wrt].shape):
            return Pair(output, wrt, "failed", f"gradient of shape {gradient.shape}{how}")
        if not np.isfinite(gradient).all():
            return Pair(output, wrt, "failed", f"the gradient holds inf or nan{how}")
        tolerance = max(TOLERANCE[dtype], reference.tolerance)
        if not close(forward, expected_output, tolerance):
            return Pair(output, wrt, "failed", f"the output itself differs{how}")
        for direction, wanted in zip(directions, expected, strict=True):
            parts = (gradient * direction).reshape(SEEDS, -1)
            scale = np.linalg.norm(parts, axis=1) + np.abs(wanted) + 1e-6
            off = float((np.abs(parts.sum(1) - wanted) / scale).max())
            if not off <= tolerance:
                why = f"off by {off:.1e} of its size ({dtype}, against {reference.name}{how})"
                return Pair(output, wrt, "failed", why)
    return Pair(output, wrt, "passed", "", reference.name)


def slopes(
    case: Case, references: list[Reference], output: str, wrt: str, seeds: Array, directions: Array
) -> tuple[Reference, dict[str, Array], Array, Array] | None:
    """Directional derivatives at the first point that is in the domain and not at a kink.

    Returns:
        The reference used, the inputs, the derivatives [DIRECTIONS, SEEDS], the output there; None
        where no point will do.
    """
    for reference in references:
        for values in draws(case, np.random.default_rng(zlib.crc32(case.name.encode()))):
            feed = {k: wide(v) for k, v in values.items()}
            expected, here = [], None
            for direction in directions:
                moved = []
                for sign in (0, 1, -1):
                    shifted = feed[wrt] + sign * reference.step * direction
                    moved.append(wide(reference.run(feed | {wrt: shifted})[output]))
                here, ahead, behind = moved
                shapes = {v.shape for v in moved} | {case.outputs[output].shape}
                if len(shapes) > 1 or not all(np.isfinite(v).all() for v in moved):
                    break
                forth, back = (ahead - here) / reference.step, (here - behind) / reference.step
                size = np.linalg.norm(forth + back) + 1e-3 * np.linalg.norm(here) + 1e-9
                if np.linalg.norm(forth - back) > reference.smooth * size:
                    break
                expected.append((seeds * (forth + back) / 2).reshape(SEEDS, -1).sum(1))
            if len(expected) < len(directions) or here is None:
                continue
            others = [wide(r.run(feed)[output]) for r in references if r is not reference]
            if all(close(other, here, 1e-3) for other in others):  # else one of them is wrong here
                return reference, values, np.array(expected), here
    return None


def run_gradient(
    case: Case, made: onnx.ModelProto, feed: dict[str, Array], values: dict[str, Array],
    output: str, expected: Array, seeds: Array,
) -> tuple[Array, Array, str]:  # fmt: skip
    """Run a gradient graph: in ONNX Runtime as it is, else in onnx's evaluator in float64.

    ONNX Runtime is passed over where it has no kernel, or one that gets the original wrong too.

    Returns:
        The forward output, the gradient [SEEDS, *input's], both float64; the type it ran in.
    """
    ends = [v for v in (*made.graph.input, *made.graph.output) if v.name in ("seed", "gradient")]
    types = [helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in ends]
    coarsest = max((np.dtype(t).name for t in types), key=lambda name: TOLERANCE[name])
    try:
        found, name = runtime(made)(feed | {"seed": seeds}), coarsest
        if not close(found[output], expected, TOLERANCE[name]):
            own = runtime(case.model)(values)[output]
            if not close(own, expected, TOLERANCE[name]):
                raise RuntimeError("its kernel is not what the operator's specification says")
    except Exception as error:  # no kernel, an opset newer than it reads, or a graph that is wrong
        double = {k: wide(v) for k, v in feed.items()} | {"seed": seeds}
        try:
            found = evaluator(retyped(made, TensorProto.DOUBLE))(double)
            name = coarsest if "16" in coarsest else "float64"  # what is folded is of that type
        except Exception as second:
            text = f"{first_line(error)}; onnx's evaluator: {first_line(second)}"
            raise RuntimeError(f"the gradient graph does not run: ONNX Runtime: {text}") from second
    return wide(found[output]), wide(found["gradient"]), name


def first_line(error: Exception) -> str:
    """What an exception says, shortly."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


def reason(error: BacklitError) -> str:
    """A refusal in one line, without the names of this case."""
    first, *rest = error.problem.splitlines()
    kinds = [m[1] for line in rest if (m := re.match(r"\s+(\S+) \(\d+\)", line))]
    if kinds:
        return f"no rule: {', '.join(sorted(kinds))}"
    return re.sub(r"\(?'[^']*'\)?", "…", first)


@dataclasses.dataclass
class Row:
    """The cases of one operator, counted by what became of them."""

    states: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    gradients: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def tabulate(results: list[Result]) -> Table:
    """One row per operator: cases and gradients, and why others were left out."""
    rows: dict[str, Row] = collections.defaultdict(Row)
    for result in results:
        row = rows[result.case.operator]
        row.states[result.state] += 1
        row.gradients += sum(p.state == "passed" for p in result.pairs)
        row.reasons.update(result.reasons())
    table = Table(title="gradients of onnx's own operator tests", title_justify="left")
    table.add_column("operator", no_wrap=True)
    for name in ("cases", "passed", "failed", "left out", "gradients"):
        table.add_column(name, justify="right")
    table.add_column("why left out or failed (cases)", overflow="fold")
    for operator, row in sorted(rows.items()):
        counts = [sum(row.states.values())]
        counts += [row.states[s] for s in ("passed", "failed", "left out")]
        why = "; ".join(f"{text} ({n})" for text, n in row.reasons.most_common())
        style = "red" if row.states["failed"] else None
        numbers = [str(n or "") for n in (*counts, row.gradients)]
        table.add_row(operator, *numbers, why, style=style)
    return table


def main() -> int:
    """Examine the cases; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="part of the name, a regex")
    parser.add_argument("--names", action="store_true", help="also name each case left out")
    options = parser.parse_args()
    started = time.perf_counter()
    cases = [c for c in collect() if re.search(options.pattern, c.name)]
    console, progress = Console(width=160), Console(stderr=True)
    results = [examine(case) for case in track(cases, "oracle", console=progress)]
    console.print(tabulate(results))
    by_state = collections.defaultdict(list)
    for result in results:
        by_state[result.state].append(result)
    if options.names:
        for result in by_state["left out"]:
            console.print(f"left out: {result.case.name}: {'; '.join(result.reasons())}")
    for result in by_state["failed"]:
        for pair in result.pairs:
            if pair.state == "failed":
                where = f"{result.case.name}: d {pair.output} / d {pair.wrt}"
                console.print(f"[red]failed:[/] {where}: {pair.why}")
    passed = by_state["passed"]
    done = {node.op_type for result in passed for node in result.case.model.graph.node}
    gradients = collections.Counter(p.reference for r in passed for p in r.pairs if p.reference)
    for reference, count in gradients.most_common():
        console.print(f"{count} gradients against {reference}")
    missed = sorted(set(RULES) - done)
    console.print(
        f"{len(RULES)} operators have a rule; {len(set(RULES) & done)} of them occur in a case "
        f"that passed{'; not: ' * bool(missed)}{', '.join(missed)}"
    )
    console.print(
        f"{len(cases)} cases in {time.perf_counter() - started:.0f} s: {len(passed)} passed, "
        f"{len(by_state['failed'])} failed, {len(by_state['left out'])} left out"
    )
    return bool(by_state["failed"])


if __name__ == "__main__":
    sys.exit(main())
