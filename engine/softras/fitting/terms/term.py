"""A term: one summand of the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .free import Loss, Rest
from .posed import Frames, Penalty, Residuals


@dataclass(frozen=True)
class Term:
    """One summand of what a fit minimizes, in fits of free vertices, in searches for few parameters, or in both.

    The functions `loss`, `residuals` and `penalty` prepare the summand: `loss` is called for each new mesh of a fit of
    free vertices, the two others for each stage of a search for few parameters. They return None where there is
    nothing to measure, as in a mesh without hinges. A term has those of them that it has a meaning for.

    Attributes:
        weights: the default weight in each kind of fit: "refine" and "reconstruct" are the modes of free vertices,
            "poses" means few parameters; a missing one is 0.
        loss: for free vertices; takes the mesh before the fit and returns a differentiable function of a step's
            drawing, which is then multiplied by the weight.
        of_mesh: whether the loss depends on the mesh alone, so that it is multiplied by the stage's stiffness too.
        residuals: for few parameters; takes the frames and the weight and returns half a sum of squares per frame.
        penalty: for few parameters; takes the same and returns a quadratic function of the parameters themselves.
    """

    weights: dict[str, float] = field(default_factory=dict)
    loss: Callable[[Rest], Loss | None] | None = None
    of_mesh: bool = False
    residuals: Callable[[Frames, float], Residuals | None] | None = None
    penalty: Callable[[Frames, float], Penalty | None] | None = None
