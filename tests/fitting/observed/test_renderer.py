"""What a fit asks of a renderer, and fits that another renderer takes part in."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from fitting_scenes import ball, camera_around, hook, views_of
from rig_scenes import POSE, around, bent, tube_rig

from softras import Camera, InputError, Mesh, View, coverage, fit
from softras.fitting.observed.evaluate import evaluate
from softras.fitting.observed.renderer import RENDERERS, SOFT_ON_CPU, ExactRenderer, Renderers, SoftRenderer
from softras.fitting.starts.placement import BLUR
from softras.render.silhouette import camera_tensors

EXACT_ON_CPU = ExactRenderer(torch.device("cpu"))


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
    """Keeps the mesh and the cameras of every hard silhouette that it draws, and the blur of all others."""

    drawn: ClassVar[list[np.ndarray]] = []
    blurs: ClassVar[list[float]] = []

    def alpha(self, *scene, blur, cull):
        self.blurs.append(blur)
        return super().alpha(*scene, blur=blur, cull=cull)

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


def test_the_overlap_of_a_mesh_that_stays_is_measured_once(monkeypatch):
    """The search for where it is as a whole asks for it, and so does the fit of free vertices."""
    monkeypatch.setitem(RENDERERS, "remembering", Remembering)
    monkeypatch.setattr(Remembering, "blurs", [])
    result = fit(hook(), views_of(hook(), 6, 96), renderer="remembering", schedule=SHORT)
    assert not any("onto the masks" in note for note in result.notes)
    assert Remembering.blurs.count(BLUR) == 1


def test_a_renderer_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="renderer cannot be 'crayon'; choose from auto, soft, exact"):
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


def exact_views(mesh: Mesh, cameras: list[Camera]) -> list[View]:
    """What each camera sees of a mesh: the share of each pixel that it covers, computed in double precision."""
    vertices, faces = torch.as_tensor(mesh.vertices), torch.as_tensor(mesh.faces).long()
    height, width = cameras[0].height, cameras[0].width
    masks = coverage(vertices, faces, height=height, width=width, **camera_tensors(cameras, torch.float64, "cpu"))
    return [View(f"{k}", camera, mask.numpy()) for k, (camera, mask) in enumerate(zip(cameras, masks, strict=True))]


def test_each_part_of_a_fit_has_the_renderer_that_suits_it_unless_one_is_named():
    cpu = torch.device("cpu")
    for setting, drawn in (("auto", (SoftRenderer, ExactRenderer)), ("soft", (SoftRenderer,) * 2)):
        assert tuple(type(Renderers(setting, cpu)[name]) for name in ("soft", "exact")) == drawn
    assert type(Renderers("exact", cpu)["soft"]) is ExactRenderer


def test_the_exact_renderer_draws_areas_whatever_the_blur():
    """A square of 2 x 2 units seen from straight ahead, 20 pixels a unit, its sides within pixels."""
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    before = np.eye(4)
    before[2, 3] = 5.0
    camera = Camera(np.array([[20.0, 0, 32.25], [0, 20.0, 24.5], [0, 0, 1]]), before, 64, 48, orthographic=True)
    scene = (torch.tensor(square).float(), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    tensors = camera_tensors([camera], torch.float32, "cpu")
    for blur, cull in ((3.0, False), (0.01, True)):
        alpha = EXACT_ON_CPU.alpha(*scene, tensors, (48, 64), blur=blur, cull=cull)[0]
        expected = np.zeros((48, 64))
        expected[4:45, 12:53] = np.outer([0.5, *[1] * 39, 0.5], [0.75, *[1] * 39, 0.25])
        torch.testing.assert_close(alpha, torch.tensor(expected).float(), atol=1e-4, rtol=0)
    assert torch.equal(EXACT_ON_CPU.hard(*scene, tensors, (48, 64)), SOFT_ON_CPU.hard(*scene, tensors, (48, 64)))


def test_the_rows_of_the_exact_renderer_are_the_gradient_of_its_alpha():
    """By one parameter, that of a motion of all vertices and of the camera."""
    mesh, random = ball(2), torch.Generator().manual_seed(3)
    vertices, faces = torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces).long()
    tensors = camera_tensors([camera_around(np.zeros(3), 4, k, 3, 40) for k in range(3)], torch.float32, "cpu")
    d_vertices = torch.randn(len(vertices), 3, 1, generator=random)
    d_pose = torch.zeros(3, 4, 4, 1)
    d_pose[:, :3] = torch.randn(3, 3, 4, 1, generator=random)
    found = EXACT_ON_CPU.jacobian(
        vertices, faces, tensors, (40, 40), d_vertices=d_vertices, d_K=None, d_world_to_camera=d_pose, blur=1, cull=True
    )
    moving = {"vertices": vertices.requires_grad_(), "pose": tensors["world_to_camera"].requires_grad_()}
    alpha = EXACT_ON_CPU.alpha(vertices, faces, tensors, (40, 40), blur=1, cull=True)
    torch.testing.assert_close(found.alpha, alpha.detach())
    weights = torch.randn(alpha.shape, generator=random)
    by_vertices, by_pose = torch.autograd.grad((weights * alpha).sum(), tuple(moving.values()))
    change = (by_vertices * d_vertices[..., 0]).sum() + (by_pose * d_pose[..., 0]).sum()
    rows = (weights.flatten()[found.pixels] * found.rows[:, 0]).sum()
    assert rows.item() == pytest.approx(change.item(), rel=1e-3)


def test_a_heap_of_triangles_is_fitted_without_a_word(recwarn):
    """Far too many of its edges cross to be sorted: `softras.coverage` warns that it samples some rows."""
    random = torch.Generator().manual_seed(0)
    vertices = torch.rand(6000, 1, 3, generator=random) - 0.5 + 0.1 * torch.randn(6000, 3, 3, generator=random)
    vertices, faces = vertices.reshape(-1, 3).requires_grad_(), torch.arange(18000).reshape(-1, 3)
    scene = vertices, faces, camera_tensors([camera_around(np.zeros(3), 2, 0, 1, 160)], torch.float32, "cpu")
    EXACT_ON_CPU.alpha(*scene, (160, 160), blur=1, cull=False).sum().backward()
    moved = torch.ones(18000, 3, 1)
    EXACT_ON_CPU.jacobian(*scene, (160, 160), d_vertices=moved, d_K=None, d_world_to_camera=None, blur=1, cull=False)
    assert not recwarn.list
    coverage(vertices, faces, height=160, width=160, **scene[2])
    assert "so many edges cross" in str(recwarn.pop(RuntimeWarning).message)


def test_a_search_that_starts_beside_the_true_pose_ends_there():
    """Half a degree off. Nothing biases exact coverage: masks with soft edges are matched to a hundredth of a pixel.

    Soft silhouettes end ten times as far away.
    """
    truth, start = bent(tube_rig(), POSE), bent(tube_rig(), np.add(POSE, [0.01, 0, -0.01]))
    views = exact_views(Mesh(truth.vertices(), truth.mesh.faces), around(4, 160))
    height = np.ptp(truth.vertices()[:, 2])

    def error(**settings: str) -> float:
        found = fit(start, views, optimize="pose", **settings).rigs[0]
        return float(np.linalg.norm(found.vertices() - truth.vertices(), axis=1).mean() / height)

    assert error() < 2e-4
    assert error(renderer="soft") > 5e-4


def test_free_vertices_match_better_with_exact_coverage():
    """A ball becomes an egg with a waist."""
    given = ball(2)
    truth = Mesh(given.vertices * [1, 0.8, 1.3] * (1 - 0.3 * np.exp(-6 * given.vertices[:, 2:] ** 2)), given.faces)
    views = exact_views(truth, [camera_around(np.zeros(3), 4, k, 6, 96) for k in range(6)])
    schedule = [
        {"resolution": 96, "steps": 30, "blur": (1.0, 0.35), "rate": (0.03, 0.01), "smoothing": 0.1},
        {"resolution": 96, "steps": 30, "blur": (0.35, 0.2), "rate": (0.01, 0.001), "smoothing": 0.04},
    ]
    exact, soft = (
        fit(given, views, renderer=name, schedule=schedule, place="never").mean_iou for name in ("auto", "soft")
    )
    assert exact > soft and exact > 0.98
