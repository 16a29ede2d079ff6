"""What a posed rig's silhouettes cost in a sequence of frames, and how that changes with its parameters.

Half the sum of squares of: silhouettes minus masks, distances of landmarks, the way from a pose, and the change from
frame to frame. `solvers/levenberg.py` minimizes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...deform.cameras import COUNT, CameraMoves
from ...deform.posed import PosedRig
from ...raster.algebra import product, root
from ...raster.sums import whole
from ..observed.crops import Crops
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..solvers.chain import Model, Parameters
from .landmarks import Arrays, Pins


@dataclass(frozen=True, eq=False)
class FrameViews:
    """The views of one frame.

    Attributes:
        crops: what they show.
        weights: (N,) of the views.
        cameras: (N,) index of each view's camera among all cameras.
    """

    crops: Crops
    weights: np.ndarray
    cameras: np.ndarray


class PoseObjective:
    """The sum of squares at one resolution and blur."""

    def __init__(
        self,
        figure: PosedRig,
        faces: np.ndarray,
        unit: UnitSpace,
        frames: Sequence[FrameViews],
        *,
        renderer: Renderer,
        blur: float,
        cull: bool,
        moves: CameraMoves | None = None,
        home: np.ndarray | None = None,
        prior: float = 0.0,
        smoothness: float = 0.0,
        camera_prior: float = 0.0,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Of `frames` that follow one another.

        Args:
            figure: of float64, on the CPU.
            faces: (F, 3) of its mesh.
            renderer: of the silhouettes.
            blur: of the silhouettes, in pixels of the crops.
            home: (P,) pose that the prior pulls to; zeros for the rig as given.
            prior, smoothness: weights of the squared way from home and from the frame before, in units.
            camera_prior: weight of the squared way of the cameras from where they were.
            pause: called before each frame's part of the work; what it raises ends the work.
        """
        self.pause = pause
        self.figure, self.unit, self.frames, self.moves = figure, unit, list(frames), moves
        self.renderer, self.blur, self.cull = renderer, blur, cull
        self.prior, self.smoothness = prior, smoothness
        self._camera_prior = np.zeros(0) if moves is None else camera_prior / moves.units.ravel() ** 2
        self.home = np.zeros(figure.count) if home is None else home
        device = self.frames[0].crops.masks.device
        self._faces = torch.as_tensor(faces, dtype=torch.int64, device=device)
        self._scales = [_pixel_scales(frame).to(device) for frame in self.frames]
        self._targets = [
            scale * frame.crops.masks[:, 0] / frame.crops.masks[:, 1].clamp_min(1e-6)
            for scale, frame in zip(self._scales, self.frames, strict=True)
        ]
        # A step that was taken is what the next model is of: what was last seen of each frame, and its silhouettes.
        self._seen: list[tuple[bytes, Any]] = [(b"", None)] * len(self.frames)
        self._rendered: list[tuple[bytes, Any]] = [(b"", None)] * len(self.frames)

    def cost(self, x: Parameters, pins: Sequence[Pins] = ()) -> float:
        """Half the sum of squares, with those of the pins of each frame, if there are any."""
        total = self._ways(x, None)
        for f, frame in enumerate(self.frames):
            self.pause()
            vertices, cameras = self.seen(f, x)
            total += 0.5 * float(whole(self._residuals(f, self.silhouettes(f, x)).double().square()))
            if pins and len(pins[f]):
                pinned = pins[f].residuals(_array(vertices), arrays(cameras), frame.crops.resolution)
                total += 0.5 * float((pinned**2).sum())
        return total

    def model(self, x: Parameters, pins: Sequence[Pins] = ()) -> Model:
        """Cost, gradient and Gauss-Newton matrix; pins as of `cost`."""
        model = Model.empty(len(self.frames), self.figure.count, len(x.shared))
        model.cost = self._ways(x, model)
        for f, frame in enumerate(self.frames):
            self.pause()
            vertices, cameras = self.seen(f, x)
            d_vertices, *of_cameras = self._derivatives(f, x)
            found = self.renderer.jacobian(
                vertices,
                self._faces,
                cameras,
                frame.crops.size,
                d_vertices=d_vertices,
                d_K=of_cameras[0],
                d_world_to_camera=of_cameras[1],
                blur=self.blur,
                cull=self.cull,
            )
            residuals = self._residuals(f, found.alpha)
            model.cost += 0.5 * float(whole(residuals.double().square()))
            rows = found.rows.mul_(self._scales[f].flatten()[found.pixels, None])
            picked = residuals.flatten()[found.pixels]
            # Views whose cameras move have columns of their own.
            if self.moves is None:
                parts = [len(rows)]
            else:
                views = found.pixels // found.alpha[0].numel()
                parts = torch.bincount(views, minlength=len(found.alpha)).tolist()
            for n, (part, rest) in enumerate(zip(rows.split(parts), picked.split(parts), strict=True)):
                self._add(model, f, frame.cameras[n], part, rest)
            if pins and len(pins[f]):
                scene = (_array(vertices), arrays(cameras), frame.crops.resolution)
                pinned = pins[f].residuals(*scene)
                d_K, d_matrix = (None if x is None else _array(x) for x in of_cameras)
                pinned_rows = pins[f].rows(*scene, _array(d_vertices), d_K, d_matrix)
                model.cost += 0.5 * float((pinned**2).sum())
                for n in np.unique(pins[f].views):
                    of_view = pins[f].views == n
                    part = torch.from_numpy(pinned_rows[of_view]).flatten(0, 1)
                    rest = torch.from_numpy(pinned[of_view]).flatten()
                    self._add(model, f, frame.cameras[n], part, rest)
        return model

    def silhouettes(self, f: int, x: Parameters) -> Tensor:
        """(N, S, S) of a frame."""
        vertices, cameras = self.seen(f, x)
        key = _key(f, x)
        if self._rendered[f][0] != key:
            with torch.no_grad():
                size = self.frames[f].crops.size
                alpha = self.renderer.alpha(vertices, self._faces, cameras, size, blur=self.blur, cull=self.cull)
            self._rendered[f] = key, alpha
        return self._rendered[f][1]

    def seen(self, f: int, x: Parameters) -> tuple[Tensor, dict[str, Any]]:
        """Vertices (V, 3) in unit space, and the cameras that see them in the frame's crops."""
        key = _key(f, x)
        if self._seen[f][0] != key:
            self._seen[f] = key, self._look(f, x)
        return self._seen[f][1]

    def _look(self, f: int, x: Parameters) -> tuple[Tensor, dict[str, Any]]:
        with torch.no_grad():
            world = self.figure.vertices(torch.as_tensor(x.frames[f], dtype=torch.float64))
        vertices = self._tensor((world.cpu().numpy() - self.unit.centre) / self.unit.size)
        cameras = self.frames[f].crops.cameras
        if self.moves is None:
            return vertices, cameras
        given = arrays(cameras)["K"]
        K, matrix = self.moves.moved(self.frames[f].cameras, given, x.shared.reshape(-1, COUNT))
        return vertices, {**cameras, "K": self._tensor(K), "world_to_camera": self._tensor(matrix)}

    def _add(self, model: Model, f: int, camera: int, rows: Tensor, rest: Tensor) -> None:
        """Add J^T J and J^T r of rows J of one view, whose columns are the frame's parameters and then its camera's."""
        square, slope = _array(product(rows.T, rows)), _array(product(rest[None], rows)[0])
        own = self.figure.count
        model.blocks[f] += square[:own, :own]
        model.gradient.frames[f] += slope[:own]
        if self.moves is not None:
            start = COUNT * int(self.moves.groups[camera])
            at = slice(start, start + COUNT)
            model.arrow[f][:, at] += square[:own, own:]
            model.corner[at, at] += square[own:, own:]
            model.gradient.shared[at] += slope[own:]

    def _ways(self, x: Parameters, model: Model | None) -> float:
        """The cost of the ways from home, from frame to frame, and of the cameras; adds their model."""
        units = self.figure.units
        away, change = (x.frames - self.home) / units, np.diff(x.frames, axis=0) / units
        if model is not None:
            weight = self.prior / units**2
            diagonal = np.einsum("fii->fi", model.blocks)
            diagonal += weight
            gradient = model.gradient.frames
            gradient += self.prior * away / units
            link = self.smoothness / units**2
            diagonal[1:] += link
            diagonal[:-1] += link
            model.links -= link
            slope = self.smoothness * change / units
            gradient[1:] += slope
            gradient[:-1] -= slope
            model.corner += np.diag(self._camera_prior)
            model.gradient.shared[:] += self._camera_prior * x.shared
        squares = self.prior * (away**2).sum() + self.smoothness * (change**2).sum()
        return 0.5 * float(squares + (self._camera_prior * x.shared**2).sum())

    def _residuals(self, f: int, alpha: Tensor) -> Tensor:
        """(N, S, S) scaled difference of silhouettes and masks, zero where nothing is known."""
        return self._scales[f] * alpha - self._targets[f]

    def _derivatives(self, f: int, x: Parameters) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(V, 3, Q), (N, 3, 3, Q) and (N, 4, 4, Q): what vertices and cameras follow, a frame's parameters and then, if
        cameras move, those of each view's own."""
        with torch.no_grad():
            derivatives = self.figure.jacobian(torch.as_tensor(x.frames[f], dtype=torch.float64))
        d_vertices = (derivatives / self.unit.size).to(self._faces.device, torch.float32)
        if self.moves is None:
            return d_vertices, None, None
        frame, own = self.frames[f], self.figure.count
        given = arrays(frame.crops.cameras)["K"]
        of_cameras = self.moves.derivatives(frame.cameras, given, x.shared.reshape(-1, COUNT))
        pad = torch.nn.functional.pad
        d_K, d_matrix = (pad(self._tensor(derivative), (own, 0)) for derivative in of_cameras)
        return pad(d_vertices, (0, COUNT)), d_K, d_matrix

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float32, device=self._faces.device)


def arrays(cameras: dict[str, Tensor]) -> Arrays:
    """The same on the CPU, numbers in double precision."""
    return {name: _array(x) if x.is_floating_point() else x.cpu().numpy() for name, x in cameras.items()}


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy().astype(np.float64)


def _pixel_scales(frame: FrameViews) -> Tensor:
    """(N, S, S) roots of what a squared difference counts at each pixel: a view counts by its weight, relative to the
    area of its mask."""
    masks = frame.crops.masks
    area = torch.stack([whole(mask) for mask in masks[:, 0]]).clamp_min(1e-6)
    weights = torch.as_tensor(frame.weights / frame.weights.sum(), dtype=masks.dtype, device=masks.device)
    return root(weights / area)[:, None, None] * masks[:, 1]


def _key(f: int, x: Parameters) -> bytes:
    return x.frames[f].tobytes() + x.shared.tobytes()
