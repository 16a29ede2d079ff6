"""A mesh that is nowhere near its masks is brought there; cameras inside it are told."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from fitting_scenes import ball, camera_around, hook, turned, views_of

from softras import InputError, Mesh, fit
from softras.deform.cameras import rotations
from softras.fitting.alignment import MOST_VIEWS, most_apart
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.renderer import SOFT_ON_CPU
from softras.fitting.starts.placement import camera_inside, check_cameras, onto_masks, similarity_onto

HOOK = hook()


def placed(mesh, views):
    scale, pivot, shift = similarity_onto(mesh.vertices, views)
    return Mesh(scale * (mesh.vertices - pivot) + pivot + shift, mesh.faces)


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("scale, shift", [(0.05, 7.0), (30.0, -100.0)])
def test_scale_and_position_are_found(cow, orthographic, scale, shift):
    views = views_of(cow, 6, 128, orthographic=orthographic)
    away = turned(cow, 0, scale, shift)
    found = placed(away, views)
    size = np.ptp(cow.vertices, axis=0).max()
    np.testing.assert_allclose(found.vertices, cow.vertices, atol=0.02 * size)


def test_one_view_moves_the_mesh_into_it(cow, cow_views):
    away = turned(cow, 0, 1.0, 40.0)
    found = placed(away, cow_views[:1])
    assert evaluate(found.vertices, found.faces, cow_views[:1])[0] > 0.9


def test_masks_cut_by_the_border_do_not_mislead(cow, cow_views):
    views = []
    for view in cow_views:  # the left half of every image is lost
        camera = view.camera.crop(50, 0, 128, 128, 78, 128)
        views.append(replace(view, camera=camera, mask=view.mask[:, 50:]))
    found = placed(turned(cow, 0, 0.2, 3.0), views)
    np.testing.assert_allclose(found.vertices, cow.vertices, atol=0.12)


def test_only_what_the_masks_would_have_elsewhere_is_moved(cow, cow_views):
    assert onto_masks(cow, cow_views, SOFT_ON_CPU) is None
    assert onto_masks(turned(cow, 20), cow_views, SOFT_ON_CPU) is None  # a move by bounds would hardly help
    for away in (
        turned(cow, 0, 1.0, 5.0),
        turned(cow, 0, 0.1),
        turned(cow, 0, 50.0),  # all cameras inside
        turned(cow, 0, 2.0, 0.2),  # some overlap
    ):
        scale, _ = onto_masks(away, cow_views, SOFT_ON_CPU)
        assert scale == pytest.approx(np.ptp(cow.vertices[:, 1]) / np.ptp(away.vertices[:, 1]), rel=0.05)


def leaning(mesh: Mesh, degrees: float, scale: float, shift: float) -> Mesh:
    """Turned about a skew axis through the mesh's middle, scaled, and moved by so many sizes of the mesh."""
    turn = rotations(np.radians(degrees) * np.array([[1, 2, 1]]) / 6**0.5)[0]
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    way = shift * np.ptp(mesh.vertices, axis=0).max() * np.array([0.6, -0.5, 0.6])
    return Mesh(scale * (mesh.vertices - middle) @ turn.T + middle + way, mesh.faces)


@pytest.mark.parametrize("degrees", [10, 40, 60])
def test_an_object_turned_scaled_and_away_is_found_whatever_little_overlaps(degrees):
    """Overlaps of .05 to .3 at the start, on both sides of where a mesh counts as not placed at all."""
    views = views_of(HOOK, 8, 96)
    for scale, shift in ((2.5, 0.9), (1.6, 0.3)):
        result = fit(leaning(HOOK, degrees, scale, shift), views, optimize="object")
        assert result.iou.min() > 0.95 and any("moved onto" in note for note in result.notes)


SHORT = [{"resolution": 96, "steps": 20, "rate": (0.01, 0.005), "smoothing": 0.1}]


def test_free_vertices_begin_where_the_object_is_found():
    views = views_of(HOOK, 8, 96)
    start = leaning(HOOK, 25, 1.2, 0.1)
    result = fit(start, views, schedule=SHORT)
    assert result.iou.min() > 0.95 and result.rigs == {}
    degrees, scale = (
        float(x) for x in re.search("turned by (.*) degrees .* scaled by (.*) and", result.notes[0]).groups()
    )
    assert degrees == pytest.approx(25, abs=1) and scale == pytest.approx(1 / 1.2, rel=0.02)
    edges = [np.linalg.norm(m.vertices[m.faces[:, 0]] - m.vertices[m.faces[:, 1]], axis=1) for m in (result.mesh, HOOK)]
    np.testing.assert_allclose(*edges, rtol=0.1)  # moved, not bent
    for held in ({"place": "never"}, {"lock": np.arange(len(HOOK.vertices)) == 0}):
        assert not any("turned" in note for note in fit(start, views, schedule=SHORT, **held).notes)


def test_of_many_views_some_that_look_from_all_sides_find_the_object():
    """A walk around the object and back, twice: its first views alone would show one side."""
    around = views_of(HOOK, 24, 96)
    views = [replace(around[k % 24], name=f"{k}") for k in (*range(24), *range(24))]
    chosen = most_apart(views, MOST_VIEWS)
    assert len({view.name for view in chosen}) == len(chosen) == MOST_VIEWS
    forward = np.array([view.camera.world_to_camera[2, :3] for view in chosen])
    assert np.degrees(np.arccos(np.clip(np.sort(forward @ forward.T)[:, -2].max(), -1, 1))) > 30
    assert np.array_equal(most_apart(views[:5], MOST_VIEWS), views[:5])
    result = fit(
        leaning(HOOK, 25, 1.2, 0.1),
        [replace(view, weight=float(k >= 10)) for k, view in enumerate(views)],
        schedule=SHORT,
    )
    assert np.isfinite(result.iou).all() and result.iou.min() > 0.95
    assert any("turned by" in note for note in result.notes)
    assert all(event.iou is None or len(event.iou) == len(views) for event in result.history)


def test_free_vertices_that_match_or_have_another_shape_are_not_turned():
    views = views_of(HOOK, 8, 96)
    assert not fit(leaning(HOOK, 3, 1.0, 0), views, schedule=SHORT).notes
    block = trimesh.creation.box((1.2, 0.3, 0.9))
    block.apply_translation([0.0, 0.0, 0.4])
    result = fit(Mesh(block.vertices, block.faces), views, schedule=SHORT)
    assert not any("turned" in note for note in result.notes)


def test_a_camera_inside_the_mesh_is_named(cow):
    inside = camera_around(np.zeros(3), 0.5, 0, 3, 64)
    outside = camera_around(np.zeros(3), 5.0, 0, 3, 64)
    sphere = ball(2)
    assert camera_inside(inside, sphere) and not camera_inside(outside, sphere)
    views = views_of(sphere, 3, 64)
    views[1] = replace(views[1], name="sofa", camera=inside)
    with pytest.raises(InputError, match="view 'sofa' is inside the mesh"):
        check_cameras(sphere, views)


def test_a_mesh_behind_a_camera_is_named(cow_views):
    behind = Mesh(ball(1).vertices + cow_views[2].camera.centre * 3, ball(1).faces)
    with pytest.raises(InputError, match="behind the camera of view '2'"):
        check_cameras(behind, [cow_views[2]])


def test_a_mesh_before_the_near_distance_is_named(cow, cow_views):
    view = cow_views[2]
    far = replace(view, camera=replace(view.camera, near=100.0))
    with pytest.raises(InputError, match=r"all of the mesh is nearer to the camera of view '2' than .* distance \(100"):
        check_cameras(cow, [far])
