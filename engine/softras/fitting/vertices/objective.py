"""What a fit of free vertices minimizes: the weighted sum of the losses of its terms."""

from __future__ import annotations

from typing import NamedTuple

import torch
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

    @property
    def names(self) -> list[str]:
        """Of the T terms, in their order."""
        return list(self._losses)

    def terms(self, drawn: Drawn, stiffness: float = 1.0) -> Tensor:
        """(T,) each loss times its weight; losses of the mesh alone are multiplied by the stiffness too."""
        factors = [weight * (stiffness if of_mesh else 1.0) for _, weight, of_mesh in self._losses.values()]
        losses = torch.stack([loss(drawn) for loss, _, _ in self._losses.values()])
        return losses * losses.new_tensor(factors)
