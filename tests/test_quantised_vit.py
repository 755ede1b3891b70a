"""QDQ files whose own scores ONNX Runtime's fusions move: the original as it is written counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.export import export
from backlit.export.graph.weights import session
from backlit.export.verify import source
from support import small
from support.real import SHARED


def test_the_file_that_was_brought(tmp_path: Path) -> None:
    file = SHARED / "cases" / "tv_qdq.onnx"
    if not file.exists():
        pytest.skip("not here")
    verified = export(file, tmp_path / "m.onnx").contract.verification
    assert verified is not None
    assert verified.scores_relative == 0
    assert verified.cosine >= 0.9999


@pytest.mark.parametrize("moved", ["optimised", "both"])
def test_scores_that_optimisation_moves(
    moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose optimised run is off by 5 percent: no fault of the file, unless both are."""

    class Off:
        def __init__(self, *args: Any) -> None:
            self.inner = session(*args)

        def get_inputs(self) -> Any:
            return self.inner.get_inputs()

        def run(self, names: Any, feed: Any) -> Any:
            return [1.05 * np.asarray(y) for y in self.inner.run(names, feed)]

    def opened(model: Any, optimise: bool = True, exact_integers: bool = False) -> Any:
        return Off(model, optimise) if optimise or moved == "both" else session(model, False)

    monkeypatch.setattr(source, "session", opened)
    if moved == "optimised":
        verified = export(small.convnet(), tmp_path / "m.onnx").contract.verification
        assert verified is not None
        assert verified.scores_relative < 1e-3
    else:
        with pytest.raises(Exception, match="scores differ by 4"):
            export(small.convnet(), tmp_path / "m.onnx")
