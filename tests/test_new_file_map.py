"""A new map that a file returns is a file and a row, as docs/adding-a-file-map.md says."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from support.package import ROOT, changed, run
from torch import nn

PAGE = (ROOT / "docs" / "adding-a-file-map.md").read_text(encoding="utf-8")
SIDE = 32


class Small(nn.Module):
    """Two convolutions; the scores are not linear in the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 5, 4, 2), nn.Conv2d(6, 8, 3, 1, 1)
        self.head = nn.Linear(8 * 64, 5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.tanh(self.last(torch.relu(self.first(x))))
        return made

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.tanh(features.flatten(1)))
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Small]:
    """The package with the page's map, a classifier as ONNX, a photo."""
    folder = tmp_path_factory.mktemp("hirescam")
    assert changed(PAGE, folder) == [
        "export/maps/hirescam.py", "export/maps/table.py", "runtime/maps/hirescam.py",
    ]  # fmt: skip
    kinds = folder / "backlit" / "runtime" / "maps" / "kinds.py"
    text = kinds.read_text(encoding="utf-8")
    text = text.replace("from .kind import", "from .hirescam import HiResCAM\nfrom .kind import")
    row = '    "gradxinput": GradientTimesInput,\n'
    assert text.count(row) == 1
    kinds.write_text(text.replace(row, row + '    "hirescam": HiResCAM,\n'), encoding="utf-8")
    torch.manual_seed(0)
    model = Small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about this exporter
        torch.onnx.export(
            model, (torch.zeros(2, 3, SIDE, SIDE),), folder / "small.onnx", dynamo=False,
            input_names=["image"], dynamic_axes={"image": {0: "N"}},
        )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder, model


def test_the_file_returns_it(work: tuple[Path, Small]) -> None:
    folder, model = work
    done = run(
        folder, "export", "small.onnx", "-o", "map.onnx", "--maps", "hirescam", "--input",
        "float32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(3).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    index = np.array([[0, -1], [3, -2]])
    session = onnxruntime.InferenceSession(folder / "map.onnx", providers=["CPUExecutionProvider"])
    feed = {"image": images, "class_index": index}
    classes, found = session.run(["class", "hirescam"], feed)
    assert found.shape == (2, 2, 8, 8)
    for number, row in enumerate(classes):
        features = model.features(torch.from_numpy(images[number : number + 1])).detach()
        features.requires_grad_()
        scores = model.scores(features)
        for place, one in enumerate(row):
            (gradient,) = torch.autograd.grad(scores[0, one], features, retain_graph=True)
            wanted = torch.relu((gradient * features).sum(1))[0].detach().numpy()
            np.testing.assert_allclose(found[number, place], wanted, rtol=1e-4, atol=1e-6)


def test_commands_take_it(work: tuple[Path, Small]) -> None:
    folder, _ = work
    done = run(folder, "export", "small.onnx", "-o", "file.onnx", "--maps", "saliency,hirescam")
    assert done.returncode == 0, done.stderr
    told = json.loads(run(folder, "info", "file.onnx", "--json").stdout)["metadata"]
    assert [made["name"] for made in told["maps"]] == ["saliency", "hirescam"]
    done = run(folder, "localize", "file.onnx", "photo.png", "--map", "hirescam", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["map"] == "hirescam"
    assert "hirescam" in run(folder, "saliency", "-h").stdout
    refused = run(folder, "export", "small.onnx", "-o", "no.onnx", "--maps", "lime")
    assert refused.returncode == 2
    assert "hirescam" in refused.stderr
