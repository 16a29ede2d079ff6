"""Observations, unit space, evaluation and the carved hull."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitting_scenes import ball, camera_around, views_of

from softras import InputError, Mesh, View, fit
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.observation import crop_box, observe
from softras.fitting.observed.observed_view import images_of
from softras.fitting.observed.renderer import SOFT_ON_CPU
from softras.fitting.observed.unit import UnitSpace
from softras.fitting.starts.hull import carve


def test_resampling_is_the_mean_over_area_and_knows_what_it_does_not_know():
    random = np.random.default_rng(0)
    mask = (random.random((20, 30)) > 0.5).astype(np.float32)
    ignore = random.random((20, 30)) > 0.8
    view = View("v", camera_around(np.zeros(3), 5, 0, 1, 30), np.zeros((30, 30)) + np.pad(mask, ((0, 10), (0, 0))))
    view.ignore = np.pad(ignore, ((0, 10), (0, 0)))
    box = (-3.3, 2.4, 12.7, 18.4)
    mean, known = images_of(view).mean_mask(box, 8)
    fine = 40  # brute force: many points a cell
    at = (np.arange(8 * fine) + 0.5) / (8 * fine) * 16
    x, y = np.floor(box[0] + at).astype(int), np.floor(box[1] + at).astype(int)
    inside = (y[:, None] >= 0) & (y[:, None] < 30) & (x[None] >= 0) & (x[None] < 30)
    grid = np.ix_(y.clip(0, 29), x.clip(0, 29))
    told = inside & ~view.ignore[grid]
    cells = lambda a: a.reshape(8, fine, 8, fine).mean(axis=(1, 3))  # noqa: E731
    np.testing.assert_allclose(known, cells(told), atol=0.02)
    np.testing.assert_allclose(mean * known, cells(told * view.mask[grid]), atol=0.02)


@pytest.mark.parametrize("orthographic", [False, True])
def test_a_crop_shows_the_mesh_where_its_mask_shows_it(cow, orthographic):
    views = views_of(cow, 4, 160, orthographic=orthographic)
    unit = UnitSpace(np.array([0.3, -0.2, 0.1]), 1.7)
    observation = observe(views, cow.vertices, unit, 128, SOFT_ON_CPU)
    vertices = torch.as_tensor(unit.to_unit(cow.vertices)).float()
    alpha = observation.render(
        SOFT_ON_CPU, vertices, torch.as_tensor(cow.faces), torch.arange(4), blur=0.02, cull=False
    )
    target = observation.masks[:, 0]
    iou = (alpha * target).sum(dim=(1, 2)) / torch.maximum(alpha, target).sum(dim=(1, 2))
    assert (iou > 0.96).all()  # a mask of 160 pixels against a render of its crop: half a pixel off gives 0.93
    mean_shift = ((alpha - target) * torch.linspace(-1, 1, 128)).sum(dim=(1, 2)) / target.sum(dim=(1, 2))
    assert (mean_shift.abs() < 2e-3).all()


def test_a_crop_holds_mask_and_object_but_not_what_the_image_does_not_show(cow_views, cow):
    view = cow_views[0]
    low = np.argwhere(view.mask > 0.5).min(axis=0)[::-1]
    x0, y0, x1, y1 = crop_box(view)
    assert x0 < low[0] and y0 < low[1] and x1 - x0 == pytest.approx(y1 - y0)
    far = np.concatenate([cow.vertices, [view.camera.centre + 100 * view.camera.world_to_camera[0, :3]]])
    assert crop_box(view, far)[2] < 2 * view.camera.width


def test_evaluation_counts_pixels_and_leaves_out_ignored_ones(cow, cow_views):
    assert (evaluate(cow.vertices, cow.faces, cow_views) == 1).all()
    spoilt = cow_views[0].mask.copy()
    spoilt[:, :64] = 1
    other = replace(cow_views[0], mask=spoilt)
    assert evaluate(cow.vertices, cow.faces, [other])[0] == pytest.approx(
        cow_views[0].mask.sum() / spoilt.sum(), rel=1e-3
    )
    ignore = np.zeros(spoilt.shape, bool)
    ignore[:, :64] = True
    assert evaluate(cow.vertices, cow.faces, [replace(other, ignore=ignore)])[0] == 1


def test_views_of_different_sizes_are_evaluated_each_at_its_own(cow):
    views = views_of(cow, 2, 96) + views_of(cow, 2, 60)
    assert (evaluate(cow.vertices, cow.faces, views) == 1).all()


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("orthographic", [False, True])
def test_carving_a_ball_gives_a_ball(orthographic):
    middle = np.array([3.0, -2.0, 5.0])
    sphere = Mesh(ball(3).vertices + middle, ball(3).faces)
    hull = carve(views_of(sphere, 16, 128, orthographic=orthographic), 48)
    assert volume(hull) == pytest.approx(4 / 3 * np.pi, rel=0.15)  # the hull of 16 views is a little larger
    np.testing.assert_allclose(hull.vertices.mean(axis=0), middle, atol=0.05)


def test_carving_that_must_end_gives_a_coarse_hull(cow_views):
    asked = 0

    def ended() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    coarse = carve(cow_views, 512, ended)
    assert asked == 31, "nothing is carved after the end"
    assert 0.9 < volume(coarse) / volume(carve(cow_views, 96)) < 1.2
    assert len(coarse.faces) < 12_000, "those of 512 voxels would be half a million"


def test_a_reconstruction_that_is_stopped_at_once_is_the_coarse_hull(cow_views):
    result = fit(None, cow_views, mode="reconstruct", voxels=512, stop=lambda: True)
    assert result.status == "stopped"
    assert result.mean_iou > 0.8 and len(result.mesh.faces) < 12_000


def test_a_hull_has_a_share_of_the_time_and_a_coarse_one_is_refined(cow_views, monkeypatch):
    """Here none of ten minutes. A hull of 512 voxels a side would take one of them."""
    monkeypatch.setattr("softras.fitting.vertices.fit.HULL_SHARE", 1e-9)
    schedule = [{"resolution": 64, "steps": 5, "edge": 0.06, "rate": [0.03, 0.01]}]
    result = fit(None, cow_views, mode="reconstruct", voxels=512, max_seconds=600.0, schedule=schedule)
    assert result.status == "out of time", "the hull is not what was asked for"
    assert result.history[-1].step == 5 and result.mean_iou > 0.8


def test_carving_needs_two_views_that_agree(cow, cow_views):
    with pytest.raises(InputError, match="at least 2 views"):
        carve(cow_views[:1])
    mask = np.zeros((128, 128))
    mask[2:6, 2:6] = 1
    apart = [replace(view, mask=np.roll(mask, 100 * (k % 2), axis=k // 2 % 2)) for k, view in enumerate(cow_views)]
    with pytest.raises(InputError, match="cameras belong to the masks"):
        carve(apart)
