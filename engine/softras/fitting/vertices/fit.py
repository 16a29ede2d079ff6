"""The fit of free vertices: its stages in order, and the best mesh on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...cage import Cage
from ...mesh import Mesh
from ...status import FINISHED, OUT_OF_TIME
from ...views import View, mean_iou
from ..observed.evaluate import evaluate, larger, thinned
from ..observed.observation import MAX_ENLARGEMENT, crop_box, observe
from ..observed.renderer import Renderer
from ..progress import FitResult, Journal, Progress
from ..schedule import Stage
from ..settings import Settings
from .free_mesh import FreeMesh
from .prepared import reconstruction, refinement
from .steps import Batches, Pace, Steps

HULL_SHARE = 0.5  # The visual hull may take this share of max_seconds; then a coarse one has to do.
STEP_COST = 100  # A step at S x S pixels takes time in proportion to about S + STEP_COST, by which stages share it.


class VertexFit:
    """One fit of free vertices.

    Attributes:
        mesh: the mesh as it is now.
        best: of all meshes that were measured so far, the one with the best mean IoU.
        best_iou: (N,) IoU of the best mesh with each view.
        remade: whether the faces of `mesh` are newer than those of `best`.
        step: how many steps are done.
        late: whether the time was too short for all steps, or for a fine visual hull.
    """

    def __init__(
        self,
        mesh: Mesh | None,
        views: list[View],
        lock: np.ndarray | None,
        settings: Settings,
        renderer: Renderer,
        journal: Journal,
        overlap: float | None = None,
        cage: Cage | None = None,
    ) -> None:
        """A fit whose start is prepared now.

        Args:
            mesh: the mesh to refine, in the world; None for a mesh made from the masks.
            overlap: its overlap with the masks of the views that count, where it was measured already.
            cage: where another mesh is seen than this one, how that moves with it.
        """
        self.views, self.settings, self.renderer, self.journal = views, settings, renderer, journal
        journal.begin(sum(stage.steps for stage in settings.schedule))
        counting = [view for view in views if view.weight > 0]
        self.late = False
        if mesh is None:
            begun, self.late = reconstruction(counting, settings.voxels, journal, HULL_SHARE * journal.max_seconds)
        else:
            begun = refinement(mesh, counting, lock, settings, renderer, journal, overlap, cage)
        self.mesh = FreeMesh(begun, settings.vertex_weights(), renderer.device)
        self.batches = Batches(views, settings.batch, settings.seed)
        self.watched = [thinned(view) for view in views]  # On the way these are measured; the result, every pixel.
        self.best, self.best_iou = begun.mesh, np.zeros(len(views))
        self.remade = False
        self.step = 0

    def events(self) -> Iterator[Progress | FitResult]:
        """The progress of the fit; the last item is the result."""
        journal = self.journal
        yield self.evaluated(0, {})
        for number, stage in enumerate(self.settings.schedule):
            if journal.over():
                self.late = True
                break
            yield from self.run_stage(number, stage)
            if journal.status != FINISHED:
                break
        if self.late and journal.status == FINISHED:
            journal.status = OUT_OF_TIME
        if any(view is not watched for view, watched in zip(self.views, self.watched, strict=True)):
            seen = self.mesh.seen_in_world(self.best)
            self.best_iou = evaluate(seen.vertices, seen.faces, self.views, self.renderer)
        cameras = [view.camera for view in self.views]
        yield FitResult(
            self.best, self.best_iou, journal.history, journal.status, journal.elapsed(), journal.notes, {}, cameras
        )

    def run_stage(self, number: int, stage: Stage) -> Iterator[Progress]:
        """Take the steps of one stage, and yield their progress."""
        pace = Pace(stage.steps, self.settings.patience, self.seconds(number))
        if stage.edge is not None:
            self.remesh(stage.edge)
        seen, unit = self.mesh.seen_in_world(self.mesh.world()), self.mesh.begun.unit
        observation = observe(self.views, seen.vertices, unit, stage.resolution, self.renderer)
        cull, notes = bool(self.settings.cull), self.journal.notes
        steps = Steps(stage, observation, self.batches, self.renderer, cull, notes)
        optimizer = self.mesh.optimizer(stage, self.settings.preconditioned)
        first, next_remesh = self.step, stage.remesh_every or np.inf
        while pace.done < 1:
            if self.journal.stopped():
                return
            if stage.edge is not None and self.step - first >= next_remesh:
                next_remesh += stage.remesh_every
                self.remesh(stage.edge)
                optimizer = self.mesh.optimizer(stage, self.settings.preconditioned)
            loss = steps.take(self.mesh, optimizer, pace.done)
            pace.advance()
            self.step, self.late = first + pace.step, self.late or pace.late
            if pace.measure:
                event = self.evaluated(number, loss)
                yield event
                assert event.iou is not None
                pace.measured(mean_iou(event.iou, self.views))
            elif self.journal.due():
                yield self.event(number, loss)

    def remesh(self, edge: float) -> None:
        """Make the mesh anew of even triangles with edges of a length in unit space.

        The best mesh so far has other faces, so the next one that is measured takes its place whatever its IoU.
        """
        self.mesh, self.remade = self.mesh.remeshed(edge), True

    def seconds(self, number: int) -> float | None:
        """How many seconds a stage may take of those left of max_seconds, by its share of the cost of all stages left.

        None without a limit.
        """
        if self.settings.max_seconds is None:
            return None
        finest = max(box[2] - box[0] for box in map(crop_box, self.views)) * MAX_ENLARGEMENT
        costs = [s.steps * (STEP_COST + min(s.resolution, finest)) for s in self.settings.schedule[number:]]
        return max(0.0, self.journal.left()) * costs[0] / sum(costs)

    def evaluated(self, stage: int, loss: dict[str, float]) -> Progress:
        """The event of this moment with the mesh and its IoU; the mesh is kept where it is the best so far."""
        mesh = self.mesh.world()
        with self.journal.measuring(larger(self.views, self.watched)):
            seen = self.mesh.seen_in_world(mesh)
            iou = evaluate(seen.vertices, seen.faces, self.watched, self.renderer)
        if self.remade or mean_iou(iou, self.views) >= mean_iou(self.best_iou, self.views):
            self.best, self.best_iou, self.remade = mesh, iou, False
        return self.event(stage, loss, iou, mesh.vertices)

    def event(
        self, stage: int, loss: dict[str, float], iou: np.ndarray | None = None, vertices: np.ndarray | None = None
    ) -> Progress:
        """The event of this moment, with a preview of the mesh where one is due."""
        if vertices is None and self.journal.preview_due():
            vertices = self.mesh.world().vertices
        makes_faces = vertices is not None and not self.mesh.begun.is_given
        faces = self.mesh.begun.mesh.faces if makes_faces else None
        return self.journal.event(self.step, stage, loss, iou=iou, vertices=vertices, faces=faces)
