"""What a term of the objective is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .free import Loss, Rest
from .posed import Frames, Penalty, Residuals


@dataclass(frozen=True)
class Term:
    """One summand of what a fit minimizes, for one kind of fit or for both.

    What makes a summand is called once for each mesh that a fit of free vertices begins with, or for each stage of a
    search for few parameters, and returns None where nothing is there to be measured.

    Attributes:
        weights: the default factor in each kind of fit: of free vertices, by mode, "refine" or "reconstruct", and of
            few parameters, "poses"; 0 where one is missing.
        loss: for free vertices: from the mesh to a differentiable function of a step, which its weight multiplies.
        of_mesh: whether the loss is of the mesh alone, so that the stiffness of a stage multiplies it too.
        residuals: for few parameters: from the frames and the weight to half a sum of squares in every frame.
        penalty: for few parameters: from the same to a quadratic function of the parameters themselves.
    """

    weights: dict[str, float] = field(default_factory=dict)
    loss: Callable[[Rest], Loss | None] | None = None
    of_mesh: bool = False
    residuals: Callable[[Frames, float], Residuals | None] | None = None
    penalty: Callable[[Frames, float], Penalty | None] | None = None
