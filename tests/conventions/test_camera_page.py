"""The snippets of docs/cameras.md run and do what the page says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import softras

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = re.findall(
    r"^## (.+?)$(.*?)(?=^## |\Z)", (ROOT / "docs" / "cameras.md").read_text(), re.MULTILINE | re.DOTALL
)
SNIPPETS = [(title, code) for title, text in SECTIONS for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def run(title: str, number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a section's snippet leaves behind."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec([code for other, code in SNIPPETS if other == title][number], names)
    return names


@pytest.mark.parametrize("title, number", [("Cameras as tensors", 1), ("Blender", 0), ("OpenCV", 0)])
def test_snippets_run(title: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(run(title, number, monkeypatch)["camera"], softras.Camera)


def test_there_are_no_other_snippets() -> None:
    titles = [title for title, _ in SNIPPETS]
    assert titles == [
        "Cameras as tensors", "Cameras as tensors", "Blender", "OpenCV", "OpenGL", "PyTorch3D", "PyTorch3D", "SoftRas",
        "SoftRas",
    ]  # fmt: skip


def test_twelve_views_show_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = run("Cameras as tensors", 0, monkeypatch)["alpha"]
    assert alpha.shape == (12, 48, 64)
    assert ((alpha > 0.9).sum((1, 2)) > 100).all()


def test_clip_coordinates_are_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("OpenGL", 0, monkeypatch)
    np.testing.assert_allclose((names["x"], names["y"]), names["camera"].project((0.1, 0.2, 0.3)))


def test_pytorch3d(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("PyTorch3D", 0, monkeypatch)["given"]["in_ndc"]
    names = run("PyTorch3D", 1, monkeypatch)
    camera = softras.camera_from_pytorch3d_fov(np.eye(3), np.zeros(3), 640, 480, fov=60)
    np.testing.assert_allclose(names["K"], camera.K, rtol=1e-6)


def test_softras(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("SoftRas", 0, monkeypatch)["camera"].K[0, 0] < 0
    names = run("SoftRas", 1, monkeypatch)
    for number, azimuth in enumerate((0, 45, 90)):
        el, az = math.radians(30), math.radians(azimuth)
        eye = 2.732 * np.array([math.cos(el) * math.sin(az), math.sin(el), -math.cos(el) * math.cos(az)])
        camera = softras.camera_from_softras_look_at(eye, 64)
        np.testing.assert_allclose(names["K"][number], camera.K, rtol=1e-6)
        np.testing.assert_allclose(names["world_to_camera"][number], camera.world_to_camera, atol=1e-6)
