"""docs/notebook.ipynb runs from top to bottom in a kernel, and its pictures are there."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
RUN = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbformat.validate(book)
nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(book, sys.argv[2] + "/run.ipynb")
"""
JPEG = re.compile(r'src="data:image/jpeg;base64,([^"]+)"')


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The outputs of each cell by its name, by kind; and the folder that it ran in."""
    for package in ("nbclient", "nbformat", "ipykernel", "pandas"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("notebook")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads((folder / "run.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs: dict[str, Any] = {}
    for cell in cells:
        for output in cell.get("outputs", ()):
            assert output["output_type"] != "error", output
            if output["output_type"] in ("execute_result", "display_data"):
                outputs[cell["id"]] = output["data"]
    return outputs, folder


def text(data: str | list[str]) -> str:
    return data if isinstance(data, str) else "".join(data)


def picture(data: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    return image


def colourful(image: Image.Image) -> bool:
    return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 1000


def test_no_outputs_are_committed() -> None:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_a_result_is_shown_as_picture_and_numbers(ran: tuple[dict[str, Any], Path]) -> None:
    shown = ran[0]["saliency"]
    assert text(shown["text/plain"]).startswith("<Saliency ")
    html = text(shown["text/html"])
    (small,) = (picture(one) for one in JPEG.findall(html))
    large = picture(text(shown["image/png"]))
    assert small.size == large.size
    assert colourful(small)
    assert colourful(large)
    assert "<td" in html
    assert "mug" in html


def test_an_overlay_is_a_picture_of_the_photos_size(ran: tuple[dict[str, Any], Path]) -> None:
    for cell, size in (("overlay", (360, 240)), ("box", (300, 300))):
        image = picture(text(ran[0][cell]["image/png"]))
        assert image.size == size
        assert colourful(image)


def test_many_results_are_shown_with_the_error_of_one(ran: tuple[dict[str, Any], Path]) -> None:
    html = text(ran[0]["localize"]["text/html"])
    found = JPEG.findall(html)
    assert len(found) == 2
    assert all(colourful(picture(one)) for one in found)
    assert "absent.jpg does not exist." in html
    assert "check the path." in text(ran[0]["failed"]["text/plain"])


def test_the_other_cells_say_what_they_should(ran: tuple[dict[str, Any], Path]) -> None:
    outputs, folder = ran
    assert text(outputs["resized"]["text/plain"]) == "((2, 96, 96), (2, 240, 360))"
    labels = re.findall(r"'(\w+)'", text(outputs["many"]["text/plain"]))
    assert labels == ["flower"] * 4
    assert "absent.jpg does not exist." in text(outputs["pandas"]["text/html"])
    made = sorted(path.name for path in (folder / "out").iterdir())
    assert made == ["00000_00_arrow.png", "00001_03_flower.png", "results.json"]
