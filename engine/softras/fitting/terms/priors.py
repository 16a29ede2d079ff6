"""Priors, which keep few parameters near where they were given, and frames near the frames beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..solvers.chain import Model, Parameters
from .posed import Frames, Penalty
from .term import Term


@dataclass(frozen=True, eq=False)
class Prior:
    """w / 2 sum (x / u)^2 over the parameters x of every frame, which are changes from the rig as given.

    Attributes:
        weight: w.
        units: (P,) u, the typical size of each change: a radian, the size of the object, the range of a shape key.
    """

    weight: float
    units: np.ndarray

    def cost(self, x: Parameters) -> float:
        """As in `Penalty`."""
        return 0.5 * float(self.weight * ((x.frames / self.units) ** 2).sum())

    def add_to(self, model: Model, x: Parameters) -> None:
        """As in `Penalty`."""
        diagonal, gradient = np.einsum("fii->fi", model.blocks), model.gradient.frames
        diagonal += self.weight / self.units**2
        gradient += self.weight * (x.frames / self.units) / self.units


@dataclass(frozen=True, eq=False)
class Smoothness:
    """w / 2 sum ((x[f + 1] - x[f]) / u)^2 over the parameters x of all frames f; attributes as of `Prior`."""

    weight: float
    units: np.ndarray

    def cost(self, x: Parameters) -> float:
        """As in `Penalty`."""
        return 0.5 * float(self.weight * (self._changes(x) ** 2).sum())

    def add_to(self, model: Model, x: Parameters) -> None:
        """As in `Penalty`."""
        diagonal, gradient = np.einsum("fii->fi", model.blocks), model.gradient.frames
        link = self.weight / self.units**2
        diagonal[1:] += link
        diagonal[:-1] += link
        model.links -= link
        slope = self.weight * self._changes(x) / self.units
        gradient[1:] += slope
        gradient[:-1] -= slope

    def _changes(self, x: Parameters) -> np.ndarray:
        """(F - 1, P) changes from each frame to the next, in units."""
        return np.diff(x.frames, axis=0) / self.units


@dataclass(frozen=True, eq=False)
class CameraPrior:
    """1/2 sum w x^2 over the parameters x of the cameras, which are changes from the cameras as given.

    Attributes:
        weights: (C,) w, the term's weight over the square of each parameter's typical size.
    """

    weights: np.ndarray

    def cost(self, x: Parameters) -> float:
        """As in `Penalty`."""
        return 0.5 * float((self.weights * x.shared**2).sum())

    def add_to(self, model: Model, x: Parameters) -> None:
        """As in `Penalty`."""
        model.corner += np.diag(self.weights)
        model.gradient.shared[:] += self.weights * x.shared


def _prior(frames: Frames, weight: float) -> Penalty:
    return Prior(frames.stage.prior * weight, frames.figure.units)


def _smoothness(frames: Frames, weight: float) -> Penalty | None:
    return Smoothness(weight, frames.figure.units) if len(frames.views) > 1 else None


def _camera_prior(frames: Frames, weight: float) -> Penalty | None:
    return None if frames.camera_moves is None else CameraPrior(weight / frames.camera_moves.units.ravel() ** 2)


PRIOR = Term({"poses": 3e-3}, penalty=_prior)
SMOOTHNESS = Term({"poses": 1e-4}, penalty=_smoothness)
CAMERA_PRIOR = Term({"poses": 3e-3}, penalty=_camera_prior)
