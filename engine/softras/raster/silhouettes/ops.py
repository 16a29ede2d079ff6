"""The rasterizer as torch operators: `softras::silhouettes`, with autograd and fake kernels.

Three thin layers: this file checks and registers, `reference.py` defines, `cpu.py` and `cuda.py` compute. Tensors on a
GPU whose CUDA kernels do not start go through `cpu.py`. Where no native library loads either, `silhouettes` runs the
definition itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from .. import arguments, operands, transforms
from ..native import cpu, cuda
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
    every face that reaches a pixel counts, except where the pixel is already opaque to within 1e-8 (float32) or 1e-16
    (float64).
    Memory: O(faces + pixels), whatever the overdraw; on the CPU of one view per thread, on a GPU see docs/cuda.md.

    Args:
        vertices: (V, 3) shared by all views, or (N, V, 3); float32 or float64, scene units.
        faces: (F, 3) integer vertex indices.
        K: (N, 3, 3) intrinsics in pixels, (0, 0) at the top-left corner; rows 0 and 1 are used.
        world_to_camera: (N, 4, 4), OpenCV axes (x right, y down, z forward).
        height, width: image size in pixels.
        sigma: blur, in squared NDC (the shorter image side spans 2). A blur of c pixels is (2 c / min(H, W))^2.
        orthographic: (N,) bool, default all perspective. K then has pixels per scene unit.
        near: (N,) or a number: geometry with z <= near is clipped away, from alpha too.
        cull: drop faces seen from behind (closed, outward-oriented meshes only).

    Returns:
        (N, H, W) alpha in [0, 1], row 0 on top, dtype of `vertices`.

    Raises:
        ValueError: a wrong shape, dtype or device, a face index out of range, NaN or infinite input, a number out of
            range (sigma: 1e-20 to 1e10), or a sigma or near that asks for a gradient.
    """
    args = arguments.scene(vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull)
    if not computes(vertices):
        transforms.refuse("rendering without the native library")
        check_values(vertices, faces, K, world_to_camera)
        return reference.silhouettes(*args)
    if transforms.active():
        return _Transformed.apply(*args)[0]
    return _silhouettes(*args)[0] if dispatches(vertices) else _Eager.apply(*args)


def computes(tensor: Tensor) -> bool:
    """Whether a backend is there for the tensor; else the definition itself runs."""
    return cpu.available() or _on_gpu(tensor)


def dispatches(tensor: Tensor) -> bool:
    """Whether torch's dispatcher must see the operator: in a compiler or tracer, or for tensors that are not plain."""
    return arguments.traced() or type(tensor) not in (Tensor, torch.nn.Parameter)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda" and cuda.available(tensor.device)


def compute(name: str, *args, on_cpu: ModuleType = cpu, on_gpu: ModuleType = cuda):
    """The function of that name of the backend that the tensors are for."""
    if args[0].device.type == "cpu":
        return getattr(on_cpu, name)(*args)
    return getattr(on_gpu, name)(*args) if _on_gpu(args[0]) else _by_copies(getattr(on_cpu, name), *args)


def _by_copies(function: Callable, *args):
    """A function of the CPU's backend on copies of the tensors."""
    copies = [x.cpu() if isinstance(x, Tensor) else x for x in args]
    results = function(*copies)
    if isinstance(results, Tensor):
        return results.to(args[0].device)
    return tuple(x.to(args[0].device) for x in results)


class _Eager(torch.autograd.Function):
    """The operator below without the dispatcher's 100 microseconds, for plain tensors outside a compiler."""

    @staticmethod
    def forward(ctx, *inputs):
        outputs = compute("silhouettes", *inputs)
        _save(ctx, inputs, outputs)
        return outputs[0]

    @staticmethod
    def backward(ctx, grad_alpha):
        watched = torch.is_grad_enabled() or transforms.active(grad_alpha)
        gradients = _Gradients.apply if watched else functools.partial(compute, "silhouettes_backward")
        return _gradients(ctx, grad_alpha, gradients)


class _Transformed(transforms.Transformable):
    """The operator under torch.func's transforms and in forward mode."""

    @staticmethod
    def forward(*inputs):
        arguments.check_near(inputs[8], inputs[7])  # which under vmap had no one value before
        return _silhouettes(*inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        _save(ctx, inputs, output)
        ctx.save_for_forward(output[1], *inputs[:4], *inputs[7:9])

    @staticmethod
    def backward(ctx, grad_alpha, _):
        return _gradients(ctx, grad_alpha, _Gradients.apply)

    @staticmethod
    def jvp(ctx, d_vertices, _faces, d_K, d_world_to_camera, *_):
        transmittance, vertices, faces, K, world_to_camera, orthographic, near = ctx.saved_tensors
        scene = vertices, faces, K, world_to_camera, ctx.sigma, orthographic, near, ctx.cull
        return *_Tangent.apply(transmittance, *scene, d_vertices, d_K, d_world_to_camera), None


class _Gradients(transforms.Derivative):
    """The gradients where somebody may transform them or differentiate them again."""

    operator = "softras.silhouettes"

    @staticmethod
    def forward(*inputs):
        return _silhouettes_backward(*inputs)


class _Tangent(transforms.Derivative):
    """How alpha (N, H, W) follows one parameter, as `silhouettes_jacobian` has it with P = 1."""

    operator = "softras.silhouettes"

    @staticmethod
    def forward(transmittance, *inputs):
        from . import jacobian  # whose operator it is, and which imports this module

        *scene, d_vertices, d_K, d_world_to_camera = inputs
        tangents = [None if x is None else x[..., None] for x in (d_vertices, d_K, d_world_to_camera)]
        pixels = torch.arange(transmittance.numel(), device=transmittance.device)
        rows = jacobian._silhouettes_jacobian(transmittance, pixels, *scene, 1, *tangents)
        return (rows.view(transmittance.shape),)


@torch.library.custom_op("softras::silhouettes", mutates_args=())
def _silhouettes(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> tuple[Tensor, Tensor]:
    modes = sigma, orthographic, near, cull
    return compute("silhouettes", *arguments.scene(vertices, faces, K, world_to_camera, height, width, *modes))


@_silhouettes.register_fake
def _(vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull):
    return vertices.new_empty(K.shape[0], height, width), vertices.new_empty(K.shape[0], height, width)


@torch.library.custom_op("softras::silhouettes_backward", mutates_args=())
def _silhouettes_backward(
    grad_alpha: Tensor,
    transmittance: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    size = operands.sized("transmittance", transmittance, len(K))
    args = arguments.scene(vertices, faces, K, world_to_camera, *size, sigma, orthographic, near, cull)
    for name, tensor in (("transmittance", transmittance), ("grad_alpha", grad_alpha)):
        operands.fitting(name, tensor, (len(K), *size), vertices)
    return compute("silhouettes_backward", grad_alpha, transmittance, *args[:4], *args[6:])


@_silhouettes_backward.register_fake
def _(grad_alpha, transmittance, vertices, faces, K, world_to_camera, sigma, orthographic, near, cull):
    return vertices.new_empty(vertices.shape), K.new_empty(K.shape), world_to_camera.new_empty(world_to_camera.shape)


_silhouettes_backward.register_autograd(transforms.refuse_twice("softras.silhouettes"))


def _save(ctx, inputs, output) -> None:
    vertices, faces, K, world_to_camera, _, _, ctx.sigma, orthographic, near, ctx.cull = inputs
    ctx.save_for_backward(output[1], vertices, faces, K, world_to_camera, orthographic, near)


def _gradients(ctx, grad_alpha, backward):
    transmittance, vertices, faces, K, world_to_camera, orthographic, near = ctx.saved_tensors
    gv, gk, gw = backward(
        grad_alpha, transmittance, vertices, faces, K, world_to_camera, ctx.sigma, orthographic, near, ctx.cull
    )
    return gv, None, gk, gw, None, None, None, None, None, None


def _backward(ctx, grad_alpha, grad_transmittance):  # nobody is given the transmittance: no gradient comes from it
    return _gradients(ctx, grad_alpha, _silhouettes_backward)


_silhouettes.register_autograd(_backward, setup_context=_save)


def check_values(vertices: Tensor, faces: Tensor, K: Tensor, world_to_camera: Tensor) -> None:
    """What the native kernel finds out on its way: finite inputs and face indices in range."""
    for name, tensor in (("vertices", vertices), ("K", K), ("world_to_camera", world_to_camera)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[-2]):
        raise ValueError(f"faces name vertices outside 0..{vertices.shape[-2] - 1}")
