"""The native silhouettes against their definition, and what users rely on."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import by_threads, compare, same_bits, scenes, small_scene

import softras
from softras.raster.native import cpu
from softras.raster.silhouettes import ops

QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))


def test_the_native_library_is_there():
    assert cpu.available(), cpu.description()


@QUICK
@given(scenes(faces=st.integers(1, 50), sizes=st.tuples(st.integers(1, 80), st.integers(1, 60))))
def test_it_agrees_with_the_definition(scene):
    compare(scene)


@settings(QUICK, max_examples=2)
@given(
    scenes(faces=st.integers(200, 500), sizes=st.tuples(st.integers(150, 300), st.integers(100, 200)), views=st.just(1))
)
def test_large_scenes_agree_with_the_definition(scene):
    compare(scene)


@settings(QUICK, max_examples=15)
@given(scenes())
def test_any_number_of_threads_gives_the_same_bits(scene):
    def run():
        inputs = scene.inputs(torch.float32)
        alpha = scene.render(inputs)
        return [alpha.detach(), *torch.autograd.grad(alpha.square().sum(), inputs)]

    first, *others = by_threads(run)
    assert all(same_bits(first, other) for other in others)


def gradcheck(scene, where, device):
    if where == "emulated":  # which takes its time
        scene.faces, scene.height, scene.width = scene.faces[:5], 9, 12
    tolerance = 1e-12 if where == "cuda" else 0.0
    inputs = scene.inputs(torch.float64, device)
    return torch.autograd.gradcheck(lambda *inputs: scene.render(list(inputs)), inputs, nondet_tol=tolerance)


def same(a, b):
    """The same bits; on a GPU, where gradients are added in any order, the same but for rounding."""
    return torch.equal(a, b) if a.device.type == "cpu" else (a - b).abs().max() <= 4e-7 * a.abs().max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cull", [False, True])
def test_gradcheck(seed, cull, where, device):
    scene = small_scene(seed)
    scene.cull = cull
    assert gradcheck(scene, where, device)


def test_gradcheck_with_vertices_of_each_view(where, device):
    scene = small_scene()
    scene.vertices = torch.stack([scene.vertices, scene.vertices * 0.9])
    assert gradcheck(scene, where, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype, device):
    scene = small_scene()
    args = ops.render.flat(scene.packed(scene.inputs(dtype, device)), scene.sigma)
    torch.library.opcheck(torch.ops.softras.silhouettes.default, tuple(args))


def test_torch_compile_gives_the_same(device):
    scene = small_scene()
    compiled = torch.compile(
        lambda *inputs: scene.render(list(inputs)).square().sum(), backend="aot_eager", fullgraph=True
    )
    a, b = scene.inputs(torch.float64, device), scene.inputs(torch.float64, device)
    expected = scene.render(b).square().sum()
    assert torch.allclose(compiled(*a), expected)
    for x, y in zip(torch.autograd.grad(compiled(*a), a), torch.autograd.grad(expected, b), strict=True):
        assert torch.allclose(x, y)


def test_a_corner_of_a_face_with_very_long_edges_is_exact():
    """A near-clipped face may reach millions of pixels away; around its corner, float32 must not notice."""
    vertices = torch.tensor([[8.3, 7.6, 1], [4e6, -3e6, 1], [3e6, 5e6, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])
    eye = torch.eye(4, dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        v = vertices.to(dtype).requires_grad_()
        K, matrix = eye[None, :3, :3].to(dtype), eye[None].to(dtype)
        alpha = ops.silhouettes(v, faces, K, matrix, 16, 16, sigma=0.02, orthographic=torch.tensor([True]))
        results.append((alpha, *torch.autograd.grad(alpha.sum(), v)))
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_it_differentiates_once_and_says_so(device):
    scene = small_scene()
    inputs = scene.inputs(torch.float64, device)
    (gradient,) = torch.autograd.grad(scene.render(inputs).sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        gradient.square().sum().backward()


def test_a_triangle_is_where_it_should_be(device):
    """Pixel centres, the y axis and the cut-off, by hand: a right angle at pixel corner (2, 1), legs of 4 pixels."""
    faces = torch.tensor([[0, 1, 2]], device=device)
    vertices = torch.tensor([[2.0, 1, 1], [6, 1, 1], [2, 5, 1]], device=device)
    camera = softras.Camera(torch.eye(3).numpy(), torch.eye(4).numpy(), 8, 6, orthographic=True)
    hard = softras.hard_silhouettes(vertices, faces, [camera])[0].cpu()
    expected = torch.zeros(6, 8, dtype=torch.bool)
    for row, count in ((1, 4), (2, 3), (3, 2), (4, 1)):
        expected[row, 2 : 2 + count] = True
    expected[torch.arange(1, 5), torch.tensor([5, 4, 3, 2])] = hard[torch.arange(1, 5), torch.tensor([5, 4, 3, 2])]
    assert torch.equal(hard, expected)  # but for the pixel centres that lie exactly on the long side
    sigma = (2 / 6) ** 2 * 0.25  # a quarter of a squared pixel
    alpha = softras.render_silhouettes(vertices, faces, [camera], sigma=sigma)[0].cpu()
    assert alpha[2, 1] == pytest.approx(1 / (1 + torch.e ** (0.25 / 0.25)), abs=1e-6)  # half a pixel outside
    assert alpha[2, 2] == pytest.approx(1 / (1 + torch.e ** (-0.25 / 0.25)), abs=1e-6)  # half a pixel inside
    assert alpha[0, 7] == 0  # beyond the cut-off of 9.2 sigma


def test_geometry_behind_the_near_plane_makes_no_alpha(device):
    faces = torch.tensor([[0, 1, 2]], device=device)
    triangle = torch.tensor([[-5.0, -5, 0], [5, -5, 0], [0, 5, 0]], device=device)
    camera = softras.Camera([[10, 0, 8], [0, 10, 8], [0, 0, 1]], torch.eye(4).numpy(), 16, 16, near=0.5)
    for z, visible in ((-1.0, False), (0.0, False), (0.4, False), (0.6, True)):
        alpha = softras.render_silhouettes(triangle + triangle.new_tensor([0, 0, z]), faces, [camera])
        assert (alpha.max() > 0.5) == visible


def test_nothing_is_dropped_where_hundreds_of_faces_overlap(where, device):
    """300 faint copies of one face: 1 - (1 - D)^300, exactly. Peers with a limit of faces per pixel fail here."""
    vertices = torch.tensor([[2.0, 2, 1], [30, 2, 1], [2, 30, 1]], dtype=torch.float64, device=device)
    face = torch.tensor([[0, 1, 2]], device=device)
    camera = softras.Camera(torch.eye(3).numpy(), torch.eye(4).numpy(), 32, 32, orthographic=True)
    one = softras.render_silhouettes(vertices, face, [camera], sigma=1e-2)
    many = softras.render_silhouettes(vertices, face.repeat(300, 1), [camera], sigma=1e-2)
    assert torch.allclose(many, 1 - (1 - one) ** 300, atol=1e-12 if where == "cpu" else 1e-11)


def test_the_early_out_stays_within_its_bound(where, device):
    """Opaque to within 1e-8 (1e-16 in float64): many covering faces, compared with the full product.

    On a GPU sums are rounded to 2^-44 at each face.
    """
    scene = small_scene()
    scene.faces = scene.faces.repeat(40, 1)
    for dtype, bound in ((torch.float32, 2e-6), (torch.float64, 1e-14 if where == "cpu" else 1e-11)):
        inputs = scene.inputs(dtype, device)
        exact = scene.define([x.detach().cpu().double() for x in inputs])
        assert (scene.render(inputs).cpu().double() - exact).abs().max() < bound


@pytest.mark.parametrize("name", ["vertices", "K", "world_to_camera"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("native", [True, False])
def test_nan_is_refused_by_name(name, value, native, device, monkeypatch):
    if not native:
        monkeypatch.setattr(cpu, "available", lambda: False)
    scene = small_scene()
    getattr(scene, name).view(-1)[5] = value
    with pytest.raises(ValueError, match=f"^{name} holds NaN"):
        scene.render(scene.inputs(torch.float32, device))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": torch.zeros(3, 4)}, r"vertices must have shape \(V, 3\)"),
        ({"vertices": torch.zeros(5, 20, 3)}, "do not fit 2 cameras"),
        ({"vertices": torch.zeros(20, 3, dtype=torch.float16)}, "float32 or float64"),
        ({"faces": torch.zeros(4, 4, dtype=torch.int64)}, r"faces must have shape \(F, 3\)"),
        ({"faces": torch.zeros(4, 3)}, "faces must be int32 or int64"),
        ({"faces": torch.tensor([[0, 1, 99]])}, "faces name vertices"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "faces name vertices"),
        ({"K": torch.zeros(2, 4, 4)}, "K must have shape"),
        ({"world_to_camera": torch.zeros(3, 4, 4)}, "world_to_camera must have shape"),
        ({"K": torch.zeros(2, 3, 3, dtype=torch.float64)}, "K is torch.float64"),
        ({"height": 0}, "height must be a whole number of at least 1, not 0"),
        ({"sigma": 0.0}, "sigma must be a number from 1e-20 to"),
        ({"sigma": float("nan")}, "sigma must be a number from 1e-20 to"),
    ],
)
def test_wrong_input_is_refused_by_name(change, message, device):
    scene = small_scene()
    v, K, w = (x.detach() for x in scene.inputs(torch.float32))
    args = {"vertices": v, "faces": scene.faces, "K": K, "world_to_camera": w, "height": 18, "width": 24, "sigma": 1e-3}
    args = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in {**args, **change}.items()}
    with pytest.raises(ValueError, match=message):
        ops.silhouettes(**args)


def test_no_faces_make_an_empty_image(device):
    scene = small_scene()
    scene.faces = scene.faces[:0]
    inputs = scene.inputs(torch.float32, device)
    alpha = scene.render(inputs)
    assert (alpha == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(alpha.sum(), inputs))


def test_inputs_need_not_be_contiguous(device):
    scene = small_scene()
    inputs = scene.inputs(torch.float64, device)
    odd = [x.new_empty(*x.shape[:-1], 2 * x.shape[-1])[..., ::2].copy_(x.detach()).requires_grad_() for x in inputs]
    assert not odd[0].is_contiguous()
    a, b = scene.render(inputs), scene.render(odd)
    assert torch.equal(a, b)
    upstream = torch.rand(24, 2, 18, dtype=torch.float64, device=device).permute(1, 2, 0)
    for x, y in zip(torch.autograd.grad(a, inputs, upstream), torch.autograd.grad(b, odd, upstream), strict=True):
        assert same(x, y)


def test_two_threads_may_render_at_once(device):
    """Python threads share no state in the library."""
    from concurrent.futures import ThreadPoolExecutor

    jobs = [small_scene(seed) for seed in range(8)]

    def run(scene):
        inputs = scene.inputs(torch.float32, device)
        alpha = scene.render(inputs)
        return [alpha.detach(), *torch.autograd.grad(alpha.sum(), inputs)]

    alone = [run(scene) for scene in jobs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for a, b in zip(alone, pool.map(run, jobs), strict=True):
                assert all(same(x, y) for x, y in zip(a, b, strict=True))
