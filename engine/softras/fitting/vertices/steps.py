"""The steps of a stage: which views each looks at, and how fast the stage goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...views import View
from ..observed.observation import Observation
from ..observed.renderer import Renderer
from ..schedule import Stage
from ..solvers.smooth_adam import Adam
from ..terms.free import Drawn
from .free_mesh import FreeMesh

EVALUATIONS = 10  # A stage is measured so many times.
IMPROVEMENT = 2e-4  # The mean IoU must grow by so much at least to count as better.
FEWER = "The GPU had not enough memory for all views of a step; it took fewer at once."


class Batches:
    """Which views the steps of a fit look at.

    Attributes:
        size: how many views one step looks at.
    """

    def __init__(self, views: Sequence[View], size: int, seed: int) -> None:
        self.size = size
        self._counting = np.flatnonzero([view.weight > 0 for view in views])
        self._random = np.random.default_rng(seed)

    def indices(self) -> Iterator[np.ndarray]:
        """Those of each step: every view once in random order, then anew."""
        while True:
            order = self._random.permutation(self._counting)
            yield from np.array_split(order, max(1, round(len(order) / self.size)))


class Pace:
    """How far a stage has got. Where nothing improves it goes on twice as fast; where time is short, faster still.

    Attributes:
        done: from 0 to 1, where the stage ends.
        late: whether time was short.
    """

    def __init__(self, steps: int, patience: int, seconds: float | None) -> None:
        """patience: measurements without improvement; seconds: until the stage must end, None for no limit."""
        self.done, self.late = 0.0, False
        self._steps, self._patience, self._seconds = steps, patience, seconds
        self._started = time.perf_counter()
        self._speed, self._best, self._waited = 1.0, 0.0, 0
        self._next = 1 / EVALUATIONS

    @property
    def step(self) -> int:
        """Steps done, as if none had been left out."""
        return min(self._steps, round(self.done * self._steps))

    @property
    def measure(self) -> bool:
        """Whether it is time for a measurement."""
        return self.done >= self._next or self.done >= 1

    def advance(self) -> None:
        """A step was taken."""
        self.done += self._speed / self._steps
        if self._seconds is not None:
            spent = (time.perf_counter() - self._started) / max(1e-9, self._seconds)
            self.late |= spent > max(self.done, 1 - 1e-9)
            self.done = max(self.done, spent)

    def measured(self, iou: float) -> None:
        """The mean IoU is so much now."""
        self._next = self.done + self._speed / EVALUATIONS
        better = iou > self._best + IMPROVEMENT
        self._best, self._waited = (iou, 0) if better else (self._best, self._waited + 1)
        if self._waited >= self._patience:
            self._speed, self._waited = 2 * self._speed, 0


class Steps:
    """Takes the steps of one stage."""

    def __init__(
        self, stage: Stage, observation: Observation, batches: Batches, renderer: Renderer, cull: bool, notes: list[str]
    ) -> None:
        """notes: what the user should know is added to them."""
        self._stage, self._observation, self._renderer, self._cull = stage, observation, renderer, cull
        self._batches, self._indices, self._notes = batches, batches.indices(), notes

    def take(self, mesh: FreeMesh, optimizer: Adam, done: float) -> dict[str, float]:
        """One step; returns the weighted value of each term.

        Where the GPU has not enough memory for the views of a step, it looks at half of them, as all that follow do.

        Args:
            done: how far the stage has got, from 0 to 1.
        """
        chosen = torch.as_tensor(next(self._indices), device=self._renderer.device)
        while True:
            try:
                return self._take(mesh, optimizer, done, chosen)
            except torch.cuda.OutOfMemoryError as error:
                if len(chosen) == 1:
                    raise InputError(
                        "the GPU has not enough memory for one view of this mesh; choose device 'cpu', a lower "
                        "resolution or a mesh with fewer faces."
                    ) from error
            chosen = chosen[: len(chosen) // 2]
            if FEWER not in self._notes:
                self._notes.append(FEWER)
            self._batches.size = len(chosen)
            optimizer.forget()

    def _take(self, mesh: FreeMesh, optimizer: Adam, done: float, chosen: Tensor) -> dict[str, float]:
        stage, seen = self._stage, self._observation
        vertices, rest = mesh.vertices(), mesh.rest
        blur = _between(stage.blur, done)
        alpha = seen.render(self._renderer, vertices, rest.faces, chosen, blur=blur, cull=self._cull)
        weights = torch.tensor([seen.views[i].weight for i in chosen.tolist()], dtype=alpha.dtype, device=alpha.device)
        drawn = Drawn(rest, vertices, alpha, seen, chosen, weights)
        terms = mesh.objective.terms(drawn, _between(stage.stiffness, done))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step(_between(stage.rate, done))
        return {name: float(value.detach()) for name, value in terms.items()}


def _between(ends: tuple[float, float], done: float) -> float:
    """Geometric interpolation from ends[0] (done = 0) to ends[1] (done = 1)."""
    return ends[0] * (ends[1] / ends[0]) ** min(1.0, max(0.0, done))
