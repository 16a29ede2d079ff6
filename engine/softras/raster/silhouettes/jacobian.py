"""The forward mode of the rasterizer: soft silhouettes and the rows of their Jacobian by few parameters."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ...checks import LARGEST
from .. import arguments, transforms
from ..native import backends
from ..operators import dispatches
from . import ops, reference


class Jacobian(NamedTuple):
    """Silhouettes and their derivatives by P parameters, at the pixels where alpha is neither 0 nor 1."""

    alpha: Tensor  # (N, H, W)
    pixels: Tensor  # (M,) int64: indices of alpha.flatten(), ascending
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

    The parameters move the vertices and the cameras. The caller gives the derivatives of vertices and cameras by the
    parameters and gets the derivatives of alpha. With r the residuals of `alpha.flatten()[pixels]`, J^T J is
    `rows.T @ rows` and J^T r is `rows.T @ r`. This is the forward mode of `softras.silhouettes`, with the same exact
    derivatives. Autograd records nothing: inputs are detached.

    Memory: O(pixels + faces + V P + M P). The CPU gives the same bits for any number of threads; a GPU adds the faces
    of a row in any order, so its last bits may differ from run to run.

    Args:
        vertices, faces, K, world_to_camera, height, width, sigma, orthographic, near, cull: as in `silhouettes`.
        d_vertices: the derivatives of the vertices, (V, 3, P) or (N, V, 3, P) as their shape is; None for zero.
        d_K: (N, 3, 3, P), None for zero; rows 0 and 1 are used.
        d_world_to_camera: (N, 4, 4, P), None for zero; rows 0 to 2 are used.
        low, high: rows are given for the pixels with low < alpha < high; elsewhere a silhouette hardly changes.

    Returns:
        alpha (N, H, W), the same bits as `silhouettes` gives; pixels (M,); rows (M, P) of the dtype of `vertices`.

    Raises:
        ValueError: what `silhouettes` refuses, and derivatives of a wrong shape, dtype or device, or none at all.
    """
    transforms.refuse("softras.silhouettes_jacobian")
    scene = arguments.scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull).detached()
    sigma = arguments.number("sigma", sigma, *arguments.SIGMA)
    tangents = arguments.tangents(scene, d_vertices, d_K, d_world_to_camera)
    low, high = (arguments.number(name, x, -LARGEST, LARGEST) for name, x in (("low", low), ("high", high)))
    if not backends.computes("silhouettes", vertices.device):
        arguments.check_values(scene)
        alpha = reference.silhouettes(scene, sigma)
        pixels = _between(alpha, low, high)
        return Jacobian(alpha, pixels, reference.silhouettes_jacobian(scene, sigma, pixels, tangents))
    if dispatches(vertices):
        alpha, transmittance = ops.render(scene, sigma)
        pixels = _between(alpha, low, high)
        return Jacobian(alpha, pixels, ops.render_jacobian(scene, sigma, transmittance, pixels, tangents))
    alpha, transmittance = backends.compute("silhouettes", scene, sigma)
    pixels = _between(alpha, low, high)
    return Jacobian(
        alpha, pixels, backends.compute("silhouettes_jacobian", scene, sigma, transmittance, pixels, tangents)
    )


def _between(alpha: Tensor, low: float, high: float) -> Tensor:
    return ((alpha > low) & (alpha < high)).flatten().nonzero()[:, 0]
