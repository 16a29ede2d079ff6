"""Fits of cameras alone, or together as one rig of cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rig_scenes import POSE, around, bent, matches, moved, pixel_errors, seen_from, shots

from softras import Mesh, fit
from softras.deform.cameras import rotations


def test_cameras_are_found_one_by_one(posed, views):
    cameras = [view.camera for view in views]
    turns = [(0.05, -0.04, 0.06), (-0.06, 0.03, 0.02), (0.03, 0.06, -0.05)]
    off = [moved(camera, turn, (0.1, 0.1, -0.2), 1.04) for camera, turn in zip(cameras, turns, strict=True)]
    vertices = 1e-9 + posed.vertices()
    result = fit(Mesh(vertices, posed.mesh.faces), seen_from(views, off), optimize="cameras")
    assert pixel_errors(vertices, off, cameras).min() > 3
    assert pixel_errors(vertices, result.cameras, cameras).max() < 0.7
    assert result.rigs == {} and (result.mesh.vertices == vertices).all(), "only cameras were to move"
    matches(result, views)


def test_a_camera_that_looks_elsewhere_is_turned_to_the_object(posed, views):
    cameras = [view.camera for view in views]
    off = [moved(camera, (0.25, 0.3, 0)) for camera in cameras]
    result = fit(posed, seen_from(views, off), optimize="cameras", camera_parts=("rotation",))
    assert pixel_errors(posed.vertices(), result.cameras, cameras).max() < 0.7
    for camera, given in zip(result.cameras, off, strict=True):
        np.testing.assert_allclose(camera.centre, given.centre, atol=1e-9)


@pytest.mark.parametrize("part", ["location", "rotation", "focal", "shift"])
def test_the_other_parts_of_a_camera_stay(posed, views, part):
    off = [moved(view.camera, (0.01, 0.02, 0.02), (0.03, 0, 0.1), 1.02) for view in views]
    result = fit(posed, seen_from(views, off), optimize="cameras", camera_parts=part)
    stays = {
        "location": lambda camera: camera.centre,
        "rotation": lambda camera: camera.world_to_camera[:3, :3],
        "focal": lambda camera: camera.K[:2, :2],
        "shift": lambda camera: camera.K[:2, 2],
    }
    for name, value in stays.items():
        change = max(np.abs(value(a) - value(b)).max() for a, b in zip(result.cameras, off, strict=True))
        assert (change > 1e-4) if name == part else (change < 1e-9), name


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 0)])
def test_a_rig_of_cameras_moves_as_one_with_views_that_do_not_count(posed, views, weights):
    cameras = [view.camera for view in views]
    shift = np.eye(4)
    shift[:3, :3], shift[:3, 3] = rotations(np.array([[0.03, -0.05, 0.04]]))[0], (0.2, 0.1, -0.1)
    off = [replace(c, world_to_camera=c.world_to_camera @ shift, K=c.K @ np.diag([1.03, 1.03, 1])) for c in cameras]
    given = [replace(v, weight=w) for v, w in zip(seen_from(views, off), weights, strict=True)]
    result = fit(posed, given, optimize="cameras", cameras_together=True)
    assert pixel_errors(posed.vertices(), off, cameras).max() > 4
    assert pixel_errors(posed.vertices(), result.cameras, cameras).max() < 1
    matches(result, views)
    for camera, start in zip(result.cameras[1:], off[1:], strict=True):
        between = camera.world_to_camera @ np.linalg.inv(result.cameras[0].world_to_camera)
        np.testing.assert_allclose(between, start.world_to_camera @ np.linalg.inv(off[0].world_to_camera), atol=1e-9)
        np.testing.assert_allclose(camera.K, result.cameras[0].K, rtol=1e-12)


@pytest.mark.parametrize("optimize", [("cameras",), ("pose", "cameras")])
def test_equal_cameras_of_several_frames_move_as_one(rest, optimize):
    """Also where one of them has no weight in a frame."""
    cameras = around()
    frames = {1: bent(rest, POSE), 2: bent(rest, POSE)}
    off = [moved(camera, (0.02, 0.02, 0.02)) for camera in cameras]
    given = seen_from(shots(frames, cameras), 2 * off)
    given[4] = replace(given[4], weight=0)
    result = fit(bent(rest, POSE), given, optimize=optimize, camera_parts="rotation")
    for first, second in zip(result.cameras[:3], result.cameras[3:], strict=True):
        np.testing.assert_allclose(first.world_to_camera, second.world_to_camera, atol=1e-12)
    assert pixel_errors(frames[1].vertices(), result.cameras[:3], cameras).max() < 0.7


def test_orthographic_cameras_are_found(posed):
    cameras = around(orthographic=True)
    off = [moved(camera, (0, 0, 0.06), (0.1, 0.1, 0), 1.04) for camera in cameras]
    given = seen_from(shots({0: posed}, cameras), off)
    result = fit(posed, given, optimize="cameras")
    assert pixel_errors(posed.vertices(), off, cameras).min() > 3
    assert pixel_errors(posed.vertices(), result.cameras, cameras).max() < 0.7
    assert all(camera.orthographic for camera in result.cameras)
    matches(result, given)
