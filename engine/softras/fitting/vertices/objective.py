"""What a fit of free vertices minimizes: the weighted sum of the losses of its terms."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..terms.free import Drawn, Loss, Rest
from ..terms.table import TERMS


class _Weighted(NamedTuple):
    loss: Loss
    weight: float
    of_mesh: bool


class Objective:
    """The losses, for one mesh, of all terms whose weight is not 0."""

    def __init__(self, rest: Rest, weights: dict[str, float]) -> None:
        """rest: the mesh before the fit; weights: the weight of each term, by its name."""
        self._losses: dict[str, _Weighted] = {}
        for name, term in TERMS.items():
            weight = weights.get(name, 0.0)
            if weight and term.loss is not None and (loss := term.loss(rest)) is not None:
                self._losses[name] = _Weighted(loss, weight, term.of_mesh)

    def terms(self, drawn: Drawn, stiffness: float = 1.0) -> dict[str, Tensor]:
        """By name, each loss times its weight; losses of the mesh alone are multiplied by the stiffness too."""
        return {
            name: (stiffness if of_mesh else 1.0) * weight * loss(drawn)
            for name, (loss, weight, of_mesh) in self._losses.items()
        }
