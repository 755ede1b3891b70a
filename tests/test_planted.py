"""The table of planted faults (``make planted``) fits the code; what they do takes minutes."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx
import pytest

from benchmarks import ROOT
from benchmarks.planted.faults import FAULTS, Fault
from benchmarks.planted.networks import NETWORKS
from benchmarks.planted.run import Trial, markdown, plant


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_still_one(fault: Fault) -> None:
    """Its text stands there once, and the file is Python with it and without."""
    before = (ROOT / fault.file).read_text(encoding="utf-8")
    after = plant(fault, ROOT)
    assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    assert fault.network in NETWORKS
    files = [Path(ROOT, name) for name in fault.tests if name.startswith("tests/")]
    assert files
    assert all(file.is_file() for file in files)


def test_every_module_of_rules_has_a_fault() -> None:
    modules = {f"export/rules/{file.name}" for file in (ROOT / "export/rules").glob("[!_]*.py")}
    assert modules <= {fault.file for fault in FAULTS}
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    assert set(NETWORKS) == {fault.network for fault in FAULTS}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_valid(name: str) -> None:
    onnx.checker.check_model(NETWORKS[name].model(), full_check=False)


def test_a_text_that_is_gone_is_an_error() -> None:
    gone = Fault("gone", "export/wrap.py", "no such text", "", "pixels", ("tests/test_export.py",))
    with pytest.raises(ValueError, match="gone"):
        plant(gone, ROOT)


def test_the_table_says_what_slips_through() -> None:
    fault = FAULTS[0]
    slipped = Trial(fault, ("gradient",), "", "", "")
    caught = Trial(fault, ("gradient",), "cosine", "", "tests/test_a.py::test_b")
    harmless = Trial(fault, (), "", "", "tests/test_a.py::test_b")
    assert (slipped.slips, caught.slips, harmless.slips) == (True, False, False)
    page = markdown([slipped, caught, harmless])
    assert page.count("**passes**") == 2
    assert "2 of 3 faults change an output" in page
    assert "refuses 1 of them" in page
    assert "Tests catch 2 of 3" in page
