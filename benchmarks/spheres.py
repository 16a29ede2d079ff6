"""What the benchmarks of the rasterizer draw: spheres of any number of faces, seen from a ring of cameras."""

from __future__ import annotations

import math

import numpy as np

import softras
from softras.raster.silhouettes.reference import CUTOFF


def icosphere(level: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices on the unit sphere and (20 * 4^level, 3) faces, seen counter-clockwise from outside."""
    golden = (1 + math.sqrt(5)) / 2
    vertices = np.array([[a, s * golden, 0] for s in (1, -1) for a in (-1, 1)], dtype=float)
    vertices = np.concatenate([vertices, np.roll(vertices, 1, 1), np.roll(vertices, 2, 1)])
    length = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
    close = np.isclose(length, 2)
    faces = np.array([f for f in np.argwhere(close[:, :, None] & close[:, None, :] & close[None]) if f[0] < min(f[1:])])
    outward = np.einsum("ij,ij->i", vertices[faces[:, 0]], np.cross(vertices[faces[:, 1]], vertices[faces[:, 2]])) > 0
    faces = faces[outward]
    for _ in range(level):
        sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, middle = np.unique(sides, axis=0, return_inverse=True)
        middle = middle.reshape(-1, 3) + len(vertices)
        vertices = np.concatenate([vertices, vertices[edges].mean(axis=1)])
        (a, b, c), (ab, bc, ca) = faces.T, middle.T
        corners = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        faces = np.concatenate([np.stack(corner, axis=1) for corner in corners])
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces


def cameras(count: int, size: int) -> list[softras.Camera]:
    """Cameras on a ring, of 8 or more; an object within [-1, 1] fills two thirds of the image."""
    out = []
    for i in range(count):
        a = 2 * np.pi * i / max(8, count)
        matrix = np.eye(4)
        matrix[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, -1, 0], [np.sin(a), 0, -np.cos(a)]]
        matrix[2, 3] = 4.2
        out.append(
            softras.Camera([[1.8 * size, 0, size / 2], [0, 1.8 * size, size / 2], [0, 0, 1]], matrix, size, size)
        )
    return out


def pairs(vertices: np.ndarray, faces: np.ndarray, camera: softras.Camera, sigma: float) -> float:
    """(face, pixel) pairs within the cut-off: areas of the faces, each grown by the cut-off's radius (Steiner)."""
    corners = camera.project(vertices)[faces]
    radius = math.sqrt(CUTOFF * sigma) * min(camera.width, camera.height) / 2
    sides = np.roll(corners, -1, 1) - corners
    (ax, ay), (bx, by) = sides[:, 0].T, sides[:, 1].T
    area = np.abs(ax * by - ay * bx) / 2
    return float((area + np.linalg.norm(sides, axis=2).sum(1) * radius + np.pi * radius**2).sum())
