"""The fit of few parameters: object, pose, shape keys and cameras, over the frames of a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ...camera import Camera
from ...deform.cameras import COUNT, CameraMoves
from ...deform.posed import PARTS
from ...errors import InputError
from ...mesh import Mesh
from ...rig import Rig, Transform
from ...views import View, mean_iou
from ..observed.crops import mask_bounds
from ..observed.evaluate import evaluate, larger, thinned
from ..observed.renderer import Renderer
from ..progress import FitResult, Journal, Progress
from ..schedule import CAMERAS, FINE, FINEST, JOINT, OBJECT, POSE, POSE_NEAR, SHAPE
from ..settings import Settings
from ..starts.facing import APART, angle_between, best_apart, facings, rotation_of
from ..starts.placement import check_cameras, clearly_better, moved_onto_masks, nearest_point_to_rays, onto_masks
from .camera_search import aimed
from .object_search import search_turns, spread
from .search import FEW, Moment, PoseSearch

FACINGS, TRIED = 1000, 8  # rotations of a camera about the object: how many are rated, and how many of them refined
RIVAL = 1.6  # times the least cost of the search for a camera: what another direction may cost and look alike
TRIES = 3  # how often the first stage of the search for a pose is gone through where the frames are few
SWEEPS = 3  # of frames that try other poses
MEASURE_SECONDS = 2.0  # between measurements of all that changed
MATCHED = 0.9  # mean IoU of a start whose rotation is not searched for
SETTLED = 0.95  # mean IoU of cameras that are not searched for from all sides


class TimeUp(Exception):
    """Ends a search between two of its moments; what it found so far stays."""


class PoseFit:
    """One run."""

    def __init__(
        self,
        start: Mesh | Rig,
        views: list[View],
        settings: Settings,
        renderer: Renderer,
        journal: Journal,
        max_seconds: float,
        *,
        finest: bool = True,
    ) -> None:
        """max_seconds: since the journal's start; finest: whether the last, sharpest stages are wanted."""
        self.finest = finest
        self.given, self.views, self.settings, self.renderer = start, views, settings, renderer
        self.journal, self.max_seconds = journal, max_seconds
        self.parts = tuple(part for part in PARTS if part in settings.optimize)
        self.cull = bool(settings.cull)
        self.step = self.stage = 0
        self.late = False
        self.frames = sorted({view.frame for view in views})
        used = [[i for i, view in enumerate(views) if view.frame == f and view.weight > 0] for f in self.frames]
        self.used = used  # (F) the views of each frame that count
        counting = [i for frame in used for i in frame]
        self.movable = counting + [i for i in range(len(views)) if i not in set(counting)]
        self.watched = [thinned(view) for view in views]
        self.iou = np.zeros(len(views))
        self.measured = -np.inf  # when
        self.changed = set(self.frames)  # since
        self.cameras = [view.camera for view in views]
        self.bases = list(self.cameras)  # from which the cameras move

    def events(self) -> Iterator[Progress | FitResult]:
        """What happens; the last item is the result."""
        self.rig, loose = self.begin()
        if self.settings.cull is None:
            self.cull = closed(Mesh(self.rig.vertices(), self.rig.mesh.faces))
        if self.parts:
            self.search = self.begin_search(self.parts, [[self.views[i] for i in frame] for frame in self.used])
        self.rigs = dict.fromkeys(self.frames, self.rig)
        self.shown = [np.zeros(0)] * len(self.frames)
        self.journal.begin(self.count_steps())
        with self.journal.measuring(larger(self.views, self.watched)):
            begun = self.evaluated()
        yield begun
        if self.parts:
            yield from self.find_poses()
        elif self.settings.cameras_together:
            yield from self.find_cameras(self.movable)
        else:
            for group in self.groups():
                if self.ended():
                    break
                yield from self.find_cameras(group)
        journal = self.journal
        status = "out of time" if self.late and journal.status == "finished" else journal.status
        vertices = self.given_vertices()
        if self.parts:
            vertices = np.where(loose[:, None], vertices, self.rigs[self.frames[0]].vertices())
        mesh = Mesh(vertices, self.rig.mesh.faces)
        self.iou = self.measure(self.views, set(self.frames))
        rigs = self.rigs if self.parts else {}
        yield FitResult(mesh, self.iou, journal.history, status, journal.elapsed(), journal.notes, rigs, self.cameras)

    def begin(self) -> tuple[Rig, np.ndarray]:
        """The rig, placed on the masks, and which vertices of a mesh alone stay for being in no face."""
        rig, count = self.given, len(self.given_vertices())
        loose = np.zeros(count, dtype=bool)
        if isinstance(rig, Mesh):
            loose[:] = True
            loose[rig.faces] = False
            rig = rig_of(rig)
        used = np.unique(rig.mesh.faces)
        world = rig.vertices()
        if not np.ptp(world[used], axis=0).any():
            raise InputError("all faces of the mesh are at one point; give a mesh with some extent.")
        mesh = Mesh(world, rig.mesh.faces)
        free = all(rig.transform.free_location) and rig.transform.free_scale and "object" in self.parts
        free = free and self.settings.known_frame is None
        views = [
            self.views[i] for i in next(filter(None, self.used))
        ]  # of the first frame: later ones may be elsewhere
        found = onto_masks(mesh, views, self.renderer) if self.settings.place == "auto" and free else None
        self.placed = found is not None
        if found is not None:
            scale, onto = found
            moved = np.linalg.inv(rig.parent) @ onto @ rig.parent @ rig.transform.matrix()
            transform = replace(rig.transform, location=moved[:3, 3], scale=rig.transform.scale * scale)
            rig = replace(rig, transform=transform)
            mesh = Mesh(rig.vertices(), rig.mesh.faces)
            self.journal.notes.append(moved_onto_masks(scale))
        check_cameras(mesh, [view for view in self.views if view.weight > 0])
        return rig, loose

    def begin_search(
        self, parts: Sequence[str], frames: Sequence[Sequence[View]], rig: Rig | None = None
    ) -> PoseSearch:
        """The search for what these parts of the rig (the fit's own, or another) are in frames with these views."""
        settings = self.settings
        return PoseSearch(
            rig or self.rig,
            parts,
            frames,
            weights=settings.term_weights(),
            cull=self.cull,
            renderer=self.renderer,
            seed=settings.seed,
            pause=self.pause,
        )

    def given_vertices(self) -> np.ndarray:
        """(V, 3) in the world before the fit."""
        return self.given.vertices if isinstance(self.given, Mesh) else self.given.vertices()

    def count_steps(self) -> int:
        """How many there are at most, but for exchanges."""
        frames = len(self.frames)
        if not self.parts:
            groups = 1 if self.settings.cameras_together else len(list(self.groups()))
            return groups * sum(stage.steps for stage in (*CAMERAS[:1], *CAMERAS))
        stages, last = (POSE, FINE) if "pose" in self.parts else (SHAPE, FINEST)
        return frames * sum(stage.steps for stage in stages) + sum(stage.steps for stage in last)

    # Poses

    def find_poses(self) -> Iterator[Progress]:
        """The rig in every frame, and the cameras with it."""
        settings, search = self.settings, self.search
        seen = [k for k, frame in enumerate(self.used) if frame]
        known = None if settings.known_frame is None else self.frames.index(settings.known_frame)
        turned = search.figure.slices["object"]
        if known is None and turned.stop > turned.start:
            yield from self.follow(self.find_object(seen[0]))
            search.poses[:] = search.poses[seen[0]]
        rest = [k for k in seen if k != known]
        if "pose" not in self.parts:
            first = seen[0] if known is None else known
            if known is None and self.parts != ("object",):  # whose search for the rotation has found the rest too
                yield from self.follow(search.apart([first], SHAPE))
            yield from self.follow(search.onwards(first, rest, SHAPE))
        else:
            if known is None:
                yield from self.follow(search.apart(rest, POSE, TRIES if len(rest) <= FEW else 1))
            else:
                yield from self.follow(search.onwards(known, rest, POSE))
            if not self.ended():
                yield self.evaluated()
            yield from self.follow(search.exchange(seen, POSE_NEAR, SWEEPS, known))
        if "cameras" in settings.optimize:
            search.move_cameras(self.moves(self.movable))
            yield from self.follow(search.together(seen, JOINT, known))
        if self.finest:
            yield from self.follow(search.together(seen, FINE if "pose" in self.parts else FINEST, known))
        self.fill(seen)
        if not self.ended():
            yield self.evaluated()

    def find_object(self, frame: int) -> Iterator[Moment]:
        """Where the object is, all else as given."""
        free = self.rig.transform.turns_freely
        unsure = self.placed or self.iou[self.used[frame]].mean() < MATCHED
        turns = self.settings.turns if free and unsure else 0
        return search_turns(self.search, frame, OBJECT, spread(turns))

    def fill(self, seen: Sequence[int]) -> None:
        """Frames that no view counts for are between those beside them."""
        poses = self.search.poses
        for column in range(poses.shape[1]):
            poses[:, column] = np.interp(self.frames, np.take(self.frames, seen), poses[seen, column])
        self.show(range(len(self.frames)))

    # Cameras

    def groups(self) -> Iterator[list[int]]:
        """The views of each camera that moves by itself, those that count first."""
        owner = _owners([view.camera for view in self.views])
        for group in range(owner.max() + 1):
            found = [i for i in self.movable if owner[i] == group]
            if self.views[found[0]].weight > 0:
                yield found

    def moves(self, which: Sequence[int]) -> CameraMoves:
        """How the cameras of these views move, in unit space."""
        cameras = [self.search.unit.camera(self.bases[i]) for i in which]
        return CameraMoves(
            np.array([camera.world_to_camera for camera in cameras]),
            _owners(cameras),
            self.settings.camera_parts,
            together=self.settings.cameras_together,
            middle=np.zeros(3),
        )

    def find_cameras(self, which: list[int]) -> Iterator[Progress]:
        """The cameras of these views, the mesh staying as it is.

        Cameras that may go anywhere and end badly are searched for from all sides, and move to what is clearly better.
        """
        yield from self.refine_cameras(which)
        if self.ended():
            return
        counting = [i for i in which if self.views[i].weight > 0]
        before, cameras = self.matched(counting), list(self.cameras)
        if (
            before >= SETTLED
            or not self.settings.turns
            or not {"location", "rotation"} <= set(self.settings.camera_parts)
        ):
            return
        # Turned cameras around an object see what they would see of the object, turned the other way.
        rig = rig_of(Mesh(self.rig.vertices(), self.rig.mesh.faces))
        views = [replace(self.views[i], camera=cameras[i]) for i in counting]
        middle = rig.transform.location
        shown = nearest_point_to_rays(
            [view.camera for view in views],
            [np.sum(mask_bounds(view), axis=1)[::-1] / 2 for view in views],
            near=middle,
        )
        rig = replace(rig, transform=replace(rig.transform, location=shown, free_scale=False))
        self.search = self.begin_search(("object",), [views], rig)
        mesh = self.search.level(OBJECT[0]).mesh
        rated = facings(mesh, views, spread(FACINGS, np.pi), self.renderer, self.ended)
        turns = [Rotation.from_matrix(facing.rotation) for facing in best_apart(rated, TRIED)]
        ends: list[tuple[float, np.ndarray]] = []
        yield from self.follow(search_turns(self.search, 0, OBJECT, turns, ends))
        found = self.search.rig_at(self.search.poses[0]).transform.matrix()
        rivals = self.rivals(ends, found)
        found[:3, 3] -= found[:3, :3] @ middle
        for i in which:
            self.bases[i] = replace(cameras[i], world_to_camera=cameras[i].world_to_camera @ found)
            self.cameras[i] = self.bases[i]
        yield from self.refine_cameras(which)
        if not clearly_better(self.matched(counting), before):
            self.cameras = cameras
            yield self.evaluated()
        elif rivals:
            self.journal.notes.append(
                f"The camera of view '{self.views[counting[0]].name}' could as well look from another side, "
                f"{min(rivals):.0f} degrees away: the mesh looks alike from there; a landmark would tell."
            )

    def rivals(self, ends: Sequence[tuple[float, np.ndarray]], found: np.ndarray) -> list[float]:
        """Degrees between the rotation found (4, 4) and others whose ends cost about as much."""
        least = min((cost for cost, _ in ends), default=np.inf)
        others = [self.search.rig_at(pose).transform.matrix() for cost, pose in ends if cost < RIVAL * least]
        angles = [angle_between(rotation_of(found), rotation_of(other)) for other in others]
        return [float(np.degrees(angle)) for angle in angles if angle > APART]

    def matched(self, which: Sequence[int]) -> float:
        """Mean IoU of these views with their cameras as they are now."""
        return mean_iou(self.measure(self.watched, set(self.frames))[list(which)], [self.views[i] for i in which])

    def ended(self) -> bool:
        """Whether the time is up, or the caller wants the end."""
        self.late |= self.journal.left(self.max_seconds) <= 0
        return self.late or self.journal.stopped()

    def pause(self) -> None:
        """Raises TimeUp where the search is to end before its next moment."""
        if self.ended():
            raise TimeUp

    def refine_cameras(self, which: list[int]) -> Iterator[Progress]:
        """The cameras of these views from where they are."""
        seen = [replace(self.views[i], camera=self.bases[i]) for i in which if self.views[i].weight > 0]
        self.search = self.begin_search((), [seen])
        search, moves = self.search, self.moves(which)
        search.move_cameras(moves)
        found = []
        for start in (search.shared, *aimed(moves, self.settings.camera_parts, search)):
            search.shared = start
            yield from self.follow(search.together([0], CAMERAS[:1]), which)
            found.append((search.cost, search.shared))
        _, search.shared = min(found, key=lambda pair: pair[0])
        yield from self.follow(search.together([0], CAMERAS[1:]), which)
        self.set_cameras(which)
        if not self.ended():
            yield self.evaluated()

    def set_cameras(self, which: Sequence[int]) -> None:
        """Where the cameras of these views, of which the search's moves are, are now."""
        moves, unit = self.search.moves, self.search.unit
        assert moves is not None
        given = [self.bases[i] for i in which]
        scales = [np.diag([unit.size, unit.size, 1.0]) if camera.orthographic else np.eye(3) for camera in given]
        K = np.array([camera.K @ scale for camera, scale in zip(given, scales, strict=True)])
        K, matrices = moves.moved(np.arange(len(which)), K, self.search.shared.reshape(-1, COUNT))
        for i, camera, scale, intrinsics, matrix in zip(which, given, scales, K, matrices, strict=True):
            matrix[:3, 3] = unit.size * matrix[:3, 3] - matrix[:3, :3] @ unit.centre
            self.cameras[i] = replace(camera, K=intrinsics @ np.linalg.inv(scale), world_to_camera=matrix)

    # Telling

    def follow(self, moments: Iterator[Moment], cameras: Sequence[int] = ()) -> Iterator[Progress]:
        """Take the steps, as long as there is time, and tell of some."""
        if self.journal.stopped() or self.late:
            return
        try:
            for frames, poses in moments:
                self.step += 1
                if self.journal.elapsed() - self.measured > MEASURE_SECONDS:
                    yield self.evaluated()
                elif self.journal.preview_due():
                    yield self.preview(frames, poses, cameras)
                elif self.journal.due():
                    yield self.event()
                if self.ended():
                    return
        except TimeUp:
            return

    def preview(self, frames: Sequence[int], poses: np.ndarray, cameras: Sequence[int]) -> Progress:
        """The event of a moment in which some frames have these poses, and the cameras of some views moved."""
        shown: dict[str, Any] = {}
        if self.search.moves is not None:
            self.set_cameras(cameras or self.movable)
            shown["cameras"] = list(self.cameras)
        if self.parts:
            shown["rigs"] = {self.frames[k]: self.search.rig_at(pose) for k, pose in zip(frames, poses, strict=True)}
        return self.event(**shown)

    def show(self, frames: Iterable[int]) -> None:
        """The rigs of these frames are what the search has found."""
        for k in frames:
            pose = self.search.poses[k]
            if not np.array_equal(pose, self.shown[k]):
                self.shown[k] = pose.copy()
                self.rigs[self.frames[k]] = self.search.rig_at(pose)
                self.changed.add(self.frames[k])
        if self.search.moves is not None:
            self.set_cameras(self.movable)

    def evaluated(self) -> Progress:
        """The event of this moment with the IoU of every view."""
        if self.parts and self.step:
            self.show(range(len(self.frames)))
        if "cameras" in self.settings.optimize:
            self.changed = set(self.frames)
        self.iou = np.where(self.of(self.changed), self.measure(self.watched, self.changed), self.iou)
        self.changed, self.measured = set(), self.journal.elapsed()
        vertices = self.rigs[self.frames[0]].vertices()
        rigs = dict(self.rigs) if self.parts and self.step else {}
        cameras = list(self.cameras) if "cameras" in self.settings.optimize else None
        return self.event(iou=self.iou, vertices=vertices, rigs=rigs, cameras=cameras)

    def of(self, frames: set[int]) -> np.ndarray:
        """(N,) which views are of these frames."""
        return np.array([view.frame in frames for view in self.views])

    def measure(self, views: Sequence[View], frames: set[int]) -> np.ndarray:
        """(N,) IoU of the present state with each view of the frames; the views are the fit's own, maybe thinned."""
        iou = np.zeros(len(views))
        for f in frames:
            rig, index = self.rigs[f], np.flatnonzero(self.of({f})).tolist()
            seen = [_moved(views[i], self.views[i].camera, self.cameras[i]) for i in index]
            iou[index] = evaluate(rig.vertices(), rig.mesh.faces, seen, self.renderer)
        return iou

    def event(self, **shown: Any) -> Progress:
        """The event of this moment."""
        cost = self.search.cost if self.step else np.inf
        self.journal.steps = max(self.journal.steps, self.journal.before + self.step)
        loss = {"squares": cost} if np.isfinite(cost) else {}
        return self.journal.event(self.step, self.stage, loss, **shown)


def closed(mesh: Mesh) -> bool:
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


def rig_of(mesh: Mesh) -> Rig:
    """A mesh alone as a rig whose object turns about the mesh's middle."""
    used = mesh.vertices[np.unique(mesh.faces)]
    middle = (used.min(axis=0) + used.max(axis=0)) / 2
    free = (True, True, True)
    transform = Transform(location=middle, free_location=free, free_rotation=free, free_scale=True)
    return Rig(Mesh(mesh.vertices - middle, mesh.faces), transform)


def _owners(cameras: Sequence[Camera]) -> np.ndarray:
    """(N,) which camera each is; equal ones are one."""
    numbers: dict[Camera, int] = {}
    return np.array([numbers.setdefault(camera, len(numbers)) for camera in cameras])


def _moved(view: View, given: Camera, camera: Camera) -> View:
    """A view, maybe thinned, whose camera moved from the given one."""
    into_view = view.camera.K @ np.linalg.inv(given.K)
    return replace(view, camera=replace(view.camera, K=into_view @ camera.K, world_to_camera=camera.world_to_camera))
