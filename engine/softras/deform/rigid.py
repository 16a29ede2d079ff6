"""A rigid transform with uniform scale."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


class Rigid:
    """Rotation, translation and uniform scale about a fixed centre: x -> exp(s) R (x - c) + c + t.

    The parameters are one (7,) block: rotation vector (radians), translation (lengths), log scale.
    """

    name = "rigid"
    step_rule: Literal["uniform", "adam"] = "adam"

    def __init__(self, centre: Tensor) -> None:
        """centre: (3,) the fixed point of rotation and scale."""
        self._centre = centre
        self._parameters = torch.zeros(7, device=centre.device, dtype=centre.dtype, requires_grad=True)

    def parameters(self) -> list[Tensor]:
        """The (7,) block."""
        return [self._parameters]

    def apply(self, vertices: Tensor) -> Tensor:
        """(V, 3) vertices turned, scaled and moved."""
        turn, move, scale = self._parameters[:3], self._parameters[3:6], self._parameters[6]
        return scale.exp() * (vertices - self._centre) @ rotation(turn).T + self._centre + move


def rotation(turn: Tensor) -> Tensor:
    """(3, 3) rotation by |turn| radians about turn (3,): the matrix exponential of its cross-product matrix."""
    x, y, z = turn
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.matrix_exp(cross)
