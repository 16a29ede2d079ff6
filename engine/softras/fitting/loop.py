"""The run of a fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..deform import find_partners
from ..errors import InputError
from ..mesh import Mesh
from ..raster import cuda
from ..views import View
from .crops import FINEST, Crops, crop_box, crop_views
from .evaluate import evaluate, thinned
from .hull import carve
from .model import DEFAULT_WEIGHTS, Model
from .placement import check_cameras, needs_placement, place
from .progress import FitResult, Progress
from .remesh import remesh
from .schedule import Stage
from .settings import Settings
from .unit import UnitSpace

EVALUATIONS = 10  # in each stage
IMPROVEMENT = 2e-4  # of the mean IoU, that counts as one
EVENT_SECONDS = 0.1  # between progress events
PREVIEW_SECONDS = 0.4  # between those with vertices


def fit(
    mesh: Mesh | None,
    views: Sequence[View],
    *,
    lock: np.ndarray | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> FitResult:
    """Fit a mesh to the masks of its views.

    Args:
        mesh: the start; None when mode is "reconstruct".
        views: at least one, at least two for "reconstruct".
        lock: (V,) bool, True where a vertex must not move.
        stop: asked at every step; once it returns True the best state so far is the result.
        settings: by name, see `Settings`: mode="refine", optimize=("vertices",), seed=0, device="auto", ...

    Raises:
        InputError: an unusable setting, no views, a camera inside the mesh, ...
    """
    for event in fit_events(mesh, views, lock=lock, stop=stop, **settings):
        if isinstance(event, FitResult):
            return event
    raise RuntimeError("a fit always ends with its result")


def fit_events(
    mesh: Mesh | None,
    views: Sequence[View],
    *,
    lock: np.ndarray | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Iterator[Progress | FitResult]:
    """As `fit`, telling its progress; the last item is the FitResult. Closing the iterator ends the fit at once."""
    return _Run(mesh, list(views), lock, stop or (lambda: False), Settings.of(**settings)).events()


class _Run:
    def __init__(
        self,
        mesh: Mesh | None,
        views: list[View],
        lock: np.ndarray | None,
        stop: Callable[[], bool],
        settings: Settings,
    ) -> None:
        self.started = time.perf_counter()
        self.settings, self.views, self.stop = settings, views, stop
        self.lock = _checked_lock(lock, mesh)
        if self.lock is not None and "rigid" in settings.optimize:
            raise InputError("a rigid fit moves every vertex; leave out the lock mask, or optimize only vertices.")
        if lock is not None and settings.mode == "reconstruct":
            raise InputError("reconstruct makes a new mesh, so nothing can be locked; leave out the lock mask.")
        self.device = _device(settings.device)
        if not views:
            raise InputError("there are no views; add at least one camera with a mask.")
        if not any(view.weight > 0 for view in views):
            raise InputError("all views have weight 0; give at least one of them a positive weight.")
        if settings.mode == "refine" and mesh is None:
            raise InputError("there is no mesh to refine; give one, or choose mode 'reconstruct'.")
        if settings.mode == "reconstruct" and mesh is not None:
            raise InputError("reconstruct makes a new mesh; leave out the given one, or choose mode 'refine'.")
        self.start = mesh
        self.weights = DEFAULT_WEIGHTS[settings.mode] | settings.weights
        if not (self.weights["iou"] or self.weights["squared"]):
            raise InputError("the weights of iou and squared are both 0, so no mask counts; give one of them a weight.")
        self.random = np.random.default_rng(settings.seed)
        self.history: list[Progress] = []
        self.notes: list[str] = []
        self.batch = settings.batch
        self.steps = sum(stage.steps for stage in settings.schedule)
        self.step = 0
        self.watched = [thinned(view) for view in views]  # measured on the way; at the end the views themselves
        self.best_iou = np.zeros(len(views))
        self.best: Mesh | None = None
        self.shown = self.told = -np.inf
        self.status, self.late = "finished", False

    def events(self) -> Iterator[Progress | FitResult]:
        self.begin()
        yield self.evaluated(0, {})
        for number, stage in enumerate(self.settings.schedule):
            yield from self.run_stage(number, stage)
            if self.status != "finished":
                break
        assert self.best is not None
        if self.late and self.status == "finished":
            self.status = "out of time"
        notes = self.notes + _device_notes(self.device)
        if any(view is not watched for view, watched in zip(self.views, self.watched, strict=True)):
            self.best_iou = evaluate(self.best.vertices, self.best.faces, self.views, self.device)
        yield FitResult(self.best, self.best_iou, self.history, self.status, self.elapsed(), notes)

    def begin(self) -> None:
        """Make or place the mesh, and build the model."""
        if self.start is None:
            mesh, partners = carve(self.views, self.settings.voxels), None
        else:
            mesh, partners = self.placed(self.start)
            check_cameras(mesh, self.views)
        self.partners = partners
        used = mesh.vertices[np.unique(mesh.faces)]
        if not np.ptp(used, axis=0).any():
            raise InputError("all faces of the mesh are at one point; give a mesh with some extent.")
        self.unit = UnitSpace.around(used)
        self.build(mesh)

    def placed(self, mesh: Mesh) -> tuple[Mesh, tuple[np.ndarray, np.ndarray] | None]:
        """The mesh on the masks, and its mirror partners and plane normal if it is to stay symmetric."""
        mirror = None
        if self.settings.symmetry is not None:
            frame = np.reshape(self.settings.symmetry_frame or np.eye(4).ravel(), (4, 4))
            normal = np.linalg.inv(frame[:3, :3])["xyz".index(self.settings.symmetry)]
            normal = normal / np.linalg.norm(normal)
            mirror = (find_partners(mesh.vertices, frame[:3, 3], normal), normal)
        if self.settings.place == "auto" and self.lock is None and needs_placement(mesh, self.views, self.device):
            scale, pivot, shift = place(mesh.vertices[np.unique(mesh.faces)], self.views)
            loose = np.ones(len(mesh.vertices), dtype=bool)
            loose[mesh.faces] = False
            moved = scale * (mesh.vertices - pivot) + pivot + shift
            mesh = Mesh(np.where(loose[:, None], mesh.vertices, moved), mesh.faces)
            self.notes.append(f"The mesh did not overlap the masks; it was moved onto them and scaled by {scale:.3g}.")
        return mesh, mirror

    def build(self, mesh: Mesh) -> None:
        self.model = Model(
            mesh,
            self.unit,
            self.settings.optimize,
            self.weights,
            keep_detail=self.settings.mode == "refine",
            lock=self.lock,
            mirror=self.partners,
            device=self.device,
        )
        cull = self.settings.cull
        self.cull = cull if cull is not None else "vertices" not in self.settings.optimize and _closed(mesh)

    def remesh(self, edge: float) -> None:
        mesh = self.model.mesh
        vertices, faces = remesh(self.unit.to_unit(self.model.world_vertices()), mesh.faces, edge)
        self.build(Mesh(self.unit.to_world(vertices), faces))
        self.best_iou = np.zeros(len(self.views))  # the ragged mesh from before is no longer what to beat

    def run_stage(self, number: int, stage: Stage) -> Iterator[Progress]:
        """One resolution. What is softened and stepped shrinks with `done`; where nothing improves, twice as fast."""
        started, deadline = time.perf_counter(), self.deadline(number)
        if stage.edge is not None:
            self.remesh(stage.edge)
        crops = crop_views(self.views, self.model.world_vertices(), self.unit, stage.resolution, self.device)
        optimizers = self.model.optimizers(stage, self.settings.preconditioned)
        batches = self.batches()
        first, done, pace, best, waited = self.step, 0.0, 1.0, 0.0, 0
        next_evaluation, next_remesh = 1 / EVALUATIONS, stage.remesh_every or np.inf
        while done < 1:
            if self.stop():
                self.status = "stopped"
                return
            if stage.edge is not None and self.step - first >= next_remesh:
                next_remesh += stage.remesh_every
                self.remesh(stage.edge)
                optimizers = self.model.optimizers(stage, self.settings.preconditioned)
            loss = self.step_within_memory(stage, crops, optimizers, next(batches), done)
            done += pace / stage.steps
            if deadline is not None:
                spent = (time.perf_counter() - started) / max(1e-9, deadline - started)
                self.late |= spent > max(done, 1 - 1e-9)
                done = max(done, spent)
            self.step = first + min(stage.steps, round(done * stage.steps))
            if done >= next_evaluation or done >= 1:
                next_evaluation = done + pace / EVALUATIONS
                event = self.evaluated(number, loss)
                yield event
                assert event.iou is not None
                mean = self.weighted(event.iou)
                best, waited = (mean, 0) if mean > best + IMPROVEMENT else (best, waited + 1)
                if waited >= self.settings.patience:
                    pace, waited = 2 * pace, 0
            elif self.elapsed() - self.told > EVENT_SECONDS:
                yield self.event(number, loss)

    def deadline(self, number: int) -> float | None:
        """When the stage must end: it has its share of what is left of max_seconds, by steps and their rough cost."""
        if self.settings.max_seconds is None:
            return None
        finest = max(box[2] - box[0] for box in map(crop_box, self.views)) * FINEST
        costs = [s.steps * (100 + min(s.resolution, finest)) for s in self.settings.schedule[number:]]
        left = max(0.0, self.settings.max_seconds - self.elapsed())
        return time.perf_counter() + left * costs[0] / sum(costs)

    def batches(self) -> Iterator[torch.Tensor]:
        """Indices of the views of each step: every view once in random order, then anew."""
        usable = np.flatnonzero([view.weight > 0 for view in self.views])
        while True:
            order = self.random.permutation(usable)
            parts = max(1, round(len(order) / self.batch))
            for part in np.array_split(order, parts):
                yield torch.as_tensor(part, device=self.device)

    def step_within_memory(
        self, stage: Stage, crops: Crops, optimizers: list, batch: torch.Tensor, done: float
    ) -> dict[str, float]:
        """One step; where the GPU has not enough memory for its views, of half of them, from then on."""
        while True:
            try:
                return self.take_step(stage, crops, optimizers, batch, done)
            except torch.cuda.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise InputError(
                        "the GPU has not enough memory for one view of this mesh; choose device 'cpu', a lower "
                        "resolution or a mesh with fewer faces."
                    ) from error
            batch = batch[: len(batch) // 2]
            if self.batch == self.settings.batch:
                self.notes.append("The GPU had not enough memory for all views of a step; it took fewer at once.")
            self.batch = len(batch)
            for optimizer, _ in optimizers:
                optimizer.forget()

    def take_step(
        self, stage: Stage, crops: Crops, optimizers: list, batch: torch.Tensor, done: float
    ) -> dict[str, float]:
        """One step of all variables; returns the weighted value of each term."""
        blur = _between(stage.blur, done)
        vertices = self.model.vertices()
        sigma = (2 * blur / crops.resolution) ** 2
        alpha = crops.render(vertices, self.model.faces, batch, sigma=sigma, cull=self.cull)
        weights = torch.tensor([self.views[i].weight for i in batch.tolist()], dtype=alpha.dtype, device=self.device)
        objective = self.model.objective
        terms = objective.silhouette(alpha, crops.masks_of(batch), weights)
        terms |= objective.mesh(vertices, _between(stage.stiffness, done))
        torch.stack(list(terms.values())).sum().backward()
        for optimizer, rates in optimizers:
            optimizer.step(_between(rates, done))
        return {name: float(value.detach()) for name, value in terms.items()}

    def evaluated(self, stage: int, loss: dict[str, float]) -> Progress:
        """The event of this moment with its IoU; the best such state is kept."""
        vertices, faces = self.model.world_vertices(), self.model.mesh.faces
        iou = evaluate(vertices, faces, self.watched, self.device)
        if self.best is None or self.weighted(iou) >= self.weighted(self.best_iou):
            self.best, self.best_iou = Mesh(vertices, faces), iou
        return self.event(stage, loss, iou, vertices)

    def weighted(self, iou: np.ndarray) -> float:
        return float(np.average(iou, weights=[view.weight for view in self.views]))

    def event(
        self, stage: int, loss: dict[str, float], iou: np.ndarray | None = None, vertices: np.ndarray | None = None
    ) -> Progress:
        self.told = self.elapsed()
        if vertices is None and self.told - self.shown > PREVIEW_SECONDS:
            vertices = self.model.world_vertices()
        if vertices is not None:
            self.shown = self.told
        faces = self.model.mesh.faces if vertices is not None and self.start is None else None
        event = Progress(self.step, self.steps, stage, loss, self.told, iou, vertices, faces)
        self.history.append(replace(event, vertices=None, faces=None))
        return event

    def elapsed(self) -> float:
        return time.perf_counter() - self.started


def _between(ends: tuple[float, float], done: float) -> float:
    """Geometric interpolation from ends[0] (done = 0) to ends[1] (done = 1)."""
    return ends[0] * (ends[1] / ends[0]) ** min(1.0, max(0.0, done))


def _closed(mesh: Mesh) -> bool:
    """Whether every side of a face is met by exactly one face the other way round, and the normals point outwards.

    Vertices at one place count as one, as they do in a fit.
    """
    place = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].ravel()
    sides = place[mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)].astype(np.int64)
    count = len(mesh.vertices)
    forward, backward = np.sort(sides[:, 0] * count + sides[:, 1]), np.sort(sides[:, 1] * count + sides[:, 0])
    if not np.array_equal(forward, backward) or (np.diff(forward) == 0).any():
        return False
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - mesh.vertices.mean(axis=0) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) > 0


def _checked_lock(lock: np.ndarray | None, mesh: Mesh | None) -> np.ndarray | None:
    if lock is None or mesh is None:
        return None
    lock = np.asarray(lock, dtype=bool)
    if lock.shape != (len(mesh.vertices),):
        raise InputError(f"the lock mask has shape {lock.shape} but the mesh has {len(mesh.vertices)} vertices.")
    return lock if lock.any() else None


def _device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU whose rasterizer runs, else the CPU."""
    if name == "cpu":
        return torch.device("cpu")
    problem = cuda.problem()
    if name == "cuda" and problem:
        raise InputError(f"device 'cuda' was asked for but cannot be used: {problem}; choose 'auto' or 'cpu'.")
    return torch.device("cpu" if problem else "cuda")


def _device_notes(device: torch.device) -> list[str]:
    """Which device computes, where there was a choice."""
    if not torch.cuda.is_available():
        return []
    name = torch.cuda.get_device_name(torch.cuda.current_device())
    return [f"The fit ran on the {'GPU' if device.type == 'cuda' else 'CPU, not on the GPU'} ({name})."]
