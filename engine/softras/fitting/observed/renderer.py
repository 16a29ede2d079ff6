"""The seam between a fit and what draws silhouettes for it: three calls, and blur in pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...raster.coverage.ops import coverage, coverage_jacobian, covers_centres
from ...raster.silhouettes.jacobian import Jacobian, silhouettes_jacobian
from ...raster.silhouettes.ops import silhouettes

# The tensors K (N, 3, 3), world_to_camera (N, 4, 4), orthographic (N,) and near (N,): `camera_tensors` of N cameras.
Cameras = dict[str, Any]


class Renderer(Protocol):
    """Draws the silhouettes of a mesh in N cameras, on one device.

    The arguments of all three calls: vertices (V, 3) float32; faces (F, 3) int64; cameras, N of them; the image's size
    (height, width) in pixels. `blur` is the distance in pixels over which an outline is softened; a renderer that
    softens nothing ignores it. `cull` leaves out faces seen from behind.
    """

    @property
    def device(self) -> torch.device:
        """Where all tensors are."""

    @property
    def draws_areas(self) -> bool:
        """Whether alpha is the area that the mesh covers of a pixel, as a mask with soft edges tells it."""

    def alpha(
        self, vertices: Tensor, faces: Tensor, cameras: Cameras, size: tuple[int, int], *, blur: float, cull: bool
    ) -> Tensor:
        """(N, H, W) in 0..1, differentiable to the vertices: how much of each pixel the mesh covers."""

    def jacobian(
        self,
        vertices: Tensor,
        faces: Tensor,
        cameras: Cameras,
        size: tuple[int, int],
        *,
        d_vertices: Tensor,
        d_K: Tensor | None,
        d_world_to_camera: Tensor | None,
        blur: float,
        cull: bool,
    ) -> Jacobian:
        """The same alpha, and its derivatives by P parameters at the pixels whose alpha they change.

        Args:
            d_vertices: (V, 3, P) derivatives of the vertices.
            d_K: (N, 3, 3, P) derivatives of the cameras' K; None where no camera changes.
            d_world_to_camera: (N, 4, 4, P), likewise.
        """

    def hard(self, vertices: Tensor, faces: Tensor, cameras: Cameras, size: tuple[int, int]) -> Tensor:
        """(N, H, W) bool: whether a face covers the pixel's centre. No gradient."""


@dataclass(frozen=True)
class _OnDevice:
    """What the renderers below share: the device, and silhouettes by pixel centres, which no blur changes."""

    device: torch.device

    def hard(self, vertices: Tensor, faces: Tensor, cameras: Cameras, size: tuple[int, int]) -> Tensor:
        """As in `Renderer`."""
        height, width = size
        return covers_centres(vertices, faces, height=height, width=width, **cameras)


class SoftRenderer(_OnDevice):
    """The soft silhouettes of `softras.silhouettes`."""

    draws_areas = False

    def alpha(
        self, vertices: Tensor, faces: Tensor, cameras: Cameras, size: tuple[int, int], *, blur: float, cull: bool
    ) -> Tensor:
        """As in `Renderer`."""
        height, width = size
        sigma = sigma_of(blur, size)
        return silhouettes(vertices, faces, height=height, width=width, sigma=sigma, cull=cull, **cameras)

    def jacobian(
        self,
        vertices: Tensor,
        faces: Tensor,
        cameras: Cameras,
        size: tuple[int, int],
        *,
        blur: float,
        cull: bool,
        **derivatives: Any,
    ) -> Jacobian:
        """As in `Renderer`."""
        height, width = size
        sigma = sigma_of(blur, size)
        return silhouettes_jacobian(
            vertices, faces, height=height, width=width, sigma=sigma, cull=cull, **derivatives, **cameras
        )


class ExactRenderer(_OnDevice):
    """The exact coverage of `softras.coverage`: nothing is softened, and no face is left out.

    Where too many edges cross, samples will do for a fit, so that there is no warning of them.
    """

    draws_areas = True

    def alpha(
        self, vertices: Tensor, faces: Tensor, cameras: Cameras, size: tuple[int, int], *, blur: float, cull: bool
    ) -> Tensor:
        """As in `Renderer`."""
        height, width = size
        return coverage(vertices, faces, height=height, width=width, warn=False, **cameras)

    def jacobian(
        self,
        vertices: Tensor,
        faces: Tensor,
        cameras: Cameras,
        size: tuple[int, int],
        *,
        blur: float,
        cull: bool,
        **derivatives: Any,
    ) -> Jacobian:
        """As in `Renderer`."""
        height, width = size
        return coverage_jacobian(vertices, faces, height=height, width=width, warn=False, **derivatives, **cameras)


def sigma_of(blur: float, size: tuple[int, int]) -> float:
    """SoftRas's sigma, in squared normalized device coordinates, of a blur in pixels.

    The shorter side of the image spans 2 in these coordinates.
    """
    return (2 * blur / min(size)) ** 2


RENDERERS: dict[str, Callable[[torch.device], Renderer]] = {"soft": SoftRenderer, "exact": ExactRenderer}


def renderer_names() -> tuple[str, ...]:
    """What the setting `renderer` may be."""
    return ("auto", *RENDERERS)


@dataclass(frozen=True)
class Renderers:
    """What draws the silhouettes of a fit.

    Attributes:
        setting: the name of one of `RENDERERS`, which then draws all; "auto" where each part of the fit has the one
            that suits it.
        device: where all tensors are.
    """

    setting: str
    device: torch.device

    def __getitem__(self, suited: str) -> Renderer:
        """That of a part of the fit which works best with the renderer of this name."""
        return RENDERERS[suited if self.setting == "auto" else self.setting](self.device)


SOFT_ON_CPU = SoftRenderer(torch.device("cpu"))
EXACT_ON_CPU = ExactRenderer(torch.device("cpu"))
