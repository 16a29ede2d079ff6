"""What the terms of few parameters are computed from: the frames, one frame in a pose, and its derivatives."""

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
        views: the N views.
        observation: what they show.
        cameras: (N,) index of each view's camera among the cameras of all frames.
    """

    views: Sequence[View]
    observation: Observation
    cameras: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(N,) weights of the views."""
        return np.array([view.weight for view in self.views], dtype=float)


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a sequence, in one stage of the search for their poses.

    Attributes:
        views: the views of each frame.
        stage: the stage, with its blur and the factors of its terms.
        figure: the rig as a function of the P parameters of a pose, in float64 on the CPU.
        faces: (F, 3) int64 faces of the rig's mesh, which may be simplified.
        clusters: (V,) for each vertex of the rig as given, the vertex of the simplified mesh that stands for it.
        unit: the space in which the mesh is drawn and in which cameras move.
        renderer: draws the mesh.
        cull: whether faces seen from behind are left out.
        camera_moves: how the parameters of the cameras move them; None where the cameras stay.
    """

    views: Sequence[FrameViews]
    stage: PoseStage
    figure: PosedRig
    faces: Tensor
    clusters: np.ndarray
    unit: UnitSpace
    renderer: Renderer
    cull: bool
    camera_moves: CameraMoves | None

    def tensor(self, x: np.ndarray) -> Tensor:
        """An array as a float32 tensor on the renderer's device."""
        return torch.from_numpy(x.astype(np.float32)).to(self.faces.device)


class Posed:
    """One frame in a pose.

    Attributes:
        frames: all frames of the stage.
        index: the index of this frame among them.
        views: the views of this frame.
        posture: the rig in this pose.
        camera_blocks: (G, 9) the parameters of all cameras, none where they stay.
        vertices: (V, 3) the posed vertices in unit space.
        cameras: the cameras of its crops, moved by their parameters.
    """

    def __init__(self, frames: Frames, index: int, x: Parameters) -> None:
        """x: the parameters of all frames and of the cameras."""
        self.frames, self.index, self.views = frames, index, frames.views[index]
        self.camera_blocks = x.shared.reshape(-1, COUNT)
        with torch.no_grad():
            self.posture = frames.figure.at(torch.as_tensor(x.frames[index], dtype=torch.float64))
        world = self.posture.vertices.cpu().numpy()
        self.vertices = frames.tensor((world - frames.unit.centre) / frames.unit.size)
        self.cameras: Cameras = self.views.observation.cameras
        if frames.camera_moves is not None:
            K, matrix = frames.camera_moves.moved(self.views.cameras, arrays(self.cameras)["K"], self.camera_blocks)
            self.cameras = {**self.cameras, "K": frames.tensor(K), "world_to_camera": frames.tensor(matrix)}

    @cached_property
    def alpha(self) -> Tensor:
        """(N, S, S) the silhouettes of the mesh in the crops."""
        frames = self.frames
        size, blur = self.views.observation.size, frames.stage.blur
        with torch.no_grad():
            return frames.renderer.alpha(self.vertices, frames.faces, self.cameras, size, blur=blur, cull=frames.cull)

    @cached_property
    def points(self) -> np.ndarray:
        """(V, 3) the vertices in float64, on the CPU."""
        return array(self.vertices)

    @cached_property
    def camera_arrays(self) -> Arrays:
        """The cameras in float64, on the CPU."""
        return arrays(self.cameras)


class Motion:
    """The derivatives of one frame by Q parameters: the P of its pose, then the 9 of each view's own camera.

    Where the cameras stay, Q is P. The camera's columns mean another camera's parameters in each view.

    Attributes:
        d_vertices: (V, 3, Q) derivatives of the vertices.
        d_K, d_world_to_camera: (N, 3, 3, Q) and (N, 4, 4, Q) derivatives of the cameras; None where they stay.
    """

    def __init__(self, posed: Posed) -> None:
        self._posed = posed
        frames = posed.frames
        with torch.no_grad():
            derivatives = frames.figure.jacobian_at(posed.posture)
        self.d_vertices = frames.tensor(derivatives.cpu().numpy() / frames.unit.size)
        self.d_K: Tensor | None = None
        self.d_world_to_camera: Tensor | None = None
        if frames.camera_moves is not None:
            given = arrays(posed.views.observation.cameras)["K"]
            of_cameras = frames.camera_moves.derivatives(posed.views.cameras, given, posed.camera_blocks)
            pad, own = torch.nn.functional.pad, frames.figure.count
            self.d_K, self.d_world_to_camera = (pad(frames.tensor(x), (own, 0)) for x in of_cameras)
            self.d_vertices = pad(self.d_vertices, (0, COUNT))

    @cached_property
    def drawing(self) -> Jacobian:
        """The silhouettes of the mesh in the crops, and their derivatives by the Q parameters."""
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
    """M residuals of one frame, and their derivatives.

    Attributes:
        rows: (M, Q) the derivatives by the parameters of `Motion`.
        residuals: (M,) the residuals.
        view: the index of the view whose camera the last columns mean; None for residuals that depend on no camera.
    """

    rows: Tensor
    residuals: Tensor
    view: int | None


class Residuals(Protocol):
    """A term of few parameters that is half a sum of squared residuals in every frame."""

    def cost(self, posed: Posed) -> float:
        """Half the sum of squares in one frame."""

    def linear(self, posed: Posed, motion: Motion) -> tuple[float, Iterable[Part]]:
        """The same, and the residuals with their derivatives; residuals whose derivatives are 0 may be left out."""


class Penalty(Protocol):
    """A term of few parameters that is a quadratic function of the parameters themselves."""

    def cost(self, x: Parameters) -> float:
        """The value of the function."""

    def add_to(self, model: Model, x: Parameters) -> None:
        """Add the gradient and the second derivatives of the function to a model, but not its value."""


def arrays(cameras: Cameras) -> Arrays:
    """The tensors of cameras as arrays, numbers in float64."""
    return {name: array(x) if x.is_floating_point() else x.cpu().numpy() for name, x in cameras.items()}


def array(x: Tensor) -> np.ndarray:
    """A tensor as a float64 array."""
    return x.cpu().numpy().astype(np.float64)
