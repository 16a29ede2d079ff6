"""Spot the cow (Keenan Crane, CC0), painted: what two of the examples look at."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import softras

FILE = Path(__file__).resolve().parent / "data" / "spot" / "spot.obj"


class Spot(NamedTuple):
    """vertices (V, 3), z up; faces (F, 3); colors (V, 3); uv (T, 2) with uv_faces (F, 3)."""

    vertices: Tensor
    faces: Tensor
    colors: Tensor
    uv: Tensor
    uv_faces: Tensor


def load_spot() -> Spot:
    """The cow in float32, with brown patches on white where a product of waves is positive."""
    loaded = softras.load_textured_mesh(FILE)
    vertices = torch.tensor(loaded.mesh.vertices, dtype=torch.float32)
    x, y, z = vertices.T
    waves = (9 * x + 1).sin() * (7 * y + 0.5).sin() * (8 * z).sin()
    patch = (20 * (waves - 0.2)).sigmoid()[:, None]
    colors = (1 - patch) * torch.tensor([0.95, 0.92, 0.88]) + patch * torch.tensor([0.45, 0.25, 0.15])
    uv = torch.tensor(loaded.uv, dtype=torch.float32)
    return Spot(vertices, torch.tensor(loaded.mesh.faces), colors, uv, torch.tensor(loaded.uv_faces))


def sun() -> tuple[softras.AmbientLight, softras.DirectionalLight]:
    """Half of the light from everywhere, half from above, from the cow's left and from where she looks."""
    return (
        softras.AmbientLight(torch.full((3,), 0.5)),
        softras.DirectionalLight(torch.full((3,), 0.5), torch.tensor([0.7, 0.7, 1.0])),
    )
