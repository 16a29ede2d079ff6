"""Fits of the cage of modifiers: the shown mesh matches, and the cage keeps what is its own."""

from __future__ import annotations

import numpy as np
import pytest
from fitting_scenes import ball, turned, views_of

from softras import InputError, Mesh, Rig, fit, measure
from softras.cage import Cage, of_blocks
from softras.job import Job
from softras.rig import Transform


def half_ball(scale: tuple[float, float, float] = (1, 1, 1)) -> tuple[Mesh, Cage]:
    """The half at positive x of a ball, of which its mirror image is seen too, as of a Mirror modifier."""
    whole = Mesh(ball(3).vertices * scale, ball(3).faces)
    kept = whole.vertices[:, 0] > -1e-9
    number = np.cumsum(kept) - 1
    faces = number[whole.faces[kept[whole.faces].all(axis=1)]]
    vertices = whole.vertices[kept]
    seam = np.abs(vertices[:, 0]) < 1e-9
    count, images = len(vertices), np.flatnonzero(~seam)
    image_of = np.arange(count)
    image_of[images] = count + np.arange(len(images))
    shown = Mesh(
        np.concatenate([vertices, vertices[images] * [-1, 1, 1]]), np.concatenate([faces, image_of[faces][:, ::-1]])
    )
    blocks = np.tile(np.eye(3), (count + len(images), 1, 1))
    blocks[count:, 0, 0], blocks[:count][seam, 0, 0] = -1, 0
    moving = np.concatenate([np.arange(count), images])
    plane = np.array([[0, 0, 0, 1, 0, 0, 1e-3]])
    return Mesh(vertices, faces), of_blocks(vertices, shown, np.arange(len(moving)), moving, blocks, plane)


def egg() -> Mesh:
    return Mesh(ball(3).vertices * [0.8, 1.1, 1.4] + [0, 0.1, 0.2], ball(3).faces)


def test_a_half_is_fitted_so_that_the_whole_matches() -> None:
    mesh, cage = half_ball()
    views = views_of(egg(), 6, 64)
    result = fit(mesh, views, cage=cage)
    assert result.mean_iou > 0.975
    assert result.mesh.vertices.shape == mesh.vertices.shape
    np.testing.assert_array_equal(result.shown.vertices, cage.shown_at(result.mesh.vertices).vertices)
    np.testing.assert_array_equal(measure(result.shown, views).iou, result.iou)
    seam = np.abs(mesh.vertices[:, 0]) < 1e-9
    np.testing.assert_allclose(result.mesh.vertices[seam, 0], 0, atol=1e-7)
    assert result.mesh.vertices[~seam, 0].min() > 0


def test_what_is_seen_is_moved_with_its_object_before_the_cage_is_bent() -> None:
    """The plane of the mirror goes with the object, which is turned."""
    mesh, cage = half_ball((0.7, 1, 1.5))
    truth = turned(egg(), 25, 1.1, 0.4)
    free = (True, True, True)
    rig = Rig(mesh, Transform(free_location=free, free_rotation=free, free_scale=True))
    views = views_of(truth, 8, 64)
    result = fit(rig, views, cage=cage, optimize=("object", "vertices"))
    assert result.mean_iou > 0.97
    matrix = result.rigs[0].matrix
    local = (result.mesh.vertices - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    seam = np.abs(mesh.vertices[:, 0]) < 1e-9
    np.testing.assert_allclose(local[seam, 0], 0, atol=1e-6)
    np.testing.assert_array_equal(measure(result.shown, views).iou, result.iou)


def test_a_start_that_matches_better_than_what_was_found_stays() -> None:
    mesh, cage = half_ball()
    views = views_of(cage.shown, 4, 64)
    result = fit(mesh, views, cage=cage, max_seconds=1)
    np.testing.assert_array_equal(result.iou, 1)
    np.testing.assert_array_equal(measure(result.shown, views).iou, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"optimize": "object"}, "a cage is of free vertices"), ({"optimize": "cameras"}, "a cage is of free vertices")],
)
def test_a_cage_without_free_vertices_is_refused(settings: dict, sentence: str) -> None:
    mesh, cage = half_ball()
    with pytest.raises(InputError, match=sentence):
        fit(mesh, views_of(egg(), 3, 32), cage=cage, **settings)


def test_a_cage_of_another_mesh_is_refused() -> None:
    _, cage = half_ball()
    with pytest.raises(InputError, match="the cage has .* vertices but the mesh has 642"):
        fit(ball(3), views_of(egg(), 3, 32), cage=cage)
    with pytest.raises(InputError, match="the cage has .* vertices but the mesh has 642"):
        Job(views_of(egg(), 3, 32), ball(3), cage=cage)
