"""What a fit asks of a renderer, and fits that another renderer takes part in."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from fitting_scenes import hook, views_of

from softras import Camera, InputError, Mesh, fit
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.renderer import RENDERERS, SOFT_ON_CPU, SoftRenderer
from softras.render.silhouette import camera_tensors


class Magnifying(SoftRenderer):
    """Draws a mesh a quarter larger than it is, about the origin: where the middle of a mesh is in a fit."""

    def alpha(self, vertices, *scene, **modes):
        return super().alpha(1.25 * vertices, *scene, **modes)

    def jacobian(self, vertices, *scene, d_vertices, **modes):
        return super().jacobian(1.25 * vertices, *scene, d_vertices=1.25 * d_vertices, **modes)

    def hard(self, vertices, *scene):
        return super().hard(1.25 * vertices, *scene)


SHORT = [{"resolution": 96, "steps": 60, "blur": (1.0, 0.4), "rate": (0.03, 0.005), "smoothing": 0.1}]


@pytest.mark.parametrize("optimize", ["object", "vertices"])
def test_another_renderer_is_one_entry_of_the_table(optimize, monkeypatch):
    """Few parameters and free vertices: a mesh that is drawn larger must become smaller to match the masks."""
    monkeypatch.setitem(RENDERERS, "magnifying", Magnifying)
    truth = hook()
    views = views_of(truth, 6, 96)
    result = fit(truth, views, optimize=optimize, renderer="magnifying", place="never", schedule=SHORT)
    size = np.ptp(result.mesh.vertices, axis=0).max() / np.ptp(truth.vertices, axis=0).max()
    assert size == pytest.approx(0.8, abs=0.02)
    assert result.mean_iou > 0.95  # by its own drawings
    assert evaluate(result.mesh.vertices, truth.faces, views).mean() < 0.75


class Remembering(SoftRenderer):
    """Keeps the mesh and the cameras of every hard silhouette that it draws."""

    drawn: ClassVar[list[np.ndarray]] = []

    def hard(self, vertices, faces, cameras, size):
        self.drawn.append(np.concatenate([vertices.flatten(), cameras["world_to_camera"].flatten()]))
        return super().hard(vertices, faces, cameras, size)


@pytest.mark.parametrize("optimize", ["object", "vertices"])
@pytest.mark.parametrize("size", [1.0, 1.8])  # one that stays where it is, and one that is scaled onto the masks first
def test_the_start_is_measured_once(optimize, size, monkeypatch):
    monkeypatch.setitem(RENDERERS, "remembering", Remembering)
    monkeypatch.setattr(Remembering, "drawn", [])
    truth, views = hook(), views_of(hook(), 6, 96)
    start = Mesh(truth.vertices * [1.05 * size, 0.95 * size, size], truth.faces)
    result = fit(start, views, optimize=optimize, renderer="remembering", turns=0, schedule=SHORT)
    assert any("moved onto the masks" in note for note in result.notes) is (size > 1)
    assert len(Remembering.drawn) > 2 and result.mean_iou > 0.9
    evaluate(start.vertices, start.faces, views, Remembering(SOFT_ON_CPU.device))
    *drawn, of_start = Remembering.drawn
    assert sum(np.allclose(one, of_start, atol=1e-5) for one in drawn) == 1


def test_a_renderer_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="renderer cannot be 'crayon'; choose from soft"):
        fit(hook(), views_of(hook(), 2, 32), renderer="crayon")


def test_blur_is_in_pixels_whatever_the_image():
    """Beside the straight side of one large face alpha falls by the same steps from pixel to pixel in any image."""
    half_plane = Mesh(np.array([[0, -90, 0], [0, 90, 0], [-90, 0, 0.0]]), np.array([[0, 1, 2]]))
    vertices, faces = torch.tensor(half_plane.vertices).float(), torch.tensor(half_plane.faces)
    before, profiles = np.eye(4), []
    before[2, 3] = 5.0
    for height, width in ((64, 64), (300, 300), (64, 200), (200, 64)):
        K = np.array([[10.0, 0, width / 2], [0, 10.0, height / 2], [0, 0, 1]])
        camera = Camera(K, before, width, height, orthographic=True)
        tensors = camera_tensors([camera], torch.float32, SOFT_ON_CPU.device)
        alpha = SOFT_ON_CPU.alpha(vertices, faces, tensors, (height, width), blur=1.5, cull=False)
        profiles.append(alpha[0, height // 2, width // 2 - 8 : width // 2 + 8])
    for profile in profiles[1:]:
        torch.testing.assert_close(profile, profiles[0], atol=1e-5, rtol=1e-4)
    assert ((profiles[0] > 0.02) & (profiles[0] < 0.98)).sum() > 4
