"""Meshes, cameras and masks made for the tests of fits."""

from __future__ import annotations

import numpy as np
import torch

from softras import Camera, Mesh, View
from softras.render.silhouette import hard_silhouettes


def camera_around(middle: np.ndarray, distance: float, k: int, count: int, size: int, *, orthographic=False) -> Camera:
    """The k-th of `count` cameras spread over a sphere, looking at its middle."""
    height = 1 - 2 * (k + 0.5) / count
    around = np.pi * (3 - np.sqrt(5)) * k
    out = np.array([np.sqrt(1 - height**2) * np.cos(around), height, np.sqrt(1 - height**2) * np.sin(around)])
    right = np.cross([0, -1, 0], -out)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = [right, np.cross(-out, right), -out]
    matrix[:3, 3] = -matrix[:3, :3] @ (middle + distance * out)
    focal = 1.2 * size if not orthographic else 1.2 * size / distance
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(K, matrix, size, size, orthographic=orthographic)


def views_of(mesh: Mesh, count: int, size: int, *, orthographic: bool = False) -> list[View]:
    """Hard silhouettes of a mesh from all around."""
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    distance = 3.2 * np.linalg.norm(mesh.vertices - middle, axis=1).max()
    cameras = [camera_around(middle, distance, k, count, size, orthographic=orthographic) for k in range(count)]
    masks = hard_silhouettes(torch.as_tensor(mesh.vertices).float(), torch.as_tensor(mesh.faces), cameras).numpy()
    return [View(f"{k}", camera, mask) for k, (camera, mask) in enumerate(zip(cameras, masks, strict=True))]


def turned(mesh: Mesh, degrees: float, scale: float = 1.0, shift: float = 0.0) -> Mesh:
    """Turned about the y axis through the mesh's middle, scaled, and moved along x."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    middle = mesh.vertices.mean(axis=0)
    return Mesh(scale * (mesh.vertices - middle) @ turn.T + middle + [shift, 0, 0], mesh.faces)


def ball(subdivisions: int = 2) -> Mesh:
    """A sphere of radius 1 around the origin."""
    import trimesh

    found = trimesh.creation.icosphere(subdivisions)
    return Mesh(found.vertices, found.faces)


def hook() -> Mesh:
    """Two boxes that form an L with a thin foot: few faces, no symmetry that silhouettes could confuse."""
    import trimesh

    bar, foot = trimesh.creation.box((1, 0.3, 0.3)), trimesh.creation.box((0.3, 0.2, 0.8))
    foot.apply_translation([0.35, 0.05, 0.5])
    both = trimesh.util.concatenate([bar, foot])
    return Mesh(both.vertices, both.faces)
