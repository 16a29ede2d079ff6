"""What a search for few parameters minimizes in one stage: half the sum of squares of all terms over some frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...deform.cameras import COUNT
from ...raster.algebra import product
from ..solvers.chain import Model, Parameters
from ..terms.posed import Frames, Motion, Part, Penalty, Posed, Residuals, array
from ..terms.table import TERMS


class PoseObjective:
    """The sum of the terms whose weight is not 0, and its quadratic model for `solvers/levenberg.py`."""

    def __init__(self, frames: Frames, weights: dict[str, float], *, pause: Callable[[], None] = lambda: None) -> None:
        """The objective of some frames.

        Args:
            weights: the weight of each term, by its name in `TERMS`.
            pause: called before each frame's part of the work; an exception that it raises ends the work.
        """
        self.frames, self.pause = frames, pause
        self._penalties: list[Penalty] = []
        self._residuals: list[Residuals] = []
        for name, term in TERMS.items():
            weight = weights.get(name, 0.0)
            if weight and term.penalty is not None and (penalty := term.penalty(frames, weight)) is not None:
                self._penalties.append(penalty)
            if weight and term.residuals is not None and (residuals := term.residuals(frames, weight)) is not None:
                self._residuals.append(residuals)
        # The next model is asked for at the parameters whose cost was asked for last, so that each frame's last drawing
        # is kept.
        self._posed: list[tuple[bytes, Posed] | None] = [None] * len(frames.views)

    def cost(self, x: Parameters, more: Sequence[Residuals] = ()) -> float:
        """Half the sum of squares at parameters x; more: residuals that belong to this step alone, such as pulls."""
        total = sum((penalty.cost(x) for penalty in self._penalties), 0.0)
        for f in range(len(self.frames.views)):
            self.pause()
            posed = self.posed(f, x)
            for residuals in (*self._residuals, *more):
                total += residuals.cost(posed)
        return total

    def model(self, x: Parameters, more: Sequence[Residuals] = ()) -> Model:
        """The cost at x with its gradient and its Gauss-Newton matrix; more: as of `cost`."""
        model = Model.empty(len(self.frames.views), self.frames.figure.count, len(x.shared))
        for penalty in self._penalties:
            model.cost += penalty.cost(x)
            penalty.add_to(model, x)
        for f in range(len(self.frames.views)):
            self.pause()
            posed = self.posed(f, x)
            motion = Motion(posed)
            for residuals in (*self._residuals, *more):
                cost, parts = residuals.linear(posed, motion)
                model.cost += cost
                for part in parts:
                    self._add(model, posed, part)
        return model

    def posed(self, f: int, x: Parameters) -> Posed:
        """Frame f, posed by the parameters x."""
        key = x.frames[f].tobytes() + x.shared.tobytes()
        known = self._posed[f]
        if known is None or known[0] != key:
            self._posed[f] = known = key, Posed(self.frames, f, x)
        return known[1]

    def _add(self, model: Model, posed: Posed, part: Part) -> None:
        """Add J^T J and J^T r to a model, for residuals r with derivatives J."""
        rows, residuals, view = part
        square, slope = array(product(rows.T, rows)), array(product(residuals[None], rows)[0])
        own, moves = self.frames.figure.count, self.frames.camera_moves
        model.blocks[posed.index] += square[:own, :own]
        model.gradient.frames[posed.index] += slope[:own]
        if moves is not None and view is not None:
            start = COUNT * int(moves.groups[posed.views.cameras[view]])
            at = slice(start, start + COUNT)
            model.arrow[posed.index][:, at] += square[:own, own:]
            model.corner[at, at] += square[own:, own:]
            model.gradient.shared[at] += slope[own:]
