"""A mesh that is nowhere near its masks is brought there; cameras inside it are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting_scenes import ball, camera_around, turned, views_of

from softras import InputError, Mesh
from softras.fitting.evaluate import evaluate
from softras.fitting.placement import camera_inside, check_cameras, needs_placement, place

CPU = torch.device("cpu")


def placed(mesh, views):
    scale, pivot, shift = place(mesh.vertices, views)
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


def test_only_what_does_not_overlap_is_placed(cow, cow_views):
    assert not needs_placement(cow, cow_views, CPU)
    assert not needs_placement(turned(cow, 20, 1.3), cow_views, CPU)
    assert needs_placement(turned(cow, 0, 1.0, 5.0), cow_views, CPU)
    assert needs_placement(turned(cow, 0, 0.1), cow_views, CPU)
    assert needs_placement(turned(cow, 0, 50.0), cow_views, CPU)  # all cameras inside


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
