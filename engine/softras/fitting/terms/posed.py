"""What terms of few parameters are given: frames, one of them in a pose, and how that follows the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...deform.cameras import COUNT, CameraMoves
from ...deform.posed import PosedRig
from ...raster.silhouettes.jacobian import Jacobian
from ...raster.sums import whole
from ...views import View
from ..observed.observation import Observation
from ..observed.renderer import Cameras, Renderer
from ..observed.unit import UnitSpace
from ..schedule import PoseStage
from ..solvers.chain import Model, Parameters

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class FrameViews:
    """The views of one frame.

    Attributes:
        views: N of them.
        observation: what they show.
        cameras: (N,) index of each view's camera among all cameras.
    """

    views: Sequence[View]
    observation: Observation
    cameras: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(N,) of the views."""
        return np.array([view.weight for view in self.views], dtype=float)


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that follow one another, in one stage of a search for the P parameters of each.

    Attributes:
        views: what is seen in each frame.
        stage: its blur and the factors of its terms.
        figure: the rig, in float64 on the CPU.
        faces: (F, 3) int64 of its mesh.
        clusters: (V,) the vertex of this mesh that stands for each vertex of the rig as given.
        unit: the space in which the mesh is drawn and cameras move.
        renderer: draws the mesh.
        cull: whether faces that are seen from behind are left out.
        moves: how the cameras of all views move; None where they stay.
    """

    views: Sequence[FrameViews]
    stage: PoseStage
    figure: PosedRig
    faces: Tensor
    clusters: np.ndarray
    unit: UnitSpace
    renderer: Renderer
    cull: bool
    moves: CameraMoves | None

    def tensor(self, x: np.ndarray) -> Tensor:
        """As float32, where the renderer has its tensors."""
        return torch.as_tensor(x, dtype=torch.float32, device=self.faces.device)


class Posed:
    """One frame in a pose.

    Attributes:
        frames: all that is seen in the stage.
        index: of this frame among them.
        views: its views.
        vertices: (V, 3) in unit space.
        cameras: of its crops, where they are now.
    """

    def __init__(self, frames: Frames, index: int, x: Parameters) -> None:
        """x: the parameters of all frames, and of the cameras."""
        self.frames, self.index, self.views = frames, index, frames.views[index]
        self.pose = torch.as_tensor(x.frames[index], dtype=torch.float64)
        self.camera_blocks = x.shared.reshape(-1, COUNT)
        with torch.no_grad():
            world = frames.figure.vertices(self.pose)
        self.vertices = frames.tensor((world.cpu().numpy() - frames.unit.centre) / frames.unit.size)
        self.cameras: Cameras = self.views.observation.cameras
        if frames.moves is not None:
            K, matrix = frames.moves.moved(self.views.cameras, arrays(self.cameras)["K"], self.camera_blocks)
            self.cameras = {**self.cameras, "K": frames.tensor(K), "world_to_camera": frames.tensor(matrix)}

    @cached_property
    def alpha(self) -> Tensor:
        """(N, S, S) silhouettes in the crops."""
        frames = self.frames
        size, blur = self.views.observation.size, frames.stage.blur
        with torch.no_grad():
            return frames.renderer.alpha(self.vertices, frames.faces, self.cameras, size, blur=blur, cull=frames.cull)

    @cached_property
    def points(self) -> np.ndarray:
        """(V, 3) the vertices in double precision, on the CPU."""
        return array(self.vertices)

    @cached_property
    def camera_arrays(self) -> Arrays:
        """The cameras in double precision, on the CPU."""
        return arrays(self.cameras)


class Motion:
    """How one frame follows Q parameters: the P of its own and, where cameras move, those of each view's own camera.

    Attributes:
        d_vertices: (V, 3, Q) derivatives of the vertices.
        d_K, d_world_to_camera: (N, 3, 3, Q) and (N, 4, 4, Q) of the cameras; None where they stay.
    """

    def __init__(self, posed: Posed) -> None:
        self._posed = posed
        frames = posed.frames
        with torch.no_grad():
            derivatives = frames.figure.jacobian(posed.pose)
        self.d_vertices = (derivatives / frames.unit.size).to(frames.faces.device, torch.float32)
        self.d_K: Tensor | None = None
        self.d_world_to_camera: Tensor | None = None
        if frames.moves is not None:
            given = arrays(posed.views.observation.cameras)["K"]
            of_cameras = frames.moves.derivatives(posed.views.cameras, given, posed.camera_blocks)
            pad, own = torch.nn.functional.pad, frames.figure.count
            self.d_K, self.d_world_to_camera = (pad(frames.tensor(x), (own, 0)) for x in of_cameras)
            self.d_vertices = pad(self.d_vertices, (0, COUNT))

    @cached_property
    def drawing(self) -> Jacobian:
        """The silhouettes, and their derivatives by the Q parameters."""
        posed, frames = self._posed, self._posed.frames
        return frames.renderer.jacobian(
            posed.vertices,
            frames.faces,
            posed.cameras,
            posed.views.observation.size,
            d_vertices=self.d_vertices,
            d_K=self.d_K,
            d_world_to_camera=self.d_world_to_camera,
            blur=frames.stage.blur,
            cull=frames.cull,
        )


class Part(NamedTuple):
    """Some residuals of a frame and how they follow its parameters.

    Attributes:
        rows: (M, Q) derivatives, the columns as in `Motion`.
        residuals: (M,).
        view: index of the view whose camera the last columns are of; None for residuals that follow no camera.
    """

    rows: Tensor
    residuals: Tensor
    view: int | None


class Residuals(Protocol):
    """Half a sum of squares in every frame."""

    def cost(self, posed: Posed) -> float:
        """That of a frame."""

    def linear(self, posed: Posed, motion: Motion) -> tuple[float, Iterable[Part]]:
        """The same, and the residuals with their derivatives; those that are 0 and stay so may be left out."""


class Penalty(Protocol):
    """A quadratic function of the parameters themselves."""

    def cost(self, x: Parameters) -> float:
        """Its value."""

    def add_to(self, model: Model, x: Parameters) -> None:
        """Adds its gradient and its second derivatives; not its value."""


def half_squares(residuals: Tensor) -> float:
    """Half the sum of squares, in an order that threads do not change."""
    return 0.5 * float(whole(residuals.double().square()))


def arrays(cameras: Cameras) -> Arrays:
    """Cameras on the CPU, numbers in double precision."""
    return {name: array(x) if x.is_floating_point() else x.cpu().numpy() for name, x in cameras.items()}


def array(x: Tensor) -> np.ndarray:
    """On the CPU, in double precision."""
    return x.cpu().numpy().astype(np.float64)
