"""A tube with three bones, and what cameras see of it, made for the tests of fits of rigs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting_scenes import camera_around

from softras import Camera, FitResult, Mesh, View
from softras.deform.cameras import rotations
from softras.fitting.observed.evaluate import evaluate
from softras.render.silhouette import hard_silhouettes
from softras.rig import Armature, Bone, Rig, ShapeKey, Transform

ALL = (True, True, True)
BENDS = (True, False, True)  # not about the bone itself
POSE = ((0.2, 0, 0.1), (0.5, 0, -0.2), (-0.3, 0, 0.4))  # of the three bones
MIDDLE = np.array([0.0, 0.0, 1.5])
REST = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # bones point upwards


def tube(sides: int = 10, rings: int = 13) -> Mesh:
    """3 high, standing on the origin, as closed as a sausage; 0.6 x 0.4 wide."""
    around = 2 * np.pi * np.arange(sides) / sides
    ring = np.column_stack([0.3 * np.cos(around), 0.2 * np.sin(around)])
    vertices = [(x, y, z) for z in np.linspace(0, 3, rings) for x, y in ring] + [(0, 0, -0.1), (0, 0, 3.1)]
    faces = []
    bottom, top = rings * sides, rings * sides + 1
    for k in range(sides):
        after = (k + 1) % sides
        for row in range(0, (rings - 1) * sides, sides):
            a, b, c, d = row + k, row + after, row + sides + after, row + sides + k
            faces += [(a, b, c), (a, c, d)]
        faces += [(bottom, after, k), (top, (rings - 1) * sides + k, (rings - 1) * sides + after)]
    return Mesh(np.array(vertices), np.array(faces))


def tube_rig(
    bends: Sequence[Sequence[float]] = ((0, 0, 0),) * 3,
    *,
    free: Sequence[bool] = BENDS,
    limits: np.ndarray | None = None,
    **rig: object,
) -> Rig:
    """The tube with three bones of length 1, each turned by angles about its x, y (its own length) and z."""
    mesh = tube()
    bones = []
    for number, angles in enumerate(bends):
        rest = REST.copy()
        rest[2, 3] = number
        pose = Transform(rotation=angles, mode="XYZ", free_rotation=free, limits=limits)
        bones.append(Bone(f"Bone {number}", number - 1, rest, pose))
    height = mesh.vertices[:, 2].clip(0, 3)
    second, third = np.clip((height[None] - [[1], [2]]) / 0.5 + 0.5, 0, 1)
    weights = np.stack([1 - second, second - third, third])
    owners, vertices = np.nonzero(weights)
    armature = Armature(tuple(bones), vertices, owners, weights[owners, vertices])
    return Rig(mesh, armature=armature, **rig)


def bent(rig: Rig, bends: Sequence[Sequence[float]]) -> Rig:
    """The rig in another pose."""
    assert rig.armature is not None
    pairs = zip(rig.armature.bones, bends, strict=True)
    bones = tuple(replace(bone, pose=replace(bone.pose, rotation=angles)) for bone, angles in pairs)
    return replace(rig, armature=replace(rig.armature, bones=bones))


def keyed_rig(values: Sequence[float] = (0.0, 0.0)) -> Rig:
    """The tube with two shape keys, wider and thicker upstairs, and no bones."""
    mesh = tube()
    up = mesh.vertices[:, 2:] / 3
    keys = (
        ShapeKey("Wide", mesh.vertices * [1, 0, 0] * up, values[0], low=-0.5, high=1.0),
        ShapeKey("Thick", mesh.vertices * [0, 1, 0] * (1 - up), values[1], low=0.0, high=1.0),
    )
    return Rig(mesh, shape_keys=keys)


def angles_of(rig: Rig) -> np.ndarray:
    """(B, 3)."""
    assert rig.armature is not None
    return np.array([bone.pose.rotation for bone in rig.armature.bones])


def around(count: int = 3, size: int = 112, *, orthographic: bool = False, distance: float = 6.0) -> list[Camera]:
    """Cameras that look at the tube's middle from all sides."""
    return [camera_around(MIDDLE, distance, k, count, size, orthographic=orthographic) for k in range(count)]


def shots(rigs: Mapping[int, Rig | Mesh], cameras: Sequence[Camera]) -> list[View]:
    """What each camera sees in each frame, frame by frame: which share of a pixel is covered."""
    fine = [camera.crop(0, 0, camera.width, camera.height, 4 * camera.width, 4 * camera.height) for camera in cameras]
    views = []
    for frame, rig in rigs.items():
        mesh = rig if isinstance(rig, Mesh) else Mesh(rig.vertices(), rig.mesh.faces)
        covered = hard_silhouettes(torch.as_tensor(mesh.vertices).float(), torch.as_tensor(mesh.faces), fine).float()
        masks = torch.nn.functional.avg_pool2d(covered, 4).numpy()
        for number, (camera, mask) in enumerate(zip(cameras, masks, strict=True)):
            views.append(View(f"{number} in {frame}", camera, mask, frame=frame))
    return views


def moved(camera: Camera, turn: Sequence[float] = (0, 0, 0), shift: Sequence[float] = (0, 0, 0), zoom=1.0) -> Camera:
    """The camera turned about its own axes (radians) and then shifted along them, with another focal length."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotations(np.array([turn], float))[0], shift
    return replace(camera, world_to_camera=motion @ camera.world_to_camera, K=camera.K @ np.diag([zoom, zoom, 1]))


def seen_from(views: Sequence[View], cameras: Sequence[Camera]) -> list[View]:
    """The views with other cameras."""
    return [replace(view, camera=camera) for view, camera in zip(views, cameras, strict=True)]


def pixel_errors(points: np.ndarray, found: Sequence[Camera], true: Sequence[Camera]) -> np.ndarray:
    """(N,) mean distance in pixels between where two cameras see the same points (P, 3)."""
    pairs = zip(found, true, strict=True)
    return np.array([np.linalg.norm(a.project(points) - b.project(points), axis=1).mean() for a, b in pairs])


def matches(result: FitResult, views: list[View]) -> None:
    """The result's figures are those of the meshes and cameras in it."""
    for view, camera, iou in zip(views, result.cameras, result.iou, strict=True):
        mesh = result.mesh_in(view.frame)
        again = evaluate(mesh.vertices, mesh.faces, [replace(view, camera=camera)])
        assert again[0] == pytest.approx(iou, abs=2e-3)
