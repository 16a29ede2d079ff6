"""The forward mode of the rasterizer: rows of the Jacobian of soft silhouettes, `softras::silhouettes_jacobian`.

Layers as in ops.py: this file checks and registers, `reference.py` defines, `cpu.py` and `cuda.py` compute.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import LARGEST
from ...errors import InputError
from .. import arguments, operands, transforms
from . import ops, reference


class Jacobian(NamedTuple):
    """Soft silhouettes and how they follow P parameters, at the pixels where they are neither full nor empty."""

    alpha: Tensor  # (N, H, W)
    pixels: Tensor  # (M,) int64: places in alpha.flatten(), ascending
    rows: Tensor  # (M, P): d alpha / d parameters there


def silhouettes_jacobian(
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
    sigma: float = 1e-5,
    orthographic: Tensor | None = None,
    near: Tensor | float = 1e-3,
    cull: bool = False,
    low: float = 1e-3,
    high: float = 0.999,
) -> Jacobian:
    """Soft silhouettes and their derivatives with respect to P parameters, for Gauss-Newton and Levenberg-Marquardt.

    The parameters move the vertices and the cameras; their derivatives come in, those of alpha come out. With r the
    residuals of `alpha.flatten()[pixels]`, J^T J is `rows.T @ rows` and J^T r is `rows.T @ r`. Exact: the same
    derivatives as those of :func:`softras.silhouettes`, which this is the forward mode of. Nothing is recorded for
    autograd: inputs are taken as detached.

    Memory: O(pixels + faces + V P + M P). The CPU gives the same bits for any number of threads; a GPU adds the faces
    of a row in any order, so its last bits may differ from run to run.

    Args:
        vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull: as in `silhouettes`.
        d_vertices: (V, 3, P) or (N, V, 3, P) as `vertices` are: their derivatives; None where no vertex moves.
        d_K: (N, 3, 3, P), None for zero; rows 0 and 1 are used.
        d_world_to_camera: (N, 4, 4, P), None for zero; rows 0 to 2 are used.
        low, high: rows are given for the pixels with low < alpha < high; elsewhere a silhouette hardly changes.

    Returns:
        alpha (N, H, W), the same bits as `silhouettes` gives; pixels (M,); rows (M, P) of the dtype of `vertices`.

    Raises:
        ValueError: what `silhouettes` refuses, and derivatives of a wrong shape, dtype or device, or none at all.
    """
    transforms.refuse("softras.silhouettes_jacobian")
    arguments.mesh_in_cameras(vertices, faces, K, world_to_camera)
    scene = vertices.detach(), faces, K.detach(), world_to_camera.detach()
    args = arguments.scene(*scene, height, width, sigma, orthographic, near, cull)
    given = {"d_vertices": d_vertices, "d_K": d_K, "d_world_to_camera": d_world_to_camera}
    tangents = [None if x is None else arguments.tensor(name, x).detach() for name, x in given.items()]
    parameters = _check(args, tangents)
    low, high = (arguments.number(name, x, -LARGEST, LARGEST) for name, x in (("low", low), ("high", high)))
    if not ops.computes(vertices):
        ops.check_values(*args[:4])
        alpha = reference.silhouettes(*args)
        pixels = _between(alpha, low, high)
        return Jacobian(alpha, pixels, reference.silhouettes_jacobian(pixels, args, parameters, tangents))
    dispatches = ops.dispatches(vertices)
    render = torch.ops.softras.silhouettes if dispatches else lambda *x: ops.compute("silhouettes", *x)
    differentiate = _silhouettes_jacobian if dispatches else lambda *x: ops.compute("silhouettes_jacobian", *x)
    alpha, transmittance = render(*args)
    pixels = _between(alpha, low, high)
    rows = differentiate(transmittance, pixels, *args[:4], *args[6:], parameters, *tangents)
    return Jacobian(alpha, pixels, rows)


def _between(alpha: Tensor, low: float, high: float) -> Tensor:
    return ((alpha > low) & (alpha < high)).flatten().nonzero()[:, 0]


def _check(args: tuple, tangents: list[Tensor | None]) -> int:
    """The number of parameters."""
    vertices, K, world_to_camera = args[0], args[2], args[3]
    parameters = next((x.shape[-1] for x in tangents if x is not None and x.dim()), None)
    if parameters is None:
        raise InputError("give d_vertices, d_K or d_world_to_camera: without them nothing has a derivative")
    for name, tensor, of in zip(
        ("d_vertices", "d_K", "d_world_to_camera"), tangents, (vertices, K, world_to_camera), strict=True
    ):
        if tensor is None:
            continue
        if tensor.shape != (*of.shape, parameters):
            expected = f"({', '.join(map(str, of.shape))}, {parameters})"
            raise InputError(f"{name} must have shape {expected}, not {tuple(tensor.shape)}")
        if tensor.dtype != vertices.dtype:
            raise InputError(f"{name} is {tensor.dtype} but vertices are {vertices.dtype}")
        if tensor.device != vertices.device:
            raise InputError(f"{name} must be on the device of vertices")
    return parameters


@torch.library.custom_op("softras::silhouettes_jacobian", mutates_args=())
def _silhouettes_jacobian(
    transmittance: Tensor,
    pixels: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
    parameters: int,
    d_vertices: Tensor | None,
    d_K: Tensor | None,
    d_world_to_camera: Tensor | None,
) -> Tensor:
    size = operands.sized("transmittance", transmittance, len(K))
    args = arguments.scene(vertices, faces, K, world_to_camera, *size, sigma, orthographic, near, cull)
    operands.fitting("transmittance", transmittance, (len(K), *size), vertices)
    operands.check_pixels(pixels, transmittance.numel())
    tangents = (d_vertices, d_K, d_world_to_camera)
    if _check(args, list(tangents)) != parameters:
        raise InputError(f"the derivatives are not by {parameters} parameters")
    scene = *args[:4], *args[6:]
    return ops.compute("silhouettes_jacobian", transmittance, pixels, *scene, parameters, *tangents)


@_silhouettes_jacobian.register_fake
def _(
    transmittance, pixels, vertices, faces, K, world_to_camera, sigma, orthographic, near, cull, parameters, *tangents
):
    return vertices.new_empty(pixels.shape[0], parameters)
