"""Soft silhouettes as operators of PyTorch: `softras::silhouettes`, its gradients and its forward mode.

Three thin layers: this file checks and registers, `reference.py` is the definition, the backends in `raster/native`
compute. Where no native library loads, `silhouettes` runs the definition itself.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .. import arguments, operands, transforms
from ..native import backends
from ..operators import dispatches, operator
from ..scene import Scene, Tangents
from . import reference


def silhouettes(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    sigma: float = 1e-5,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
) -> Tensor:
    """Soft silhouettes of a mesh in N cameras (SoftRas: euclidean distance, sigmoid, product).

    Differentiable, once, with respect to `vertices`, `K` and `world_to_camera`, in reverse and in forward mode. Exact:
    every face counts at every pixel within its cut-off distance, except where the pixel is already opaque to within
    1e-8 (float32) or 1e-16 (float64). Memory: O(faces + pixels), however many faces lie over each other; on the CPU for
    one view per thread, on a GPU see docs/cuda.md.

    Args:
        vertices: (V, 3) shared by all views, or (N, V, 3); float32 or float64, scene units.
        faces: (F, 3) integer vertex indices.
        K: (N, 3, 3) intrinsics in pixels, (0, 0) at the top-left corner; rows 0 and 1 are used.
        world_to_camera: (N, 4, 4), OpenCV axes (x right, y down, z forward).
        height, width: image size in pixels.
        sigma: blur, in squared NDC (the shorter image side spans 2). A blur of c pixels is (2 c / min(H, W))^2.
        orthographic: (N,) bool, default all perspective. K then has pixels per scene unit.
        near: (N,) or a number: geometry with z <= near is clipped away, from alpha too.
        cull: leave out faces that show their back (for closed meshes whose faces are oriented outwards).

    Returns:
        (N, H, W) alpha in [0, 1], row 0 on top, dtype of `vertices`.

    Raises:
        ValueError: a wrong shape, dtype or device, a face index out of range, NaN or infinite input, a number out of
            range (sigma: 1e-20 to 1e10), or a sigma or near that asks for a gradient.
    """
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)
    sigma = arguments.number("sigma", sigma, *arguments.SIGMA)
    if not backends.computes("silhouettes", vertices.device):
        transforms.refuse("rendering without the native library")
        arguments.check_values(scene)
        return reference.silhouettes(scene, sigma)
    if transforms.active():
        return _Transformed.apply(*render.flat(scene, sigma))[0]
    if dispatches(vertices):
        return render(scene, sigma)[0]
    return _Eager.apply(*render.flat(scene, sigma))


class _Eager(torch.autograd.Function):
    """The operator as an autograd function of plain tensors, without the 100 microseconds of PyTorch's dispatcher."""

    @staticmethod
    def forward(ctx, *inputs):
        alpha, transmittance = backends.compute("silhouettes", *render.packed(inputs))
        render.save(ctx, inputs, transmittance)
        return alpha

    @staticmethod
    def backward(ctx, grad_alpha):
        if torch.is_grad_enabled() or transforms.active(grad_alpha):
            return _watched_gradients(ctx, grad_alpha)
        return _gradients(ctx, grad_alpha, functools.partial(backends.compute, "silhouettes_backward"))


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms and in forward mode."""

    @staticmethod
    def forward(*inputs):
        scene, sigma = render.packed(inputs)
        arguments.check_near(scene.near, scene.orthographic)  # under vmap the values can be read only here
        return render(scene, sigma)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, transmittance = output
        ctx.mark_non_differentiable(transmittance)
        _save(ctx, inputs, output)
        ctx.save_for_forward(*ctx.to_save)

    @staticmethod
    def backward(ctx, grad_alpha, _):
        return _watched_gradients(ctx, grad_alpha)

    @staticmethod
    def jvp(ctx, *tangents):
        (scene, sigma), (transmittance,) = render.saved(ctx)
        moves, _ = render.packed(tangents)
        moves = Tangents(moves.vertices, moves.K, moves.world_to_camera)
        return *_Tangent.apply(*render_jacobian.flat(scene, sigma, transmittance, None, moves)), None


class _Tangent(transforms.Derivative):
    """The derivative of alpha, (N, H, W), by one parameter: `silhouettes_jacobian` for every pixel with P = 1."""

    operator = "softras.silhouettes"

    @staticmethod
    def forward(*inputs):
        scene, sigma, transmittance, _, moves = render_jacobian.packed(inputs)
        by_one = Tangents(*(None if x is None else x[..., None] for x in moves))
        pixels = torch.arange(transmittance.numel(), device=transmittance.device)
        return (render_jacobian(scene, sigma, transmittance, pixels, by_one).view(transmittance.shape),)


@operator("softras::silhouettes")
def render(scene: Scene, sigma: float) -> tuple[Tensor, Tensor]:
    """Alpha and transmittance, (N, H, W)."""
    return backends.compute("silhouettes", arguments.scene(*scene), arguments.number("sigma", sigma, *arguments.SIGMA))


@render.fake
def _(scene, sigma):
    return scene.vertices.new_empty(scene.size), scene.vertices.new_empty(scene.size)


@operator("softras::silhouettes_backward")
def render_backward(
    scene: Scene, sigma: float, transmittance: Tensor, grad_alpha: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera."""
    scene, sigma = arguments.scene(*scene), arguments.number("sigma", sigma, *arguments.SIGMA)
    operands.fitting("transmittance", transmittance, scene.size, scene.vertices)
    operands.fitting("grad_alpha", grad_alpha, scene.size, scene.vertices)
    return backends.compute("silhouettes_backward", scene, sigma, transmittance, grad_alpha)


@render_backward.fake
def _(scene, sigma, transmittance, grad_alpha):
    return scene.empty_gradients()


@operator("softras::silhouettes_jacobian")
def render_jacobian(scene: Scene, sigma: float, transmittance: Tensor, pixels: Tensor, tangents: Tangents) -> Tensor:
    """(M, P) the derivatives of alpha at M pixels, which are indices of `alpha.flatten()`."""
    scene, sigma = arguments.scene(*scene), arguments.number("sigma", sigma, *arguments.SIGMA)
    operands.fitting("transmittance", transmittance, scene.size, scene.vertices)
    operands.check_pixels(pixels, transmittance.numel())
    return backends.compute(
        "silhouettes_jacobian", scene, sigma, transmittance, pixels, arguments.tangents(scene, *tangents)
    )


@render_jacobian.fake
def _(scene, sigma, transmittance, pixels, tangents):
    return scene.vertices.new_empty(pixels.shape[0], tangents.parameters)


def _save(ctx, inputs, output) -> None:
    _, transmittance = output
    render.save(ctx, inputs, transmittance)


def _gradients(ctx, grad_alpha, backward):
    (scene, sigma), (transmittance,) = render.saved(ctx)
    gv, gk, gw = backward(scene, sigma, transmittance, grad_alpha)
    return render.gradients(vertices=gv, K=gk, world_to_camera=gw)


@transforms.untraced  # the tensors of a transform are wrapped, which the compiler does not expect here
def _watched_gradients(ctx, grad_alpha):
    return _gradients(ctx, grad_alpha, lambda *args: _Gradients.apply(*render_backward.flat(*args)))


def _backward(ctx, grad_alpha, grad_transmittance):  # callers never get the transmittance: its gradient is zero
    return _gradients(ctx, grad_alpha, render_backward)


render.differentiate(_backward, _save)
render_backward.differentiate(transforms.refuse_twice("softras.silhouettes"))
_Gradients = transforms.derivative_of("softras.silhouettes", render_backward)
