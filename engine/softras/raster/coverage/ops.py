"""Exact coverage as torch operators: `softras::coverage`, with autograd and fake kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import arguments, operands, transforms
from ..native import coverage_cpu as cpu
from ..silhouettes import ops
from ..silhouettes.jacobian import Jacobian
from ..silhouettes.jacobian import _check as check_tangents
from . import reference


def coverage(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
) -> Tensor:
    """The area of a mesh's silhouette inside each pixel of N cameras: exact anti-aliasing, with exact gradients.

    Differentiable with respect to `vertices`, `K` and `world_to_camera`. Nothing is blurred, so the true pose of a mesh
    is the best match of its own silhouette; only pixels that the outline passes through have a gradient, so that a
    search from afar begins with :func:`softras.silhouettes`.

    The silhouette is the union of the projected faces, clipped at `near`. Faces may be open, overlap, or be turned
    either way. Vertices in exactly one place are one vertex, whose gradient they share equally. The same bits for any
    number of threads. Memory: O(faces + pixels + pixels of the outline). Where so many edges cross that samples cost
    less, as in a heap of triangles, 8 x 8 samples a pixel are taken, and a RuntimeWarning says so.

    Args:
        vertices, faces, K, world_to_camera, height, width, orthographic, near, cull: as in :func:`softras.silhouettes`.

    Returns:
        (N, H, W) in [0, 1], row 0 on top, dtype of `vertices`.

    Raises:
        ValueError: as :func:`softras.silhouettes`.
    """
    args = _checked(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)
    if vertices.device.type == "cpu" and not cpu.cpu.available():
        transforms.refuse("rendering without the native library")
        ops.check_values(vertices, faces, K, world_to_camera)
        return reference.coverage(*args)
    if transforms.active():
        return _Transformed.apply(*args)[0]
    return _coverage(*args) if ops.dispatches(vertices) else _Eager.apply(*args)


def coverage_jacobian(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    d_vertices: Tensor | None,
    d_K: Tensor | None = None,
    d_world_to_camera: Tensor | None = None,
    *,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
) -> Jacobian:
    """Exact coverage and its derivatives with respect to P parameters, for Gauss-Newton and Levenberg-Marquardt.

    The forward mode of :func:`softras.coverage`, as :func:`softras.silhouettes_jacobian` is that of the soft
    silhouettes: derivatives of vertices (V, 3, P) or (N, V, 3, P), K (N, 3, 3, P) and world_to_camera (N, 4, 4, P) go
    in, None for zero. Rows are given for the pixels that the outline passes through; all others do not change.

    Raises:
        ValueError: what `coverage` refuses, and derivatives of a wrong shape, dtype or device, or none at all.
    """
    transforms.refuse("softras.coverage_jacobian")
    args = _checked(
        vertices.detach(), faces, K.detach(), world_to_camera.detach(), height, width, orthographic, near, cull
    )
    tangents = [None if x is None else x.detach() for x in (d_vertices, d_K, d_world_to_camera)]
    parameters = check_tangents(args, tangents)
    alpha, kept = cpu.coverage(*_on_cpu(*args, True))
    assert kept is not None
    pixels, rows = cpu.coverage_jacobian(kept, *_on_cpu(*args, parameters, *tangents))
    return Jacobian(*(x.to(vertices.device) for x in (alpha, pixels, rows)))


def _checked(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull) -> tuple:
    v, f, k, w, h, wd, _, ortho, nears, culled = arguments.scene(
        vertices, faces, K, world_to_camera, height, width, 1.0, orthographic, near, cull
    )
    return v, f, k, w, h, wd, ortho, nears, culled


def _on_cpu(*inputs: Any) -> list[Any]:
    """Copies on the CPU of what is elsewhere, without gradients."""
    if inputs[0].device.type == "cpu" and not torch.is_grad_enabled():
        return list(inputs)
    return [x.detach().cpu() if isinstance(x, Tensor) else x for x in inputs]


class _Eager(torch.autograd.Function):
    """The operator without the dispatcher; what the forward pass found is kept for the backward pass."""

    @staticmethod
    def forward(ctx, *inputs):
        keep = any(ctx.needs_input_grad)
        alpha, ctx.kept = cpu.coverage(*_on_cpu(*inputs, keep))
        vertices, faces, K, world_to_camera, _, _, orthographic, near, ctx.cull = inputs
        ctx.save_for_backward(vertices, faces, K, world_to_camera, orthographic, near)
        return alpha.to(vertices.device)

    @staticmethod
    def backward(ctx, grad_alpha):
        if torch.is_grad_enabled() or transforms.active(grad_alpha):
            return _gradients(ctx, grad_alpha)
        grads = cpu.coverage_backward(grad_alpha.cpu(), ctx.kept, *_on_cpu(*ctx.saved_tensors, ctx.cull))
        gv, gk, gw = (g.to(grad_alpha.device) for g in grads)
        return gv, None, gk, gw, None, None, None, None, None


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms; in forward mode it is refused."""

    @staticmethod
    def forward(*inputs):
        arguments.check_near(inputs[7], inputs[6])  # which under vmap had no one value before
        return (_coverage(*inputs),)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad_alpha):
        return _gradients(ctx, grad_alpha)

    @staticmethod
    def jvp(ctx, *tangents):
        transforms.refuse_forward_mode("softras.coverage")


class _Gradients(transforms.Derivative):
    operator = "softras.coverage"

    @staticmethod
    def forward(*inputs):
        return _coverage_backward(*inputs)


def _gradients(ctx, grad_alpha):
    """The gradients where somebody may transform them or differentiate them again."""
    gv, gk, gw = _Gradients.apply(grad_alpha, *ctx.saved_tensors, ctx.cull)
    return gv, None, gk, gw, None, None, None, None, None


@torch.library.custom_op("softras::coverage", mutates_args=())
def _coverage(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> Tensor:
    inputs = _checked(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)
    return cpu.coverage(*_on_cpu(*inputs, False))[0].to(vertices.device)


@_coverage.register_fake
def _(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull):
    return vertices.new_empty(K.shape[0], height, width)


@torch.library.custom_op("softras::coverage_backward", mutates_args=())
def _coverage_backward(
    grad_alpha: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    size = operands.sized("grad_alpha", grad_alpha, len(K))
    inputs = _checked(vertices, faces, K, world_to_camera, *size, orthographic, near, cull)
    operands.fitting("grad_alpha", grad_alpha, (len(K), *size), vertices)
    _, kept = cpu.coverage(*_on_cpu(*inputs, True))
    assert kept is not None
    grads = cpu.coverage_backward(grad_alpha.detach().cpu(), kept, *_on_cpu(*inputs[:4], *inputs[6:]))
    gv, gk, gw = (g.to(vertices.device) for g in grads)
    return gv, gk, gw


@_coverage_backward.register_fake
def _(grad_alpha, vertices, faces, K, world_to_camera, orthographic, near, cull):
    return vertices.new_empty(vertices.shape), K.new_empty(K.shape), world_to_camera.new_empty(world_to_camera.shape)


_coverage_backward.register_autograd(transforms.refuse_twice("softras.coverage"))


def _save(ctx, inputs, output) -> None:
    vertices, faces, K, world_to_camera, _, _, orthographic, near, ctx.cull = inputs
    ctx.save_for_backward(vertices, faces, K, world_to_camera, orthographic, near)


def _backward(ctx, grad_alpha):
    gv, gk, gw = _coverage_backward(grad_alpha, *ctx.saved_tensors, ctx.cull)
    return gv, None, gk, gw, None, None, None, None, None


_coverage.register_autograd(_backward, setup_context=_save)
