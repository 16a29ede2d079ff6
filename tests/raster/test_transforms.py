"""torch.func over the operators: what grad, vjp, jacrev, vmap and jvp give is what plain calls give, or is refused."""

import subprocess
import sys

import pytest
import torch
import trimesh
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

import softras
from softras.raster.native import cpu

HEIGHT, WIDTH = 10, 12
BALL = trimesh.creation.icosphere(0)
V, F = torch.tensor(BALL.vertices), torch.tensor(BALL.faces)
K = softras.perspective(torch.tensor(50.0, dtype=torch.float64), HEIGHT, WIDTH)[None].repeat(2, 1, 1)
CAMERAS = torch.stack([softras.look_at(torch.tensor(eye).double()) for eye in ([3.0, 0.5, 1.0], [0.2, -3.0, -0.5])])
RANDOM = torch.Generator().manual_seed(0)
COLOURS = torch.rand(len(V), 2, generator=RANDOM, dtype=torch.float64)
SIZES = torch.tensor([0.7, 0.9, 1.2], dtype=torch.float64)


def silhouettes(vertices, K=K, cameras=CAMERAS, **modes):
    return softras.silhouettes(vertices, F, K, cameras, HEIGHT, WIDTH, sigma=1e-2, **modes)


def coverage(vertices, K=K, cameras=CAMERAS, **modes):
    return softras.coverage(vertices, F, K, cameras, HEIGHT, WIDTH, **modes)


def images(vertices, K=K, cameras=CAMERAS, colours=COLOURS, background=(0.2, 0.9), **modes):
    modes = {"attributes": colours, "background": background, "sigma": 1e-2, "gamma": 1e-1} | modes
    found = softras.images(vertices, F, K, cameras, HEIGHT, WIDTH, **modes)
    return torch.cat([found.alpha[:, None], found.image], dim=1)


each = pytest.mark.parametrize("render", [silhouettes, images, coverage], ids=lambda render: render.__name__)


def loss_of(render):
    """A number of a rendering that weighs every pixel differently."""

    def loss(*inputs):
        found = render(*inputs)
        return (found * torch.arange(found.numel(), dtype=found.dtype).view(found.shape).cos()).sum()

    return loss


def backward(render, *inputs):
    """Gradients as `.backward()` gives them."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    loss_of(render)(*leaves).backward()
    return tuple(leaf.grad for leaf in leaves)


def same(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@each
def test_grad_and_vjp_give_the_gradients_of_backward(render) -> None:
    inputs = (V, K, CAMERAS)
    wanted = backward(render, *inputs)
    assert wanted[0].abs().max() > 1e-3
    assert same(grad(loss_of(render), argnums=(0, 1, 2))(*inputs), wanted)
    assert same(vjp(loss_of(render), *inputs)[1](torch.tensor(1.0).double()), wanted)


def test_grad_of_what_faces_show_and_of_the_background() -> None:
    inputs = (V, K, CAMERAS, COLOURS, torch.tensor([0.2, 0.9]).double())
    assert same(grad(loss_of(images), argnums=(0, 3, 4))(*inputs), [backward(images, *inputs)[k] for k in (0, 3, 4)])

    def textured(texture):
        return images(V, colours=COLOURS, texture=softras.mip_chain(texture), background=0.5)

    texture = torch.rand(4, 6, 3, generator=RANDOM, dtype=torch.float64)
    assert same(grad(loss_of(textured))(texture)[None], backward(textured, texture))
    several = torch.stack([texture, 1 - texture])
    assert same(vmap(textured)(several), [textured(one) for one in several])


@each
def test_jacrev_has_the_gradient_of_each_pixel(render) -> None:
    def pixels(vertices):
        return render(vertices)[0, ..., 1:4, 4:6]

    x = V.clone().requires_grad_()
    flat = pixels(x).flatten()
    wanted = torch.stack([torch.autograd.grad(pixel, x, retain_graph=True)[0] for pixel in flat])
    assert wanted.abs().max() > 1e-3
    assert torch.equal(jacrev(pixels)(V).reshape(wanted.shape), wanted)
    older = torch.autograd.grad(flat, x, torch.eye(len(flat)).double(), is_grads_batched=True, retain_graph=True)[0]
    assert torch.equal(older, wanted)
    vectorized = torch.autograd.functional.jacobian(pixels, V, vectorize=True)
    assert torch.equal(vectorized.reshape(wanted.shape), wanted)


@each
def test_vmap_is_a_loop(render) -> None:
    meshes = V * SIZES[:, None, None]
    assert same(vmap(render)(meshes), [render(mesh) for mesh in meshes])
    assert same(vmap(render, in_dims=1, out_dims=-1)(meshes.movedim(0, 1)).movedim(-1, 0), vmap(render)(meshes))
    cameras = CAMERAS[:, None]
    by_camera = vmap(lambda camera: render(V, K[:1], camera))(cameras)
    assert same(by_camera, [render(V, K[:1], camera) for camera in cameras])
    nested = vmap(lambda mesh: vmap(lambda size: render(mesh * size))(SIZES[:2]))(meshes)
    assert same(nested.flatten(0, 1), [render(mesh * size) for mesh in meshes for size in SIZES[:2]])
    assert vmap(render)(meshes[:0]).shape == (0, *render(V).shape)


def test_vmap_over_faces() -> None:
    faces = torch.stack([F, F.flip(0), F.roll(1, 0)])
    found = vmap(lambda one: softras.silhouettes(V, one[:9], K, CAMERAS, HEIGHT, WIDTH))(faces)
    assert same(found, [softras.silhouettes(V, one[:9], K, CAMERAS, HEIGHT, WIDTH) for one in faces])


@each
def test_grad_inside_vmap_and_vmap_inside_grad(render) -> None:
    meshes = V * SIZES[:, None, None]
    singly = [backward(render, mesh, K, CAMERAS) for mesh in meshes]
    found = vmap(grad(loss_of(render), argnums=(0, 2)), in_dims=(0, None, None))(meshes, K, CAMERAS)
    assert same(found[0], [one[0] for one in singly])
    assert same(found[1], [one[2] for one in singly])
    assert same(grad(lambda x: vmap(loss_of(render))(x).sum())(meshes), [one[0] for one in singly])


def test_forward_mode_of_silhouettes_is_its_jacobian() -> None:
    def pixels(*inputs):
        return silhouettes(*inputs)[:, 3:5, 4:6]

    inputs, motions = (V, K, CAMERAS), (V.cos(), K.cos(), CAMERAS.cos())
    wanted = sum((j * d).flatten(3).sum(3) for j, d in zip(jacrev(pixels, (0, 1, 2))(*inputs), motions, strict=True))
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(jvp(pixels, inputs, motions)[1], wanted)
    torch.testing.assert_close(jacfwd(pixels)(V), jacrev(pixels)(V))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(V, motions[0])
        found = torch.autograd.forward_ad.unpack_dual(pixels(dual)).tangent
    torch.testing.assert_close(found, jvp(pixels, (V,), motions[:1])[1])


@pytest.mark.parametrize("render", [images, coverage])
def test_forward_mode_of_the_others_is_refused(render) -> None:
    with pytest.raises(RuntimeError, match=f"softras.{render.__name__} has no forward mode .* use reverse mode"):
        jvp(render, (V,), (V,))


@each
@pytest.mark.parametrize(
    "twice",
    [
        lambda loss: grad(lambda x: grad(loss)(x).square().sum()),
        lambda loss: jacrev(jacrev(loss)),
        lambda loss: lambda x: torch.autograd.functional.hessian(loss, x),
        hessian,
    ],
)
def test_second_derivatives_are_refused(render, twice) -> None:
    with pytest.raises(RuntimeError, match=r"once, not twice|has no forward mode"):
        twice(loss_of(render))(V)


def test_a_module_called_with_other_parameters() -> None:
    class Offset(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = torch.nn.Parameter(torch.zeros_like(V))

        def forward(self, vertices):
            return silhouettes(vertices + self.offset)

    module = Offset()
    found = grad(lambda offset: loss_of(lambda x: functional_call(module, {"offset": offset}, (x,)))(V))
    assert same(found(torch.zeros_like(V))[None], backward(silhouettes, V))


@each
def test_a_traced_rendering_follows_its_inputs(render) -> None:
    """A tracer that saw no operator would keep the picture of the tensors it was shown."""
    for function in (lambda x: render(x), grad(loss_of(render))):
        assert torch.equal(make_fx(function)(V)(V * 1.1), function(V * 1.1))


def test_the_compiler_leaves_transforms_to_plain_calls() -> None:
    function = grad(loss_of(silhouettes))
    assert torch.equal(torch.compile(function, backend="eager")(V), function(V))
    torch.compiler.reset()
    with pytest.raises(Exception, match="torch.compile cannot trace transforms of softras's operators"):
        torch.compile(function, backend="eager", fullgraph=True)(V)


def test_a_fit_does_not_load_the_compiler() -> None:
    """Which takes as long as all of PyTorch, at each start of an engine, and makes a folder for its cache.

    Nor sympy, which some of PyTorch's small functions load.
    """
    code = (
        "import sys, numpy as np, softras\n"
        "camera = softras.Camera(np.array([[40, 0, 16], [0, 40, 16], [0, 0, 1.0]]), np.eye(4), 32, 32)\n"
        "mask = np.zeros((32, 32)); mask[10:20, 12:22] = 1\n"
        "mesh = softras.Mesh(np.array([[-1, -1, 5], [1, -1, 5], [0, 1, 5.0]]), np.array([[0, 1, 2]]))\n"
        "views = [softras.View('front', camera, mask)]\n"
        "softras.fit(mesh, views, schedule=[{'resolution': 32, 'steps': 2}])\n"
        "softras.fit(mesh, views, optimize='object', turns=0)\n"
        "print(*[name for name in sys.modules if name.startswith(('torch._dynamo', 'torch._inductor', 'sympy'))])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == "", ran.stderr + ran.stdout


def test_bad_values_are_refused_under_vmap_too() -> None:
    broken = torch.stack([V, V.where(V.max() > V, torch.nan)])
    for render in (silhouettes, images, coverage):
        with pytest.raises(ValueError, match="vertices holds NaN"):
            vmap(render)(broken)
        with pytest.raises(ValueError, match="near must be positive"):
            vmap(lambda near, render=render: render(V, near=near))(torch.tensor([0.1, -0.1]))
    with pytest.raises(ValueError, match="far must be finite and greater than near"):
        vmap(lambda far: images(V, near=1.0, far=far))(torch.tensor([5.0, 0.5]))


def test_hard_colours_have_gradients_and_no_vmap() -> None:
    def shown(vertices):
        return images(vertices, colour="hard")

    assert same(grad(loss_of(shown))(V)[None], backward(shown, V))
    with pytest.raises(ValueError, match="torch.func.vmap is not possible over .*colour='hard'.*: give all views to"):
        vmap(shown)(V[None])


def test_what_plain_pytorch_renders_is_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="softras_compat or without the native library is not possible inside the tra"):
        grad(loss_of(lambda x: images(x, softras_compat=True)))(V)
    monkeypatch.setattr(cpu, "_AVAILABLE", False)
    for render in (silhouettes, images, coverage):
        with pytest.raises(ValueError, match="without the native library is not possible inside the transforms"):
            grad(loss_of(render))(V)


@pytest.mark.parametrize("jacobian", [softras.silhouettes_jacobian, softras.coverage_jacobian])
@pytest.mark.parametrize("transform", [grad, vmap])
def test_a_jacobian_inside_a_transform_is_refused(jacobian, transform) -> None:
    def rows(vertices):
        return jacobian(vertices, F, K, CAMERAS, HEIGHT, WIDTH, V[..., None]).rows.sum()

    with pytest.raises(
        ValueError, match=f"softras.{jacobian.__name__} is not possible inside the transforms of torch.func"
    ):
        transform(rows)(V[None])
