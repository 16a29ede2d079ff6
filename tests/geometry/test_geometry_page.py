"""The snippets of docs/geometry.md run, one after the other."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_snippets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "geometry.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["vertices"].grad.any() and torch.isfinite(names["vertices"].grad).all()
    assert names["cow"].mesh.faces.shape == names["mesh"].faces.shape
    assert 0.3 < softras_iou(names) < 0.9


def softras_iou(names: dict) -> float:
    return float(names["softras"].voxel_iou(names["a"], names["b"]))
