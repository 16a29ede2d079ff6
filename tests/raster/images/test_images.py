"""Rendered images against their definition, in all modes, and what users rely on."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_scenes import APPEARANCES, MODES, error, gradients, picture_of, pictures
from scenes import by_threads, same_bits, small_scene

import softras
from softras.raster.images import ops as image_ops
from softras.raster.images.textures import mip_chain
from softras.raster.native import backends

QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
SMALL = {"faces": st.integers(1, 40), "sizes": st.tuples(st.integers(1, 50), st.integers(1, 40))}


@QUICK
@given(pictures(**SMALL))
def test_it_agrees_with_the_definition(picture):
    exact = picture.inputs(torch.float64)
    expected, theirs = gradients(picture, exact, defined=True)
    got, ours = gradients(picture, exact)
    for name, a, b in zip(got._fields[:2], got, expected, strict=False):
        assert a.shape == b.shape
        assert error(a.detach(), b.detach()) <= 1e-8, name
    assert (got.nearest != expected.nearest).float().mean() <= 1e-3
    for name, a, b in zip(picture.leaves, ours, theirs, strict=True):
        assert torch.isfinite(a).all(), name
        assert error(a, b) <= 1e-6, name


@pytest.mark.parametrize("appearance", APPEARANCES)
@pytest.mark.parametrize("seed", range(2))
def test_gradcheck_of_what_faces_show(appearance, seed):
    picture = picture_of(small_scene(seed), seed, appearance=appearance)
    picture.scene.height, picture.scene.width = 9, 12
    assert torch.autograd.gradcheck(lambda *x: picture.render(list(x))[:2], picture.inputs(torch.float64))


@pytest.mark.parametrize("modes", MODES, ids=lambda modes: "-".join(str(x) for x in modes.values()))
def test_gradcheck_of_the_modes(modes):
    scene = small_scene(3)
    scene.height, scene.width, scene.faces = 7, 9, scene.faces[:8]
    scene.cull = modes.pop("cull", False)
    if not modes.get("squared", True):
        scene.sigma = 0.1
    picture = picture_of(scene, 3, **modes)
    assert torch.autograd.gradcheck(lambda *x: picture.render(list(x))[:2], picture.inputs(torch.float64), atol=2e-5)


@pytest.mark.parametrize("appearance", APPEARANCES)
@pytest.mark.parametrize("modes", [{}, {"aggregation": "einstein", "distribution": "gaussian"}], ids=["plain", "other"])
def test_float32(appearance, modes):
    picture = picture_of(small_scene(1), 1, appearance=appearance, **modes)
    exact, theirs = gradients(picture, picture.inputs(torch.float64))
    got, ours = gradients(picture, picture.inputs(torch.float32))
    assert got.image.dtype == torch.float32
    for a, b in zip(got[:2], exact[:2], strict=True):
        assert error(a.detach(), b.detach()) <= 1e-5
    for name, a, b in zip(picture.leaves, ours, theirs, strict=True):
        assert error(a, b) <= 1e-4, name


@settings(QUICK, max_examples=15)
@given(pictures())
def test_any_number_of_threads_gives_the_same_bits(picture):
    def run():
        got, grads = gradients(picture, picture.inputs(torch.float32))
        return [*(x.detach() for x in got), *grads]

    first, *others = by_threads(run)
    assert all(same_bits(first, other) for other in others)


@pytest.mark.parametrize("appearance", ["attributes", "uv+lit"])
def test_opcheck(appearance, monkeypatch):
    picture, calls = picture_of(small_scene(), appearance=appearance), []
    compute = backends.compute
    monkeypatch.setattr(backends, "compute", lambda *args: calls.append(args) or compute(*args))
    picture.render(picture.inputs(torch.float64))
    args = image_ops.render.flat(*calls[0][1:])
    leaves = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x for x in args]
    torch.library.opcheck(torch.ops.softras.images.default, tuple(leaves))


def test_torch_compile_gives_the_same():
    picture = picture_of(small_scene())
    inputs = picture.inputs(torch.float64)
    compiled = torch.compile(
        lambda *x: picture.render(list(x)).image.square().sum(), backend="aot_eager", fullgraph=True
    )
    expected = picture.render(inputs).image.square().sum()
    assert torch.allclose(compiled(*inputs), expected)
    for a, b in zip(torch.autograd.grad(compiled(*inputs), inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(a, b)


def test_alpha_is_that_of_silhouettes():
    """While nothing is beyond `far`; to rounding, since images draw from front to back."""
    picture = picture_of(small_scene(), far=1e3)
    inputs = picture.inputs(torch.float32)
    torch.testing.assert_close(picture.render(inputs).alpha, picture.scene.render(inputs[:3]), rtol=0, atol=1e-6)


EYE = torch.eye(4, dtype=torch.float64)[None]
LENS = torch.tensor([[[8.0, 0, 8], [0, 8, 8], [0, 0, 1]]], dtype=torch.float64)


def square(z, size=100.0):
    """Two faces across the whole image at depth z (a number, or one for each corner)."""
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64) * size
    depth = torch.as_tensor(z, dtype=torch.float64).expand(4)[:, None]
    return torch.cat([corners * depth, depth], 1), torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_attributes_are_interpolated_in_space_not_on_the_image():
    """A slanted plane whose attribute is its own depth: 1 / z is linear on the image."""
    vertices, faces = square([2.0, 2.0, 6.0, 6.0], size=1.5)
    depth = vertices[:, 2:]
    for colour in ("softmax", "hard"):
        got = image_ops.images(vertices, faces, LENS, EYE, 16, 16, attributes=depth, gamma=1e-3, colour=colour)
        rows = (torch.arange(16) + 0.5 - 8) / 8 / 1.5  # -1 at the near edge, 1 at the far one
        expected = 1 / ((1 / 2 + 1 / 6) / 2 + rows * (1 / 6 - 1 / 2) / 2)
        assert torch.allclose(got.image[0, 0], expected.double()[:, None].expand(16, 16), rtol=1e-6)


@pytest.mark.parametrize("gamma", [1e-7, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_nearer_face_hides_the_other_for_any_gamma(gamma, dtype):
    near, faces = square(3.0)
    far, _ = square(90.0)
    vertices = torch.cat([far, near]).to(dtype).requires_grad_()
    colours = torch.tensor([[1.0, 0, 0]] * 4 + [[0.0, 1, 0]] * 4, dtype=dtype)
    got = image_ops.images(
        vertices,
        torch.cat([faces, faces + 4]),
        LENS.to(dtype),
        EYE.to(dtype),
        16,
        16,
        attributes=colours,
        gamma=gamma,
        nearest=True,
    )
    assert torch.allclose(got.image[0, 1], torch.ones(16, 16, dtype=dtype), atol=1e-3)
    assert (got.nearest >= 2).all()
    got.image.sum().backward()
    assert torch.isfinite(vertices.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_background_that_is_all_there_is_has_the_whole_gradient(dtype):
    """Whatever gamma, to which the rounding of depths is large."""
    vertices, faces = square(-3.0)
    background = torch.zeros(10, 1, dtype=dtype, requires_grad=True)
    scene = vertices.to(dtype), faces, LENS.to(dtype).repeat(10, 1, 1), EYE.to(dtype).repeat(10, 1, 1), 16, 16
    settings = {"attributes": torch.ones(4, 1, dtype=dtype), "gamma": 1e-7, "far": torch.linspace(5, 9, 10)}
    image_ops.images(*scene, background=background, **settings).image.sum().backward()
    assert background.grad.flatten().tolist() == pytest.approx([16 * 16] * 10)


def test_near_and_far_govern_alpha():
    for z, seen in ((0.5, 0.0), (2.0, 1.0), (101.0, 0.0), (-3.0, 0.0)):
        vertices, faces = square(z)
        got = image_ops.images(
            *(vertices, faces, LENS, EYE, 16, 16),
            attributes=torch.ones(4, 1).double(),
            background=0.25,
            near=1.0,
            far=100.0,
            nearest=True,
        )
        assert torch.equal((got.alpha > 0.5).double(), torch.full((1, 16, 16), seen).double())
        assert torch.allclose(got.image, torch.full((1, 1, 16, 16), 1.0 if seen else 0.25).double())
        assert (got.nearest >= 0).all() == bool(seen)


def test_many_channels_and_none():
    scene = small_scene()
    args = scene.vertices, scene.faces, scene.K, scene.world_to_camera, scene.height, scene.width
    attributes = torch.rand(20, 37, dtype=torch.float64)
    got = image_ops.images(*args, attributes=attributes, near=0.2)
    assert got.image.shape == (2, 37, 18, 24)
    alone = image_ops.images(*args, attributes=attributes[:, 20:21], near=0.2)
    assert torch.allclose(got.image[:, 20:21], alone.image)
    assert image_ops.images(*args, near=0.2).image.shape == (2, 0, 18, 24)


def test_no_faces_and_no_views():
    scene = small_scene()
    none = scene.faces[:0]
    args = scene.K, scene.world_to_camera, 5, 6
    got = image_ops.images(scene.vertices, none, *args, attributes=scene.vertices, background=0.5, nearest=True)
    assert (got.alpha == 0).all() and (got.image == 0.5).all() and (got.nearest == -1).all()
    args = scene.K[:0], scene.world_to_camera[:0], 5, 6
    got = image_ops.images(scene.vertices, scene.faces, *args, attributes=scene.vertices)
    assert got.image.shape == (0, 3, 5, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0.0}, "gamma must be a number from 1e-07 to 1e\\+06, not 0.0"),
        ({"gamma": 1e-9}, "gamma must be a number from 1e-07"),
        ({"sigma": -1.0}, "sigma must be"),
        ({"gamma": None}, "gamma must be a number .*, not None"),
        ({"far": 0.1}, "far must be finite and greater than near"),
        ({"far": float("inf")}, "far must be finite and at most 1e\\+15"),
        ({"far": torch.ones(3)}, r"far must be one number or have shape \(2,\), not \(3,\)"),
        ({"near": 0.0}, "near must be positive, unless a camera is orthographic"),
        ({"orthographic": torch.zeros(3).bool()}, r"orthographic must have shape \(2,\), not \(3,\)"),
        ({"attribute_faces": torch.zeros(12, 3)}, "attribute_faces must be int32 or int64, not torch.float32"),
        ({"attribute_faces": torch.full((12, 3), 99)}, "attribute_faces name attributes that do not exist"),
        ({"texture": torch.zeros(12, 4, 3).numpy()}, "texture must be a tensor, not ndarray"),
        ({"distance": "round"}, "distance must be one of euclidean, barycentric, hard, not 'round'"),
        ({"distribution": "normal"}, "there is no distribution 'normal'; choose one of heaviside"),
        ({"aggregation": "or"}, "there is no T-conorm 'or'; choose one of hard"),
        ({"aggregation": "yager"}, "needs its parameter p"),
        ({"colour": "soft"}, "colour must be softmax or hard, not 'soft'"),
        ({"dist_eps": 0.7}, "dist_eps must be a number from 1e-12 to 0.499"),
        ({"attributes": torch.zeros(20, 3)}, "attributes must be torch.float64 on cpu"),
        ({"attributes": torch.zeros(3, 20, 3).double()}, r"attributes must have shape \(A, C\) or \(2, A, C\)"),
        ({"attributes": torch.full((20, 3), torch.nan).double()}, "the attributes hold NaN or infinite numbers"),
        ({"attributes": torch.zeros(5, 3).double()}, "attributes have 5 rows, but the mesh has 20 vertices"),
        (
            {
                "attributes": torch.zeros(5, 2).double(),
                "attribute_faces": torch.full((12, 3), 5),
                "texture": mip_chain(torch.zeros(4, 4, 3).double()),
            },
            "do not exist",
        ),
        ({"background": torch.zeros(7).double()}, "the background must have 3 channels"),
        ({"texture": torch.zeros(12, 5, 3).double()}, "a surface texture must have shape"),
        ({"texture": torch.zeros(11, 4, 3).double()}, "the texture must have texels of 12 faces"),
        ({"lit": True}, "lit needs a texture"),
        ({"wrap": "tile"}, "wrap must be one of repeat, clamp, mirror"),
    ],
)
def test_refusals(change, message):
    scene = small_scene()
    args = scene.vertices, scene.faces, scene.K, scene.world_to_camera, scene.height, scene.width
    with pytest.raises(ValueError, match=message):
        image_ops.images(*args, **{"attributes": scene.vertices, "near": 0.2, **change})


def test_an_index_is_refused_wherever_its_face_is():
    """Off-screen, and hidden by another."""
    wall = torch.tensor([[-99.0, -99, 2], [199, -99, 2], [-99, 199, 2]])
    for far in (torch.tensor([[90.0, 0, 2], [91, 0, 2], [90, 1, 2]]), 3 * wall):
        vertices, faces = torch.cat([wall, far]), torch.arange(6).view(2, 3)
        scene = vertices, faces, LENS.float(), EYE.float(), 16, 16
        for wrong in (faces.where(faces < 5, 6), faces.where(faces < 5, -1)):
            with pytest.raises(ValueError, match="attribute_faces name attributes that do not exist"):
                softras.images(*scene, attributes=vertices, attribute_faces=wrong, far=100.0)


@pytest.mark.parametrize("one", [{"height": 16.0}, {"vertices": [[0, 0, 0]]}, {"K": EYE[:, :3, :3][0].float()}])
def test_what_is_no_scene_is_refused(one):
    scene = {"vertices": torch.zeros(3, 3), "faces": torch.zeros(1, 3).long(), "K": LENS.float()}
    scene |= {"world_to_camera": EYE.float(), "height": 16, "width": 16}
    for render in (softras.images, softras.silhouettes):
        with pytest.raises(ValueError, match=f"^{next(iter(one))}.* must "):
            render(**{**scene, **one})


def test_it_differentiates_once_and_says_so():
    picture = picture_of(small_scene())
    inputs = picture.inputs(torch.float64)
    (gradient,) = torch.autograd.grad(picture.render(inputs).image.sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        gradient.square().sum().backward()


def test_the_public_name():
    assert softras.images is image_ops.images
