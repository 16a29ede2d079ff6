"""Fits of cameras alone, or together as one rig of cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from fitting_scenes import hook, turned, views_of
from rig_scenes import POSE, around, bent, matches, moved, pixel_errors, seen_from, shots

from softras import Mesh, fit
from softras.deform.cameras import rotations
from softras.fitting.observed.renderer import SOFT_ON_CPU
from softras.fitting.poses.object_search import spread
from softras.fitting.starts.facing import best_apart, facings


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


def around_object(camera, degrees, axis):
    """The camera turned about the world's origin."""
    turn = np.eye(4)
    turn[:3, :3] = rotations(np.radians(degrees) * np.array([axis]) / np.linalg.norm(axis))[0]
    return replace(camera, world_to_camera=camera.world_to_camera @ turn)


def direction_error(camera, truth) -> float:
    """Degrees between the places of two cameras, seen from the world's origin."""
    a, b = camera.centre, truth.centre
    return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


@pytest.mark.parametrize("degrees, axis", [(70, (0, 0, 1)), (110, (1, 0, 1)), (160, (1, 1, 0))])
def test_a_camera_is_found_from_one_silhouette_wherever_it_starts(degrees, axis):
    view = views_of(hook(), 5, 96)[1]
    given = replace(view, camera=around_object(view.camera, degrees, axis))
    result = fit(hook(), [given], optimize="cameras", camera_parts=("location", "rotation"))
    assert result.mean_iou > 0.97
    assert direction_error(result.cameras[0], view.camera) < 5
    assert not any("another side" in note for note in result.notes)


def test_where_a_mesh_looks_alike_from_another_side_a_note_says_so():
    box = trimesh.creation.box((1.0, 0.6, 0.35))
    mesh = Mesh(box.vertices, box.faces)
    view = views_of(mesh, 5, 96)[1]
    given = replace(view, camera=around_object(view.camera, 70, (0, 0, 1)))
    result = fit(mesh, [given], optimize="cameras", camera_parts=("location", "rotation"))
    assert result.mean_iou > 0.97
    assert any("could as well look from another side" in note for note in result.notes)


def test_a_rig_of_cameras_is_found_from_the_other_side_of_the_object():
    views = views_of(hook(), 3, 96)
    given = [replace(view, camera=around_object(view.camera, 130, (1, 2, 0))) for view in views]
    parts = ("location", "rotation")
    result = fit(hook(), given, optimize="cameras", cameras_together=True, camera_parts=parts)
    assert result.mean_iou > 0.97
    for camera, view in zip(result.cameras, views, strict=True):
        assert direction_error(camera, view.camera) < 5


def test_rotations_are_rated_and_the_true_one_is_among_the_best():
    mesh, views = hook(), views_of(hook(), 2, 96)
    off = turned(mesh, 100)
    rated = facings(off, views, spread(600, np.pi), SOFT_ON_CPU)
    assert len(rated) == 600 and rated[0].iou > 0.7 and rated[0].iou >= rated[-1].iou
    best = best_apart(rated, 5)
    truth = rotations(np.radians(-100) * np.array([[0, 1, 0]]))[0]
    angles = [np.degrees(np.arccos(np.clip((np.trace(f.rotation.T @ truth) - 1) / 2, -1, 1))) for f in best]
    assert min(angles) < 25
    assert not facings(off, views, spread(600, np.pi), SOFT_ON_CPU, ended=lambda: True)
