"""NMR's and OpenDR's gradients against published numbers and against what their definitions say."""

import re
from pathlib import Path

import pytest
import torch

import softras
from softras.baselines import nmr, opendr
from softras.baselines.opendr import differences


def flat(corners, size, *, y_up):
    """An orthographic view in which x and y are NDC; triangles one after the other."""
    vertices = torch.tensor(corners, dtype=torch.float64).requires_grad_()
    faces = torch.arange(len(vertices)).reshape(-1, 3)
    half = size / 2
    K = torch.tensor([[half, 0, half], [0, -half if y_up else half, half], [0, 0, 1]], dtype=torch.float64)[None]
    scene = {"vertices": vertices, "faces": faces, "K": K, "world_to_camera": torch.eye(4, dtype=torch.float64)[None]}
    return scene | {"height": size, "width": size, "orthographic": torch.tensor([True])}


@pytest.mark.parametrize(
    ("corners", "pixel", "sign", "wanted"),
    [
        ([(0.8, 0.8), (0, -0.5), (0.2, -0.4)], (35, 25), -1, [(1.67259, -0.26022), (1.41987, -1.64285), (0, 0)]),
        (
            [(0.8, 0.8), (-0.5, -0.8), (0.8, -0.8)],
            (50, 40),
            1,
            [(0.98643, 1.04630), (-1.03417, -0.10404), (3.00086, -1.55172)],
        ),
    ],
)
def test_nmr_gives_the_numbers_of_its_public_tests(corners, pixel, sign, wanted):
    scene = flat([(x, y, 1.0) for x, y in corners], 64, y_up=True)
    alpha = nmr(**scene, anti_aliasing=False).alpha
    (sign * alpha[0, pixel[1], pixel[0]]).backward()
    found = scene["vertices"].grad[:, :2]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=2e-4)


def two_triangles():
    corners = [(-0.7, -0.6, 2), (0.6, -0.5, 2), (-0.1, 0.7, 2), (0, -0.3, 1), (0.8, 0.1, 1), (0.1, 0.6, 1)]
    colours = torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0]] * 3, dtype=torch.float64)
    y, x, k = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (32, 32, 3)), indexing="ij")
    return flat(corners, 32, y_up=False), colours, torch.sin(0.3 * x + 0.2 * y + k).permute(2, 0, 1)[None]


def test_nmr_gives_the_numbers_of_its_kernels_for_two_coloured_triangles_that_overlap():
    scene, colours, weights = two_triangles()
    rendering = nmr(**scene, attributes=colours, anti_aliasing=False)
    assert rendering.image[0, :2].sum((1, 2)).tolist() == [174, 92]
    (coloured,) = torch.autograd.grad(rendering.image, scene["vertices"], weights, retain_graph=True)
    (alpha,) = torch.autograd.grad(rendering.alpha, scene["vertices"], weights[:, 0])
    wanted = [(322.3811, -197.4567), (252.7065, -92.0703), (264.345, 55.2507)]
    wanted += [(164.6929, 24.3986), (-18.0736, 179.5755), (200.7558, -212.9777)]
    torch.testing.assert_close(coloured[:, :2], torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-3)
    wanted = [(322.3811, -197.4567), (163.8062, -111.0973), (-21.4493, 40.3786)]
    wanted += [(12.6039, 43.4892), (-210.9613, -116.9484), (-146.754, -344.8081)]
    torch.testing.assert_close(alpha[:, :2], torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-3)


def test_nmr_follows_only_what_lowers_the_loss():
    """So its gradient of minus the loss is not minus its gradient."""
    scene, _, weights = two_triangles()
    alpha = nmr(**scene).alpha
    (up,) = torch.autograd.grad(alpha, scene["vertices"], weights[:, 0], retain_graph=True)
    (down,) = torch.autograd.grad(alpha, scene["vertices"], -weights[:, 0])
    assert (up + down).norm() > 0.1 * up.norm()


def test_opendrs_gradient_is_linear_and_near_the_true_one_for_a_triangle_that_moves():
    scene = flat([(-0.6, -0.5, 1), (0.7, -0.4, 1), (0.1, 0.7, 1)], 64, y_up=False)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    weights = torch.sin(0.11 * x + 0.07 * y)[None].double()
    vertices = scene["vertices"]
    alpha = opendr(**scene).alpha
    (found,) = torch.autograd.grad(alpha, vertices, weights, retain_graph=True)
    (minus,) = torch.autograd.grad(alpha, vertices, -2 * weights)
    torch.testing.assert_close(minus, -2 * found)
    (true,) = torch.autograd.grad(softras.coverage(**scene), vertices, weights)
    found, true = found[:, :2].sum(0), true[:, :2].sum(0)  # of the triangle as a whole
    assert (found - true).norm() < 0.2 * true.norm()


def test_opendr_draws_its_outline_half_a_pixel_larger_and_in_the_edges_colours():
    scene, colours, _ = two_triangles()
    hard, drawn = nmr(**scene, attributes=colours, anti_aliasing=False), opendr(**scene, attributes=colours)
    assert (drawn.alpha >= hard.alpha).all() and 0 < (drawn.alpha - hard.alpha).sum() < 80
    assert ((drawn.image.detach() - drawn.image.detach().round()).abs() < 1e-9).all()  # pure red and pure green


def test_differences_leave_the_outline_out_and_double_on_it():
    image = torch.tensor([[[0.0, 0, 1, 1, 3, 3]]])
    border = torch.tensor([[False, False, True, False, False, False]])
    assert differences(image, border, 2).tolist() == [[[0, 0, 1, 2, 1, 0]]]


@pytest.mark.parametrize("render", [nmr, opendr])
def test_gradients_reach_vertices_and_cameras_in_perspective(render):
    views = softras.load_views("examples/data/spot")[:2]
    mesh = softras.load_mesh("examples/data/spot/start.obj")
    cameras = [view.camera.crop(0, 0, view.camera.width, view.camera.height, 32, 32) for view in views]
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32, requires_grad=True)
    K = torch.tensor([c.K.tolist() for c in cameras], requires_grad=True)
    world_to_camera = torch.tensor([c.world_to_camera.tolist() for c in cameras], requires_grad=True)
    alpha = render(vertices, torch.tensor(mesh.faces), K, world_to_camera, 32, 32).alpha
    assert alpha.shape == (2, 32, 32) and 0.05 < alpha.mean() < 0.9
    alpha[:, :, :16].sum().backward()
    for x in (vertices, K, world_to_camera):
        assert x.grad.isfinite().all() and x.grad.any()


def test_the_pages_snippet_runs(monkeypatch):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "gradients.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert all(gradient.any() for gradient in names["gradients"].values())
