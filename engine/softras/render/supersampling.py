"""Anti-aliasing by supersampling: pixels as means over their area."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import checks
from ..errors import InputError
from ..raster import arguments
from ..raster.images.ops import Rendering

Result = TypeVar("Result", Tensor, Rendering)


def supersampled(
    render: Callable[..., Result],
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    *,
    samples: int = 2,
    **settings: Any,
) -> Result:
    """What `render` gives at `samples` times the size, averaged over samples x samples: an image without staircases.

    Pixel coordinates begin at the image's corner, so K of the larger image is K with its first two rows times
    `samples`. Blur (sigma) is in NDC and stays what it is. Differentiable as `render` is; time and memory are those of
    the larger image. SoftRas's anti_aliasing is samples=2.

    Args:
        render: :func:`softras.images` or :func:`softras.silhouettes`; the other arguments are its.
        height, width: of the result.
        samples: per pixel and direction.

    Returns:
        As `render`; `nearest` cannot be averaged and is of every sample, (N, samples * H, samples * W).

    Raises:
        ValueError: samples < 1, or as `render`.
    """
    samples = checks.whole("samples", samples, 1, 1024)
    height, width = checks.whole("height", height, 1), checks.whole("width", width, 1)
    if arguments.tensor("K", K).dim() != 3:
        raise InputError(f"K must have shape (N, 3, 3) for N cameras, not {tuple(K.shape)}")
    larger = torch.cat([K[:, :2] * samples, K[:, 2:]], 1)
    result = render(vertices, faces, larger, world_to_camera, samples * height, samples * width, **settings)

    def mean(x: Tensor) -> Tensor:
        every = range(samples)  # in this order, whatever the number of threads
        return functools.reduce(torch.add, (x[..., i::samples, j::samples] for i in every for j in every)) / samples**2

    if isinstance(result, Rendering):
        return result._replace(alpha=mean(result.alpha), image=mean(result.image))
    return mean(result)
