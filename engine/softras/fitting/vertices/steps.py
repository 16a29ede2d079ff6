"""The steps of a stage: which views each step uses, and how fast the stage goes on."""

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

EVALUATIONS = 10  # The mesh is measured so many times in each stage.
IMPROVEMENT = 2e-4  # A measurement counts as better where the mean IoU has grown by more than this.
FEWER = "The GPU had not enough memory for all views of a step; it took fewer at once."


class Batches:
    """Chooses the views of each step among those of positive weight.

    Attributes:
        size: about how many views one step uses.
    """

    def __init__(self, views: Sequence[View], size: int, seed: int) -> None:
        self.size = size
        self._counting = np.flatnonzero([view.weight > 0 for view in views])
        self._random = np.random.default_rng(seed)

    def indices(self) -> Iterator[np.ndarray]:
        """The indices of the views of one step after the other: every view once, in random order, then all again."""
        while True:
            order = self._random.permutation(self._counting)
            yield from np.array_split(order, max(1, round(len(order) / self.size)))


class Pace:
    """How far a stage has got, and how far each step takes it.

    A stage that has stopped improving is shortened: each further step counts twice. A stage whose time is short skips
    ahead with the clock.

    Attributes:
        done: the share of the stage that is done; it ends at 1.
        late: whether the time was up before the stage was done.
    """

    def __init__(self, steps: int, patience: int, seconds: float | None) -> None:
        """The stage's pace before its first step.

        Args:
            patience: after so many measurements without improvement the stage is shortened.
            seconds: how long the stage may take; None for no limit.
        """
        self.done, self.late = 0.0, False
        self._steps, self._patience, self._seconds = steps, patience, seconds
        self._started = time.perf_counter()
        self._speed, self._best, self._waited = 1.0, 0.0, 0
        self._next = 1 / EVALUATIONS

    @property
    def step(self) -> int:
        """How many steps this share of the stage is, counting those that were skipped."""
        return min(self._steps, round(self.done * self._steps))

    @property
    def measure(self) -> bool:
        """Whether a measurement is due."""
        return self.done >= self._next or self.done >= 1

    def advance(self) -> None:
        """Count one step."""
        self.done += self._speed / self._steps
        if self._seconds is not None:
            spent = (time.perf_counter() - self._started) / max(1e-9, self._seconds)
            self.late |= spent > max(self.done, 1 - 1e-9)
            self.done = max(self.done, spent)

    def measured(self, iou: float) -> None:
        """Tell the mean IoU that was measured."""
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
        """notes: sentences for the user, to which this may add one."""
        self._stage, self._observation, self._renderer, self._cull = stage, observation, renderer, cull
        self._batches, self._indices, self._notes = batches, batches.indices(), notes
        _keep_freed_memory()
        weights = [view.weight for view in observation.views]
        self._weights = torch.tensor(weights, dtype=torch.float32, device=renderer.device)

    def take(self, mesh: FreeMesh, optimizer: Adam, done: float) -> dict[str, float]:
        """Take one step. Returns each term times its weight, by name.

        Where the GPU has not enough memory for the views of the step, this step and all later ones use half as many.

        Args:
            done: the share of the stage that is done, from 0 to 1.
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
        stage, observation = self._stage, self._observation
        vertices, rest = mesh.vertices(), mesh.rest
        blur = _between(stage.blur, done)
        alpha = observation.render(self._renderer, *mesh.seen(vertices), chosen, blur=blur, cull=self._cull)
        drawn = Drawn(rest, vertices, alpha, observation, chosen, self._weights[chosen])
        terms = mesh.objective.terms(drawn, _between(stage.stiffness, done))
        terms.sum().backward()
        optimizer.step(_between(stage.rate, done))
        return dict(zip(mesh.objective.names, terms.tolist(), strict=True))


def _keep_freed_memory() -> None:
    """Let the process keep the memory of the images that a step frees, so that the next step need not ask for it again.

    The system clears the pages that it gives out, which can take half of a step. glibc's malloc gives freed memory back
    once there is more of it than twice the largest block that was ever mapped by itself and freed, of blocks up to
    32 MiB. This maps and frees such a block. Nothing is written to it, so that it takes no memory. Other allocators do
    not care.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


def _between(ends: tuple[float, float], done: float) -> float:
    """Geometric interpolation from ends[0] (done = 0) to ends[1] (done = 1)."""
    return ends[0] * (ends[1] / ends[0]) ** min(1.0, max(0.0, done))
