"""Exact coverage against its definition, against areas known by hand, and what users rely on.

With `device`, a test is of the native library, of the CUDA kernels on a GPU, and of the same under the emulator.
"""

import ctypes
import re
from pathlib import Path

import emulation
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import by_threads, same_bits, scenes

import softras
from softras.raster import arguments
from softras.raster.coverage import reference
from softras.raster.coverage.topology import ROOM, remembered
from softras.raster.native import coverage_cpu as cpu
from softras.raster.native.structures import Contour, OutlineSize, Piece

QUICK = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
SHEAR = 2e-8  # how far the kernel moves a pixel down for each pixel to the right, twice
ROUNDED = 1e-6  # a GPU adds up gradients in any order, so that their last bits differ


def random_scenes():
    return scenes(faces=st.integers(1, 8), sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)))


def flat(polygons, height, width, device="cpu"):
    """Vertices and cameras of an orthographic view in which x and y are pixels."""
    points = torch.tensor(polygons, dtype=torch.float64).reshape(-1, 2)
    vertices = torch.cat([points, torch.ones_like(points[:, :1])], dim=1).to(device).requires_grad_()
    faces = torch.arange(len(points), device=device).reshape(-1, 3)
    return vertices, faces, torch.eye(3).to(vertices)[None], torch.eye(4).to(vertices)[None], height, width


def drawn(vertices, faces, K, world_to_camera, height, width, **modes):
    return softras.coverage(
        vertices, faces, K, world_to_camera, height, width, orthographic=torch.tensor([True]), **modes
    )


def alike(a, b):
    """That gradients have the same bits, but for what a GPU may differ by."""
    torch.testing.assert_close(a, b, rtol=ROUNDED if a.is_cuda else 0, atol=ROUNDED if a.is_cuda else 0)


def ball(subdivisions=2, dtype=torch.float32, views=1, size=48, device="cpu"):
    mesh = trimesh.creation.icosphere(subdivisions)
    K = softras.perspective(50, size, size + 8).to(device, dtype)[None].repeat(views, 1, 1)
    eyes = [softras.eye_from_angles(3.0, 20.0, 50.0 * i) for i in range(views)]
    cameras = torch.stack([softras.look_at(eye).to(device, dtype) for eye in eyes])
    return torch.tensor(mesh.vertices).to(K), torch.tensor(mesh.faces, device=device), K, cameras, size, size + 8


@QUICK
@given(random_scenes())
def test_it_agrees_with_the_definition(device, scene):
    found = render(scene, scene.inputs(torch.float64, device))
    wanted = reference.coverage(scene.packed(scene.inputs(torch.float64)))
    largest = max(1.0, float(extent_in_pixels(scene)))
    assert (found.cpu() - wanted).abs().max() <= 10 * SHEAR * largest


def render(scene, inputs):
    vertices, K, world_to_camera = inputs
    modes = {"orthographic": scene.orthographic, "near": scene.near, "cull": scene.cull}
    faces = scene.faces.to(vertices.device)
    return softras.coverage(vertices, faces, K, world_to_camera, scene.height, scene.width, **modes)


def extent_in_pixels(scene):
    """How long the image of a face can be: a shear of so many pixels moves its far end."""
    return 4 * max(scene.height, scene.width)


@settings(QUICK, max_examples=20)
@given(random_scenes(), st.integers(0, 100))
def test_its_gradients_are_those_of_the_definition(device, scene, seed):
    """Where two edges meet in a pixel the definition itself has kinks, at which either side is right: most scenes have
    none, and the sum of all differences is judged."""
    inputs, defined = scene.inputs(torch.float64, device), scene.inputs(torch.float64)
    found, wanted = render(scene, inputs), reference.coverage(scene.packed(defined))
    weights = torch.rand(wanted.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = torch.autograd.grad((found * weights.to(device)).sum(), inputs)
    theirs = torch.autograd.grad((wanted * weights).sum(), defined)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.cpu() - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


def test_the_area_of_a_triangle_and_its_gradient(device):
    corners = [(3.2, 2.1), (11.7, 4.9), (6.4, 12.3)]
    vertices, *rest = flat(corners, 16, 16, device)
    total = drawn(vertices, *rest).sum()
    (ax, ay), (bx, by), (cx, cy) = corners
    area2 = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    assert total.item() == pytest.approx(abs(area2) / 2, abs=1e-6)
    total.backward()
    wanted = torch.tensor([[by - cy, cx - bx], [cy - ay, ax - cx], [ay - by, bx - ax]]) / 2
    torch.testing.assert_close(vertices.grad[:, :2].cpu(), wanted.double() * np.sign(area2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_overlapping_squares_count_once_however_they_are_turned(device, order):
    def square(x, y, side):
        a, b, c, d = (x, y), (x + side, y), (x + side, y + side), (x, y + side)
        return [[(a, b, c)[i] for i in order], [a, c, d]]

    alpha = drawn(*flat(square(2, 3, 4) + square(4.5, 5, 4), 12, 12, device))[0]
    assert alpha.sum().item() == pytest.approx(2 * 16 - 1.5 * 2, abs=1e-5)
    assert alpha[4, 3].item() == 1 and alpha[8, 8].item() == pytest.approx(0.5, abs=1e-6) and alpha[11, 11] == 0


def test_an_axis_aligned_square_has_its_gradients_on_every_side(device):
    """Exactly horizontal edges are in no slab of a sweep from top to bottom, and move areas all the same."""
    a, b, c, d = (2, 3), (6, 3), (6, 8), (2, 8)
    vertices, *rest = flat([a, b, c, a, c, d], 12, 12, device)
    drawn(vertices, *rest).sum().backward()
    left, right = vertices.grad[[0, 3, 5], 0].sum(), vertices.grad[[1, 2, 4], 0].sum()
    top, bottom = vertices.grad[[0, 1, 3], 1].sum(), vertices.grad[[2, 4, 5], 1].sum()
    for got, wanted in ((left, -5), (right, 5), (top, -4), (bottom, 4)):
        assert got.item() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("mesh", ["ball", "torus", "open", "inside out"])
def test_it_is_what_supersampling_approaches(device, mesh):
    vertices, faces, K, camera, height, width = ball(3, torch.float64)
    if mesh == "torus":
        shape = trimesh.creation.torus(0.8, 0.25)
        vertices, faces = torch.tensor(shape.vertices), torch.tensor(shape.faces)
    elif mesh == "open":
        faces = faces[::3]
    elif mesh == "inside out":
        faces = torch.where(torch.arange(len(faces))[:, None] % 2 == 0, faces, faces.flip(1))
    found = softras.coverage(vertices.to(device), faces.to(device), K.to(device), camera.to(device), height, width)[
        0
    ].cpu()
    wanted = sampled(vertices, faces, K, camera, height, width, 12)
    outline = (found > 0) & (found < 1)
    assert (found - wanted).abs().max() < 0.08 and (found - wanted)[outline].abs().mean() < 0.02
    assert torch.equal(found[~outline], wanted[~outline])


def sampled(vertices, faces, K, camera, height, width, many):
    """(H, W) on the CPU: of many x many samples in each pixel, the share that the mesh covers."""
    K, scene = K.cpu().clone(), [x.detach().cpu() for x in (vertices, faces, camera)]
    K[:, :2] *= many
    with emulation.native():
        hard = softras.silhouettes(scene[0], scene[1], K, scene[2], height * many, width * many, sigma=1e-14) > 0.5
    return hard[0].double().reshape(height, many, width, many).mean((1, 3))


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(device, seed):
    generator = torch.Generator().manual_seed(seed)
    vertices = (torch.randn(6, 3, dtype=torch.float64, generator=generator) * 0.6).to(device).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 1, 5]], device=device)
    _, _, K, cameras, _, _ = ball(0, torch.float64, 2, device=device)
    K = (K * torch.tensor([8 / 48, 8 / 48, 1], device=device)[:, None]).requires_grad_()
    cameras.requires_grad_()
    near = torch.tensor([2.9, 1e-3], dtype=torch.float64)  # cuts faces of the first view

    def render(v, k, w):
        return softras.coverage(v, faces, k, w, 8, 9, near=near)

    tolerance = ROUNDED if vertices.is_cuda else 0.0
    assert torch.autograd.gradcheck(render, (vertices, K, cameras), eps=1e-6, atol=1e-4, nondet_tol=tolerance)


def test_the_jacobian_is_the_forward_mode_of_the_gradients(device):
    vertices, faces, K, cameras, height, width = ball(2, torch.float64, 3, device=device)
    generator = torch.Generator().manual_seed(0)
    inputs = [x.requires_grad_() for x in (vertices, K, cameras)]
    moves = [torch.randn(*x.shape, 5, dtype=torch.float64, generator=generator).to(device) for x in inputs]
    weights = torch.randn(3, height, width, dtype=torch.float64, generator=generator).to(device)
    alpha = softras.coverage(vertices, faces, K, cameras, height, width)
    grads = torch.autograd.grad((alpha * weights).sum(), inputs)
    wanted = sum((g[..., None] * d).flatten(0, -2).sum(0) for g, d in zip(grads, moves, strict=True))
    found = softras.coverage_jacobian(vertices, faces, K, cameras, height, width, *moves)
    assert torch.equal(found.alpha, alpha.detach())
    assert (found.pixels.diff() > 0).all()
    torch.testing.assert_close(weights.flatten()[found.pixels] @ found.rows, wanted, rtol=1e-9, atol=1e-9)
    still = torch.ones(alpha.numel(), dtype=torch.bool, device=device)
    still[found.pixels] = False
    assert ((alpha.flatten()[still] == 0) | (alpha.flatten()[still] == 1)).all()


def test_any_number_of_threads_gives_the_same_bits():
    scene = ball(5, torch.float32, 3, size=256)  # work enough for several threads
    one = [scene[0], scene[1], scene[2][:1], scene[3][:1], *scene[4:]]
    weights = torch.rand(3, 256, 264, generator=torch.Generator().manual_seed(0))

    def run():
        found = []
        for vertices, faces, K, cameras, height, width in (scene, one):
            inputs = [x.clone().requires_grad_() for x in (vertices, K, cameras)]
            alpha = softras.coverage(inputs[0], faces, inputs[1], inputs[2], height, width)
            found += [alpha.detach(), *torch.autograd.grad((alpha * weights[: len(K)]).sum(), inputs)]
        return found

    first, *others = by_threads(run)
    assert all(same_bits(first, other) for other in others)


def test_vertices_split_at_seams_are_one_and_share_their_gradient(device):
    vertices, faces, K, camera, height, width = ball(2, torch.float64, device=device)
    split = vertices[faces].reshape(-1, 3).requires_grad_()  # every face has its own corners
    whole = vertices.clone().requires_grad_()
    apart = softras.coverage(split, torch.arange(len(split), device=device).reshape(-1, 3), K, camera, height, width)
    joined = softras.coverage(whole, faces, K, camera, height, width)
    assert torch.equal(apart, joined)
    weights = torch.rand(apart.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    (apart * weights).sum().backward()
    (joined * weights).sum().backward()
    summed = torch.zeros_like(whole).index_add_(0, faces.flatten(), split.grad)
    torch.testing.assert_close(summed, whole.grad, rtol=1e-12, atol=1e-12)
    for copies in ((faces.flatten() == vertex).nonzero()[:, 0] for vertex in range(5)):
        assert (split.grad[copies] == split.grad[copies[0]]).all()


def test_what_moved_apart_is_no_longer_one(device):
    vertices, faces, K, camera, height, width = ball(1, torch.float64, device=device)
    split, own = vertices[faces].reshape(-1, 3), torch.arange(3 * len(faces), device=device).reshape(-1, 3)
    softras.coverage(split, own, K, camera, height, width)  # joined
    exploded = split + 0.2 * split.reshape(-1, 3, 3).mean(1).repeat_interleave(3, 0)
    found = softras.coverage(exploded, own, K, camera, height, width)
    wanted = softras.coverage(exploded, own.clone(), K, camera, height, width)
    assert torch.equal(found, wanted) and not torch.equal(found, softras.coverage(split, own, K, camera, height, width))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_faces_changed_in_place_are_seen(device, dtype):
    vertices, faces, K, camera, height, width = ball(1, device=device)
    shared = faces.to(dtype, copy=True)
    before = softras.coverage(vertices, shared, K, camera, height, width)
    shared.data[10:] = shared.data[0]  # a change that PyTorch does not count
    after = softras.coverage(vertices, shared, K, camera, height, width)
    assert torch.equal(after, softras.coverage(vertices, shared.clone(), K, camera, height, width))
    assert not torch.equal(after, before)


@pytest.mark.parametrize("shape", ["no vertices", "no faces", "no cameras"])
def test_nothing_covers_nothing(device, shape):
    vertices, faces, K, camera, height, width = ball(1, device=device)
    if shape == "no vertices":
        vertices, faces = vertices[:0], faces[:0]
    elif shape == "no faces":
        faces = faces[:0]
    else:
        K, camera = K[:0], camera[:0]
    inputs = [x.clone().requires_grad_() for x in (vertices, K, camera)]
    alpha = softras.coverage(inputs[0], faces, inputs[1], inputs[2], height, width)
    assert alpha.shape == (len(K), height, width) and not alpha.any()
    alpha.sum().backward()
    assert not any(x.grad.any() for x in inputs)
    rows = softras.coverage_jacobian(vertices, faces, K, camera, height, width, vertices.new_ones(*vertices.shape, 2))
    assert rows.pixels.numel() == 0 and rows.rows.shape == (0, 2)


def test_the_operator_passes_torchs_own_checks(device):
    vertices, faces, K, camera, height, width = ball(1, torch.float64, size=10, device=device)
    args = arguments.scene(vertices, faces, K, camera, height, width, None, 1e-3, False)
    args = tuple(
        x.clone().requires_grad_() if torch.is_tensor(x) and x.dtype == torch.float64 and x.dim() > 1 else x
        for x in args
    )
    torch.library.opcheck(torch.ops.softras.coverage.default, (*args, True))


def test_it_compiles_as_one_graph_and_gives_the_same(device):
    vertices, faces, K, camera, height, width = ball(1, device=device)

    def loss(v):
        return softras.coverage(v, faces, K, camera, height, width).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    ours, theirs = vertices.clone().requires_grad_(), vertices.clone().requires_grad_()
    loss(ours).backward()
    compiled(theirs).backward()
    alike(ours.grad, theirs.grad)


def test_second_derivatives_are_refused(device):
    vertices, faces, K, camera, height, width = ball(1, device=device)
    vertices.requires_grad_()
    alpha = softras.coverage(vertices, faces, K, camera, height, width)
    (gradient,) = torch.autograd.grad(alpha.square().sum(), vertices, create_graph=True)
    with pytest.raises(RuntimeError, match="once, not twice"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"faces": torch.tensor([[0, 1, 999]])}, "faces name vertices that do not exist"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "faces name vertices that do not exist"),
        ({"vertices": torch.full((12, 3), torch.nan)}, "vertices holds NaN"),
        ({"K": torch.full((1, 3, 3), torch.inf)}, "K holds NaN or infinite"),
        ({"near": -1.0}, "near must be positive"),
    ],
)
def test_bad_input_is_named(device, change, words):
    names = ("vertices", "faces", "K", "world_to_camera", "height", "width")
    given = dict(zip(names, ball(0), strict=True)) | change
    given = {name: x.to(device) if torch.is_tensor(x) else x for name, x in given.items()}
    with pytest.raises(ValueError, match=words):
        softras.coverage(**given)


def test_a_mesh_seen_from_inside_and_one_behind_the_camera(device):
    vertices, faces, K, _, height, width = ball(2, device=device)
    inside = torch.eye(4, device=device)[None]
    assert (softras.coverage(vertices, faces, K, inside, height, width) == 1).all()
    behind = inside.clone()
    behind[0, 2, 3] = -5
    assert not softras.coverage(vertices, faces, K, behind, height, width).any()


def test_memory_kept_for_the_backward_pass_is_given_back():
    """Without a gradient nothing is kept, and what is kept lies in tensors."""
    vertices, faces, K, camera, height, width = ball(2)
    scene = arguments.scene(vertices, faces, K, camera, height, width, None, 1e-3, False)
    alpha, kept = cpu.coverage(scene, keep=True)
    assert cpu.coverage(scene, keep=False)[1] is None and torch.equal(alpha, cpu.coverage(scene, keep=False)[0])
    size = OutlineSize.from_buffer(kept.outline.numpy())
    least = sum(map(ctypes.sizeof, [OutlineSize] + size.contours * [Contour] + size.pieces * [Piece]))
    assert 0 < least <= len(kept.outline) <= max(4 * least, ROOM)


def test_an_outline_without_room_is_taken_whole():
    """The room for the outline is that of the last call of the same mesh, which may have been far away."""
    vertices, faces, K, camera, height, width = ball(4, torch.float64, size=256)
    far = camera.clone()
    far[:, 2, 3] = 1000.0
    wanted = vertices.clone().requires_grad_()
    softras.coverage(wanted, faces.clone(), K, camera, height, width).square().sum().backward()
    softras.coverage(vertices.clone().requires_grad_(), faces, K, far, height, width)
    topology = remembered(faces, vertices)
    topology.room[0] = 100  # bytes
    for _ in range(2):  # without room and with it
        found = vertices.clone().requires_grad_()
        softras.coverage(found, faces, K, camera, height, width).square().sum().backward()
        assert torch.equal(found.grad, wanted.grad) and topology.room[0] > 10_000


def heap(count, scale=1.0, device="cpu"):
    """Unconnected triangles, far too many crossings to sort."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.rand(count, 1, 3, dtype=torch.float64, generator=generator) * 1.4 - 0.7
    corners = middles + 0.1 * torch.randn(count, 3, 3, dtype=torch.float64, generator=generator)
    _, _, K, camera, height, width = ball(0, torch.float64, size=160, device=device)
    vertices = scale * corners.reshape(-1, 3).to(device)
    return vertices, torch.arange(3 * count, device=device).reshape(-1, 3), K, camera, height, width


def test_a_heap_of_triangles_is_measured_by_samples_and_says_so(device):
    scene = heap(6000, device=device)
    with pytest.warns(RuntimeWarning, match="8 x 8 samples"):
        found = softras.coverage(*scene)[0].cpu()
    wanted = sampled(*scene, 8)
    assert (found[32:128] - wanted[32:128]).abs().max() <= 2 / 64  # by samples; near the border some rows are exact
    assert (found - wanted).abs().max() < 0.1


@pytest.mark.filterwarnings("error")
def test_samples_are_taken_without_a_word_where_they_will_do(device):
    """Eagerly, in a transform of torch.func, and in forward mode."""
    vertices, *rest = heap(6000, device=device)
    alpha = softras.coverage(vertices, *rest, warn=False)

    def area(v):
        return softras.coverage(v, *rest, warn=False).sum()

    leaf = vertices.clone().requires_grad_()
    area(leaf).backward()
    alike(torch.func.grad(area)(vertices), leaf.grad)
    found = softras.coverage_jacobian(vertices, *rest, torch.ones_like(vertices)[..., None], warn=False)
    assert torch.equal(found.alpha, alpha)
    with pytest.raises(RuntimeWarning, match="so many edges cross"):
        softras.coverage(vertices, *rest)


@pytest.mark.filterwarnings("ignore:so many edges cross")
def test_the_gradient_by_samples_is_how_the_area_changes(device):
    scene = heap(6000, device=device)
    vertices, *rest = scene
    vertices = vertices.requires_grad_()
    softras.coverage(vertices, *rest).sum().backward()
    slope = (vertices.grad * vertices).sum().item()  # of the area, as the heap grows
    larger, smaller = (softras.coverage(*heap(6000, scale, device)).sum().item() for scale in (1.01, 0.99))
    assert slope == pytest.approx((larger - smaller) / 0.02, rel=0.05)


@pytest.mark.filterwarnings("ignore:so many edges cross")
def test_a_heap_has_the_same_bits_for_any_number_of_threads():
    vertices, faces, K, camera, height, width = heap(30_000)  # faces and crossings enough for several threads
    several = K.repeat(2, 1, 1), camera.repeat(2, 1, 1)
    weights = torch.rand(2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run():
        found = []
        for cameras in ((K, camera), several):
            moved = vertices.clone().requires_grad_()
            alpha = softras.coverage(moved, faces, *cameras, height, width)
            found += [alpha.detach(), *torch.autograd.grad((alpha * weights[: len(alpha)]).sum(), moved)]
        return found

    first, *others = by_threads(run)
    assert all(same_bits(first, other) for other in others)


@pytest.mark.filterwarnings("ignore:so many edges cross")
def test_the_worst_heap_ends(device):
    """Every edge crosses nearly every other."""
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(30000, 3, generator=generator, dtype=torch.float64).to(device)
    _, _, K, camera, height, width = ball(0, torch.float64, size=64, device=device)
    alpha = softras.coverage(vertices, torch.arange(30000, device=device).reshape(-1, 3), K, camera, height, width)
    assert alpha.isfinite().all() and alpha.mean() > 0.5


@pytest.mark.filterwarnings("ignore:so many edges cross")
def test_ten_thousand_shells_are_one(device):
    """Copies of a sphere that are turned at random, one behind the other: nearly all of their outlines are hidden."""
    vertices, faces, K, camera, height, width = ball(0, torch.float64, size=96)
    generator = torch.Generator().manual_seed(0)
    count = 10_000
    turns = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64, generator=generator)).Q
    sizes = torch.linspace(0.5, 1, count, dtype=torch.float64)[:, None, None]
    shells = (sizes * (vertices @ turns)).reshape(-1, 3)
    numbered = (faces + len(vertices) * torch.arange(count)[:, None, None]).reshape(-1, 3)
    scene = [x.to(device) for x in (shells, numbered, K, camera)]
    found = softras.coverage(*scene, height, width)[0].cpu()
    wanted = sampled(*scene, height, width, 4)
    assert (found - wanted).abs().max() < 0.2 and (found - wanted).mean().abs() < 2e-3


def test_edges_that_become_horizontal_by_the_shear_leave_no_gap(device):
    """The kernel moves a point down by 1e-8 pixels for each pixel to the right: these edges end at one height."""
    corners = [(3.0, 5.5), (13.0, 5.5 - 1e-7), (9.0, 9.0), (3.0, 5.5), (13.0, 5.5 - 1e-7), (6.0, 2.0)]
    vertices, *rest = flat(corners, 16, 16, device)
    alpha = drawn(vertices, *rest)
    assert alpha.sum().item() == pytest.approx(10 * 3.5, abs=1e-5)
    upper, *rest = flat(corners[3:], 16, 16, device)
    lower = flat(corners[:3], 16, 16, device)[0]
    parts = drawn(upper, *rest) + drawn(lower, *rest)
    assert (alpha - parts).abs().max() < 1e-5


@pytest.mark.parametrize("left", [-3.0, -40.0])
def test_what_lies_left_of_the_image_counts_by_its_winding_alone(device, left):
    """A comb whose teeth begin left of the image, and a triangle that ends there."""
    corners = []
    for y in (1.3, 4.6, 7.7):
        corners += [(left, y - 0.9), (9.0, y), (left, y + 0.9)]
    corners += [(left - 5, 2.0), (-0.5, 5.0), (left - 5, 9.0)]
    alpha = drawn(*flat(corners, 10, 12, device))[0]
    tooth = 0.5 * 1.8 * 9.0**2 / (9.0 - left)  # of the part that is seen
    assert alpha.sum().item() == pytest.approx(3 * tooth, abs=1e-5)


def test_the_pages_snippet_runs(monkeypatch):
    root = Path(__file__).resolve().parents[3]
    monkeypatch.chdir(root)
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "coverage.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["vertices"].grad.any() and 0.05 < names["area"].mean() < 0.5
