"""Each example runs from a clone, at a small size: it writes its picture and does what it shows."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import softras
from softras.raster.images.textures import sample_chain

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with the modules beside it at hand."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for module in ("pictures", "spot", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def test_forward_rendering_blurs_more_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = example("forward_rendering", monkeypatch).main(["--out", str(tmp_path / "new" / "a.png"), "--size", "32"])
    assert len(rows) == 5 and all(len(row) == 4 for row in rows)
    covered = [float((alpha > 0.01).float().mean()) for alpha in rows[-1]]
    assert covered == sorted(covered) and 0.1 < covered[0] < covered[-1] / 1.5
    contrast = [float(row[1][0][rows[-1][1] > 0.99].std()) for row in rows[:4]]
    assert contrast[3] < 0.8 * contrast[0]  # the patches of front and back mix
    with Image.open(tmp_path / "new" / "a.png") as picture:
        assert picture.width >= 4 * 32 and picture.height >= 5 * 32


def test_the_sphere_becomes_the_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--out", str(tmp_path / "a.jpg"), "--steps", "100", "--views", "4", "--size", "64"]
    losses = example("sphere_to_plane", monkeypatch).main(options)
    assert len(losses) == 100 and losses[-1] < 0.75 * losses[0]
    assert (tmp_path / "a.jpg").stat().st_size > 1000


def test_cubes_turn_hidden_faces_to_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube_pose = example("cube_pose", monkeypatch)
    options = ["--out", str(tmp_path / "a.png"), "--angle", "40", "--steps", "60", "--starts", "8", "--size", "24"]
    soft, sharp = cube_pose.main(options), cube_pose.main([*options, "--sharp"])
    assert (soft < 5).sum() >= 6 and (sharp < 5).sum() <= 4


def test_the_texture_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--out", str(tmp_path / "a.png"), "--steps", "12", "--views", "4", "--size", "32", "--texels", "32"]
    colour_fitting = example("colour_fitting", monkeypatch)
    losses, texture = colour_fitting.main(options)
    assert losses[-1] < 0.2 * losses[0]
    spot = colour_fitting.load_spot()
    found = sample_chain(softras.mip_chain(texture, 1), spot.uv[spot.uv_faces.long()], torch.zeros(len(spot.faces), 3))
    wrong = (found - spot.colors[spot.faces.long()]).abs()
    assert wrong.median() < 0.1  # the surface's own colours, without the light; the start's is 0.4
    assert (tmp_path / "a.png").exists()


def test_every_example_is_on_the_page() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    for script in EXAMPLES.glob("*.py"):
        assert script.name in ("pictures.py", "spot.py") or f"examples/{script.name}" in page
