"""A network exported by the package that this process imports, which may have a fault.

    python -m benchmarks.planted.trial NETWORK FOLDER

Writes FOLDER/said.json, what verification says, and FOLDER/outputs.npz, what the file returns that
is written without it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from backlit.export import export
from backlit.runtime.errors import VerificationError

from benchmarks.planted.networks import NETWORKS, Network

IMAGES = 3


def refused(network: Network, path: Path) -> str:
    """Why verification refuses the file (exit 3); empty: it does not."""
    try:
        export(network.model(), path, **network.options)
    except VerificationError as error:
        return error.problem
    return ""


def outputs(network: Network, path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """What the file returns for seeded images and classes; two files are compared by it."""
    export(network.model(), path, verify=False, **network.options)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng, (image, _) = np.random.default_rng(1), session.get_inputs()
    shape = (IMAGES, *image.shape[1:])
    pixels = rng.integers(0, 256, shape) if "uint8" in image.type else rng.standard_normal(shape)
    kind = np.uint8 if "uint8" in image.type else np.float32
    feed = {"image": pixels.astype(kind), "class_index": np.array([[-1, 3], [0, -2], [-5, 1]])}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    network, said = NETWORKS[name], {"refused": "", "failed": ""}
    try:
        found: Any = outputs(network, folder / "file.onnx")
        np.savez(folder / "outputs.npz", **found)
        said["refused"] = refused(network, folder / "verified.onnx")
    except Exception as error:  # whatever the fault raises
        said["failed"] = f"{type(error).__name__}: {error}"
    (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()
