"""The fit of free vertices."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from ...deform import find_partners
from ...errors import InputError
from ...mesh import Mesh
from ...views import View, mean_iou
from ..observed.evaluate import evaluate, larger, thinned
from ..observed.observation import MAX_ENLARGEMENT, Observation, crop_box, observe
from ..observed.renderer import Renderer
from ..observed.unit import UnitSpace
from ..progress import FitResult, Journal, Progress
from ..schedule import Stage
from ..settings import Settings
from ..solvers.smooth_adam import Adam
from ..starts.hull import carve
from ..starts.placement import check_cameras, moved_onto_masks, onto_masks
from ..terms.free import Drawn
from .remesh import remesh
from .shape import Model

EVALUATIONS = 10  # in each stage
IMPROVEMENT = 2e-4  # of the mean IoU, that counts as one


class VertexFit:
    """One run: a mesh, or none, becomes one that matches its views."""

    def __init__(
        self,
        mesh: Mesh | None,
        views: list[View],
        lock: np.ndarray | None,
        settings: Settings,
        renderer: Renderer,
        journal: Journal,
    ) -> None:
        self.start, self.views, self.lock = mesh, views, lock
        self.settings, self.renderer, self.journal = settings, renderer, journal
        self.device = renderer.device
        self.weights = settings.vertex_weights()
        self.random = np.random.default_rng(settings.seed)
        self.batch = settings.batch
        journal.begin(sum(stage.steps for stage in settings.schedule))
        self.step = 0
        self.counting = [view for view in views if view.weight > 0]
        self.watched = [thinned(view) for view in views]  # measured on the way; at the end the views themselves
        self.best_iou = np.zeros(len(views))
        self.best: Mesh | None = None
        self.late = False

    def events(self) -> Iterator[Progress | FitResult]:
        """What happens; the last item is the result."""
        self.begin()
        yield self.evaluated(0, {})
        for number, stage in enumerate(self.settings.schedule):
            if number and self.journal.left() <= 0:
                self.late = True
                break
            yield from self.run_stage(number, stage)
            if self.journal.status != "finished":
                break
        assert self.best is not None
        if self.late and self.journal.status == "finished":
            self.journal.status = "out of time"
        if any(view is not watched for view, watched in zip(self.views, self.watched, strict=True)):
            self.best_iou = evaluate(self.best.vertices, self.best.faces, self.views, self.renderer)
        journal = self.journal
        cameras = [view.camera for view in self.views]
        yield FitResult(
            self.best, self.best_iou, journal.history, journal.status, journal.elapsed(), journal.notes, {}, cameras
        )

    def begin(self) -> None:
        """Make or place the mesh, and build the model."""
        if self.start is None:
            mesh, partners = carve(self.counting, self.settings.voxels), None
        else:
            mesh, partners = self.placed(self.start)
            check_cameras(mesh, self.counting)
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
        wanted = self.settings.place == "auto" and self.lock is None
        # A mesh that is moved leaves its plane of symmetry, which stays: only one that is far away is worth that.
        from_afar = mirror is not None
        found = onto_masks(mesh, self.counting, self.renderer, only_from_afar=from_afar) if wanted else None
        if found is not None:
            scale, onto = found
            loose = np.ones(len(mesh.vertices), dtype=bool)
            loose[mesh.faces] = False
            moved = mesh.vertices @ onto[:3, :3].T + onto[:3, 3]
            mesh = Mesh(np.where(loose[:, None], mesh.vertices, moved), mesh.faces)
            self.journal.notes.append(moved_onto_masks(scale))
        return mesh, mirror

    def build(self, mesh: Mesh) -> None:
        """Begin anew with a mesh."""
        self.model = Model(
            mesh,
            self.unit,
            self.weights,
            keep_detail=self.settings.mode == "refine",
            lock=self.lock,
            mirror=self.partners,
            device=self.device,
        )
        self.cull = bool(self.settings.cull)

    def remesh(self, edge: float) -> None:
        """Even triangles of an edge length, the shape staying."""
        mesh = self.model.mesh
        vertices, faces = remesh(self.unit.to_unit(self.model.world_vertices()), mesh.faces, edge)
        self.build(Mesh(self.unit.to_world(vertices), faces))
        self.best_iou = np.zeros(len(self.views))  # the ragged mesh from before is no longer what to beat

    def run_stage(self, number: int, stage: Stage) -> Iterator[Progress]:
        """One resolution. What is softened and stepped shrinks with `done`; where nothing improves, twice as fast."""
        started, deadline = time.perf_counter(), self.deadline(number)
        if stage.edge is not None:
            self.remesh(stage.edge)
        observation = observe(self.views, self.model.world_vertices(), self.unit, stage.resolution, self.device)
        optimizer = self.model.optimizer(stage, self.settings.preconditioned)
        batches = self.batches()
        first, done, pace, best, waited = self.step, 0.0, 1.0, 0.0, 0
        next_evaluation, next_remesh = 1 / EVALUATIONS, stage.remesh_every or np.inf
        while done < 1:
            if self.journal.stopped():
                return
            if stage.edge is not None and self.step - first >= next_remesh:
                next_remesh += stage.remesh_every
                self.remesh(stage.edge)
                optimizer = self.model.optimizer(stage, self.settings.preconditioned)
            loss = self.step_within_memory(stage, observation, optimizer, next(batches), done)
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
            elif self.journal.due():
                yield self.event(number, loss)

    def deadline(self, number: int) -> float | None:
        """When the stage must end: it has its share of what is left of max_seconds, by steps and their rough cost."""
        if self.settings.max_seconds is None:
            return None
        finest = max(box[2] - box[0] for box in map(crop_box, self.views)) * MAX_ENLARGEMENT
        costs = [s.steps * (100 + min(s.resolution, finest)) for s in self.settings.schedule[number:]]
        left = max(0.0, self.journal.left())
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
        self, stage: Stage, observation: Observation, optimizer: Adam, batch: torch.Tensor, done: float
    ) -> dict[str, float]:
        """One step; where the GPU has not enough memory for its views, of half of them, from then on."""
        while True:
            try:
                return self.take_step(stage, observation, optimizer, batch, done)
            except torch.cuda.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise InputError(
                        "the GPU has not enough memory for one view of this mesh; choose device 'cpu', a lower "
                        "resolution or a mesh with fewer faces."
                    ) from error
            batch = batch[: len(batch) // 2]
            if self.batch == self.settings.batch:
                note = "The GPU had not enough memory for all views of a step; it took fewer at once."
                self.journal.notes.append(note)
            self.batch = len(batch)
            optimizer.forget()

    def take_step(
        self, stage: Stage, observation: Observation, optimizer: Adam, batch: torch.Tensor, done: float
    ) -> dict[str, float]:
        """One step; returns the weighted value of each term."""
        vertices, blur = self.model.vertices(), _between(stage.blur, done)
        rest = self.model.rest
        alpha = observation.render(self.renderer, vertices, rest.faces, batch, blur=blur, cull=self.cull)
        weights = torch.tensor([self.views[i].weight for i in batch.tolist()], dtype=alpha.dtype, device=self.device)
        drawn = Drawn(rest, vertices, alpha, observation, batch, weights)
        terms = self.model.objective.terms(drawn, _between(stage.stiffness, done))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step(_between(stage.rate, done))
        return {name: float(value.detach()) for name, value in terms.items()}

    def evaluated(self, stage: int, loss: dict[str, float]) -> Progress:
        """The event of this moment with its IoU; the best such state is kept."""
        vertices, faces = self.model.world_vertices(), self.model.mesh.faces
        with self.journal.measuring(larger(self.views, self.watched)):
            iou = evaluate(vertices, faces, self.watched, self.renderer)
        if self.best is None or self.weighted(iou) >= self.weighted(self.best_iou):
            self.best, self.best_iou = Mesh(vertices, faces), iou
        return self.event(stage, loss, iou, vertices)

    def weighted(self, iou: np.ndarray) -> float:
        """The mean over the views by their weights."""
        return mean_iou(iou, self.views)

    def event(
        self, stage: int, loss: dict[str, float], iou: np.ndarray | None = None, vertices: np.ndarray | None = None
    ) -> Progress:
        """The event of this moment."""
        if vertices is None and self.journal.preview_due():
            vertices = self.model.world_vertices()
        faces = self.model.mesh.faces if vertices is not None and self.start is None else None
        return self.journal.event(self.step, stage, loss, iou=iou, vertices=vertices, faces=faces)


def _between(ends: tuple[float, float], done: float) -> float:
    """Geometric interpolation from ends[0] (done = 0) to ends[1] (done = 1)."""
    return ends[0] * (ends[1] / ends[0]) ** min(1.0, max(0.0, done))
