"""Anti-aliasing by supersampling: each pixel is the mean of several samples."""

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
    """The mean over samples x samples pixels of what `render` draws at `samples` times the size.

    Pixel coordinates begin at the image's corner, so K of the larger image is K with its first two rows times
    `samples`. The blur sigma is in NDC and stays the same. Differentiable as `render` is; time and memory are those of
    the larger image. SoftRas's anti_aliasing is samples=2.

    Args:
        render: `softras.images` or `softras.silhouettes`, which takes the other arguments.
        height, width: of the result.
        samples: for each pixel, in each of the two directions.

    Returns:
        As `render`. `nearest` cannot be averaged: it has the face of every sample, (N, samples * H, samples * W).

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
        every = range(samples)  # added in this order for any number of threads
        return functools.reduce(torch.add, (x[..., i::samples, j::samples] for i in every for j in every)) / samples**2

    if isinstance(result, Rendering):
        return result._replace(alpha=mean(result.alpha), image=mean(result.image))
    return mean(result)
