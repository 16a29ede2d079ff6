"""The fit: its input is checked, then few parameters are searched for, then the free vertices are fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..cage import Cage, checked_cage
from ..errors import InputError, one_line
from ..mesh import Mesh
from ..raster.native import cuda
from ..rig import Rig, carried_frame, mesh_in_world, rig_of
from ..status import FINISHED, OUT_OF_TIME, STOPPED
from ..views import View, mean_iou
from .alignment import Aligned, aligned
from .cages import carried_cage, followed, of_cage, shown_rig
from .doubts import doubts, remarks
from .observed.evaluate import evaluate, larger, thinned
from .observed.observed_view import ObservedView
from .observed.renderer import Renderer, Renderers
from .poses.fit import fit_poses
from .progress import FitResult, Journal, Progress
from .settings import Settings
from .starts.placement import PlacementNote, without_placement
from .vertices.fit import VertexFit
from .vertices.prepared import shown_of

POSE_SHARE = 0.5  # Few parameters may take this share of max_seconds where free vertices follow.
ROUGH = 0.01  # The mean IoU of thinned views may differ by so much from the mean IoU of all pixels.


def fit(
    start: Mesh | Rig | None,
    views: Sequence[View],
    *,
    lock: np.ndarray | None = None,
    cage: Cage | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> FitResult:
    """Fit a mesh or a rig, and cameras, to the masks of views.

    Args:
        start: a mesh, or a rig with a transform, bones or shape keys of its own; None when mode is "reconstruct".
        views: at least one view, or at least two for "reconstruct". Views of several frames show a sequence.
        lock: (V,) bool, True for vertices that must not move by themselves.
        cage: where another mesh is seen than the start's, how that moves with the start's vertices, in the world.
        stop: called at every step; once it returns True the fit ends with the best state so far.
        settings: any of `Settings`, by name: mode="refine", optimize=("vertices",), seed=0, device="auto", ...

    Raises:
        InputError: the input cannot be used: a wrong setting, no views, a camera inside the mesh, ...
    """
    for event in fit_events(start, views, lock=lock, cage=cage, stop=stop, **settings):
        if isinstance(event, FitResult):
            return event
    raise RuntimeError("a fit always ends with its result")


def fit_events(
    start: Mesh | Rig | None,
    views: Sequence[View],
    *,
    lock: np.ndarray | None = None,
    cage: Cage | None = None,
    stop: Callable[[], bool] | None = None,
    **settings: Any,
) -> Iterator[Progress | FitResult]:
    """As `fit`, but yields its progress; the last item is the FitResult. Closing the iterator ends the fit at once."""
    checked = Settings.of(**settings)
    views = list(views)
    lock = _checked_lock(lock, start)
    _check(start, views, lock, checked)
    _check_cage(cage, start, checked)
    return _with_notes(start, views, lock, cage, checked, Journal(stop, checked.max_seconds))


def _with_notes(
    start: Mesh | Rig | None,
    views: list[View],
    lock: np.ndarray | None,
    cage: Cage | None,
    settings: Settings,
    journal: Journal,
) -> Iterator[Progress | FitResult]:
    """The events of a fit to the views whose masks show an outline, each with the new notes for the user."""
    device = _device(settings.device)
    renderers = Renderers(settings.renderer, device)
    renderer = renderers["exact"]
    views = [ObservedView.of(view) for view in views]
    journal.notes += doubts(views, cameras_known="cameras" not in settings.optimize, ended=journal.over)
    views = [replace(view, weight=0.0) if view.weight > 0 and view.blank() else view for view in views]
    landmarks = any(mark.weight > 0 for view in views if view.weight > 0 for mark in view.landmarks)
    started: float | None = None  # the start's mean IoU with the thinned views
    said = 0
    begun = None if start is None else shown_of(mesh_in_world(start), cage)
    for event in _events(start, views, lock, cage, settings, journal, renderers):
        if not isinstance(event, FitResult):
            if started is None and event.iou is not None and begun is not None:
                placed = any(isinstance(note, PlacementNote) for note in journal.notes)
                started = _measured(begun, views, renderer, journal) if placed else mean_iou(event.iou, views)
            yield replace(event, notes=[one_line(note) for note in journal.notes[said:]])
            said = len(journal.notes)
            continue
        result = event
        if start is not None and begun is not None and started is not None and not landmarks:
            # Landmarks may ask for what masks do not.
            result = _at_least_the_start(event, start, begun, started, views, renderer)
        notes = remarks(views, result.iou, settings.optimize) if result.status == FINISHED else []
        notes = result.notes + notes + _device_notes(device)
        yield replace(result, notes=[one_line(note) for note in notes])


def _measured(mesh: Mesh, views: list[View], renderer: Renderer, journal: Journal) -> float:
    """The mesh's mean IoU with the thinned views."""
    few = [thinned(view) for view in views]
    with journal.measuring(larger(views, few)):
        return mean_iou(evaluate(mesh.vertices, mesh.faces, few, renderer), views)


def _at_least_the_start(
    result: FitResult, start: Mesh | Rig, begun: Mesh, rough: float, views: list[View], renderer: Renderer
) -> FitResult:
    """The result, or the start if that matches the masks better.

    Args:
        begun: what is seen of the start, in the world.
        rough: the start's mean IoU with the thinned views; the start is measured again only where this leaves a doubt.
    """
    found = mean_iou(result.iou, views)
    if found > rough + ROUGH:
        return result
    iou = evaluate(begun.vertices, begun.faces, views, renderer)
    if found >= mean_iou(iou, views):
        return result
    rigs = dict.fromkeys(result.rigs, rig_of(start))
    stays = (
        f"Nothing that was found matches the masks better than the start (mean IoU {mean_iou(iou, views):.3f}), so all "
        "stays as it was."
    )
    cameras = [view.camera for view in views]
    notes = without_placement(result.notes)  # It is back where it was.
    shown = None if result.shown is None else begun
    mesh = mesh_in_world(start)
    return replace(result, mesh=mesh, iou=iou, rigs=rigs, cameras=cameras, notes=[*notes, stays], shown=shown)


def _events(
    start: Mesh | Rig | None,
    views: list[View],
    lock: np.ndarray | None,
    cage: Cage | None,
    settings: Settings,
    journal: Journal,
    renderers: Renderers,
) -> Iterator[Progress | FitResult]:
    """The events of the search for few parameters and of the fit of free vertices, whichever are asked for."""
    result: FitResult | None = None
    vertices_too = "vertices" in settings.optimize
    if settings.pose_variables:
        assert start is not None
        share = POSE_SHARE if vertices_too else 1.0
        seen = start if cage is None else shown_rig(cage, start)
        for event in fit_poses(seen, views, settings, renderers, journal, share * journal.max_seconds):
            if cage is not None:
                event = of_cage(event, start)
            if isinstance(event, FitResult):
                result = event
            else:
                yield event
        assert result is not None
    if result is None or (vertices_too and result.status != STOPPED):
        mesh = None if start is None else mesh_in_world(start)
        if result is not None:
            assert start is not None
            mesh, views = result.mesh, result.fitted_views(views)
            settings = _carried(settings, start, result)
            if cage is not None:
                cage = carried_cage(cage, start, result.rigs)
        rigs = result.rigs if result is not None else {}
        if isinstance(start, Rig) and not rigs:
            rigs = {views[0].frame: start}
        overlap = None
        if mesh is not None and not settings.pose_variables and settings.place == "auto" and lock is None:
            seen = shown_of(mesh, cage)
            for found in aligned(seen, views, settings, renderers, journal):
                if isinstance(found, Aligned) and cage is not None:
                    mesh = followed(cage, mesh, found.mesh, views, renderers["exact"], journal)
                elif isinstance(found, Aligned):
                    mesh, overlap = found.mesh, found.overlap
                elif cage is not None:
                    yield replace(found, vertices=None)
                else:
                    yield replace(found, rigs=rigs)
        cameras = [view.camera for view in views] if "cameras" in settings.optimize else None
        for event in VertexFit(mesh, views, lock, settings, renderers["exact"], journal, overlap, cage).events():
            if isinstance(event, FitResult):
                shown = None if cage is None else cage.shown_at(event.mesh.vertices)
                result = replace(_on_top(event, rigs, result), shown=shown)
            elif event.vertices is not None:
                yield replace(event, rigs=rigs, cameras=cameras)
            else:
                yield event
    assert result is not None
    yield result


def _on_top(fitted: FitResult, rigs: dict[int, Rig], posed: FitResult | None) -> FitResult:
    """The result of free vertices, whose displacements go into the meshes of the rigs.

    Args:
        fitted: the result of the free vertices.
        rigs: the rig in each frame, found before them.
        posed: the result of the search for few parameters, if there was one.
    """
    rigs = {f: replace(rig, mesh=Mesh(rig.unposed(fitted.mesh.vertices), rig.mesh.faces)) for f, rig in rigs.items()}
    late = posed is not None and posed.status == OUT_OF_TIME and fitted.status == FINISHED
    return replace(fitted, rigs=rigs, status=OUT_OF_TIME if late else fitted.status)


def _carried(settings: Settings, start: Mesh | Rig, result: FitResult) -> Settings:
    """The settings with the plane of symmetry moved as the object was moved."""
    if settings.symmetry is None or not result.rigs:
        return settings
    (rig,) = result.rigs.values()
    return replace(settings, symmetry_frame=tuple(carried_frame(settings.symmetry_frame, rig_of(start), rig)))


def _check(start: Mesh | Rig | None, views: list[View], lock: np.ndarray | None, settings: Settings) -> None:
    """Raises InputError where start, views, lock and settings do not go together."""
    if settings.mode == "reconstruct" and lock is not None:
        raise InputError("reconstruct makes a new mesh, so nothing can be locked; leave out the lock mask.")
    if lock is not None and "vertices" not in settings.optimize:
        raise InputError("a lock mask holds free vertices; leave it out, or optimize vertices too.")
    if not views:
        raise InputError("there are no views; add at least one camera with a mask.")
    if not any(view.weight > 0 for view in views):
        raise InputError("all views have weight 0; give at least one of them a positive weight.")
    blank = [view.blank() for view in views if view.weight > 0]
    if blank[0] is not None and all(blank):
        raise InputError(blank[0] if len(blank) == 1 else f"no mask shows an outline: {blank[0]}")
    if settings.mode == "refine" and start is None:
        raise InputError("there is no mesh to refine; give one, or choose mode 'reconstruct'.")
    if settings.mode == "reconstruct" and start is not None:
        raise InputError("reconstruct makes a new mesh; leave out the given one, or choose mode 'refine'.")
    frames = {view.frame for view in views}
    if len(frames) > 1 and "vertices" in settings.optimize:
        raise InputError(
            f"the views are of {len(frames)} frames, but vertices have one shape for all; give views of one frame, or "
            "optimize pose, object, shape_keys or cameras alone."
        )
    if settings.known_frame is not None and not any(
        view.weight > 0 for view in views if view.frame == settings.known_frame
    ):
        raise InputError(
            f"the known frame {settings.known_frame} has no view of positive weight; choose a frame that has one."
        )
    if isinstance(start, Mesh) and {"pose", "shape_keys"} & set(settings.optimize):
        raise InputError("a mesh alone has no pose and no shape keys; give a rig, or optimize vertices or object.")
    count = 0 if start is None else len((start.mesh if isinstance(start, Rig) else start).vertices)
    for view in views:
        for landmark in view.landmarks:
            if landmark.vertex >= count:
                raise InputError(
                    f"a landmark of view '{view.name}' is of vertex {landmark.vertex}, but the mesh has {count}."
                )
        if view.landmarks and not settings.pose_variables:
            raise InputError(
                f"view '{view.name}' has landmarks, which free vertices do not follow; optimize object, pose, "
                "shape_keys or cameras too."
            )


def _check_cage(cage: Cage | None, start: Mesh | Rig | None, settings: Settings) -> None:
    """Raises InputError where the cage does not go with the start and the settings."""
    if cage is None:
        return
    if "vertices" not in settings.optimize or settings.mode == "reconstruct":
        raise InputError("a cage is of free vertices; give its shown mesh alone, or optimize vertices too.")
    if isinstance(start, Rig) and (start.armature is not None or start.shape_keys):
        raise InputError("a rig with a cage moves as a whole; give one without an armature and shape keys.")
    checked_cage(cage, None if start is None else (start.mesh if isinstance(start, Rig) else start).vertices)


def _checked_lock(lock: np.ndarray | None, start: Mesh | Rig | None) -> np.ndarray | None:
    if lock is None or start is None:
        return lock
    count = len((start.mesh if isinstance(start, Rig) else start).vertices)
    lock = np.asarray(lock, dtype=bool)
    if lock.shape != (count,):
        raise InputError(f"the lock mask has shape {lock.shape} but the mesh has {count} vertices.")
    return lock if lock.any() else None


def _device(name: str) -> torch.device:
    """The device of a name; "auto" is the GPU if the rasterizer runs on it, else the CPU."""
    if name == "cpu":
        return torch.device("cpu")
    problem = cuda.problem()
    if name == "cuda" and problem:
        raise InputError(f"device 'cuda' was asked for but cannot be used: {problem}; choose 'auto' or 'cpu'.")
    return torch.device("cpu" if problem else "cuda")


def _device_notes(device: torch.device) -> list[str]:
    """A note that says which device computed, where the machine has a GPU."""
    if not torch.cuda.is_available():
        return []
    name = torch.cuda.get_device_name(torch.cuda.current_device())
    return [f"The fit ran on the {'GPU' if device.type == 'cuda' else 'CPU, not on the GPU'} ({name})."]
