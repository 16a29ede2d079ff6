# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene as a job for the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from ..engine.softras import InputError, Mesh, View
from ..engine.softras.job import Job
from .animation import keys_problem
from .background import shown_elsewhere
from .camera import moves_problem
from .frames import Seen, frames_of, in_words, moments
from .landmarks import landmark_empties
from .masks import Footage
from .mesh import is_shared, matrix_of, read_lock, read_mesh, read_shown_mesh
from .rig import above, armature_of, left_out, mover_of, read_rig
from .still import Still
from .views import Shot, check_item, enabled_views, read_shot

if TYPE_CHECKING:
    from ..props import SOFTRAS_PG_scene

OF_THE_RIG = ("object", "pose", "shape_keys")


@dataclass(frozen=True)
class SceneJob:
    """A job and what of the scene it was read from.

    Attributes:
        job: for the engine.
        target: the mesh object.
        shots: one for each of the job's views.
        notes: what the artist should know about how the scene was read.
    """

    job: Job
    target: bpy.types.Object
    shots: list[Shot]
    notes: list[str]

    @property
    def optimize(self) -> list[str]:
        """The variables."""
        return self.job.settings["optimize"]

    @property
    def frames(self) -> list[int]:
        """The frames that have a view."""
        return sorted({shot.frame for shot in self.shots})


def chosen(settings: SOFTRAS_PG_scene) -> list[str]:
    """The variables that the panel's settings optimize, as the engine calls them."""
    names = ("vertices", *OF_THE_RIG, "cameras")
    return [name for name in names if getattr(settings.optimize, name)]


def chosen_camera_parts(settings: SOFTRAS_PG_scene) -> list[str]:
    """What of the cameras may change, as the engine calls it."""
    return [name for name in ("location", "rotation", "focal", "shift") if getattr(settings.cameras, name)]


def read_job(scene: bpy.types.Scene, target: bpy.types.Object, device: str) -> SceneJob:
    """Read the scene; the view layer must be up to date. Raises InputError when it cannot be fitted."""
    settings = scene.softras
    optimize = chosen(settings)
    for item in enabled_views(scene):
        check_item(item, scene)
    if "cameras" in optimize:
        _check_cameras(scene, chosen_camera_parts(settings))
    rig = read_rig(target, optimize) if set(optimize) & set(OF_THE_RIG) else None
    if rig is not None:
        _check_parents(scene, target, optimize)
    frames = _Frames(scene, target)
    if rig is None and "vertices" not in optimize:
        shots = frames.read(shown := _Shown(target, frames.has_landmarks))
        mesh: Mesh | None = shown.mesh
        others: list[str] = []
    else:
        shots = frames.read(None if rig is None else Still(target, rig, optimize))
        mesh = None if rig is not None else read_mesh(target)
        others = [m.name for m in target.modifiers if m.show_viewport] if rig is None else left_out(target)
    notes = frames.notes + _background_notes(scene, shots)
    if others:
        notes.insert(0, f"'{target.name}' has modifiers; the fit is of the mesh without them ({', '.join(others)}).")
    if is_shared(target) and {"vertices", "shape_keys"} & set(optimize):
        notes.append(f"'{target.name}' shared its mesh with other objects; it has its own copy now.")
    if settings.sequence or settings.replace_keys:
        _check_keys(target, optimize, shots)
    if "cameras" in optimize:
        _check_sizes(shots)
    values: dict[str, Any] = {
        "mode": "refine",
        "optimize": optimize,
        "seed": settings.seed,
        "device": device,
        "place": "auto" if settings.place else "never",
        "max_seconds": settings.seconds * len({shot.frame for shot in shots}) or None,
    }
    if "cameras" in optimize:
        values["camera_parts"] = chosen_camera_parts(settings)
        values["cameras_together"] = settings.cameras.together
    if settings.sequence and settings.known_pose:
        values["known_frame"] = _known_frame(scene, shots)
    lock = None
    if "vertices" in optimize:
        lock = read_lock(target, settings.lock)
        if settings.symmetry != "NONE":
            values["symmetry"] = settings.symmetry
            values["symmetry_frame"] = matrix_of(target).ravel().tolist()
    return SceneJob(Job(frames.views, mesh, lock, values, rig), target, shots, notes)


class _Shown:
    """What is seen of the target; where only cameras are fitted it must be the same in every frame.

    Attributes:
        mesh: the target with its modifiers.
        objects, shapes: as of `Still`.
    """

    shapes = True

    def __init__(self, target: bpy.types.Object, has_landmarks: bool) -> None:
        self.objects = {target}
        graph = bpy.context.evaluated_depsgraph_get()
        self._target = target
        self.mesh = read_shown_mesh(target, target.evaluated_get(graph))
        if has_landmarks and len(self.mesh.vertices) != len(target.data.vertices):
            raise InputError(
                f"the modifiers of '{target.name}' change its vertices, so its landmarks cannot be found; disable the "
                "modifiers or remove the landmarks."
            )

    def check(self, frame: int, seen: Seen) -> None:
        """Raises InputError when the target moves."""
        now = read_shown_mesh(self._target, seen(self._target)).vertices
        start = self.mesh.vertices
        if now.shape != start.shape or np.abs(now - start).max() > 1e-4 * np.ptp(start, axis=0).max():
            raise InputError(
                f"'{self._target.name}' is different in frame {frame}, and cameras alone are fitted to what stands "
                "still; optimize Object or Pose too, or untick Sequence."
            )


class _Frames:
    """Reads the views, frame by frame."""

    def __init__(self, scene: bpy.types.Scene, target: bpy.types.Object) -> None:
        self._scene, self._target = scene, target
        self._items = enabled_views(scene)
        self._empties = [ob for item in self._items for ob in landmark_empties(item, scene, target)]
        self.has_landmarks = bool(self._empties)
        self.notes: list[str] = []
        self.views: list[View] = []

    def read(self, still: Still | _Shown | None) -> list[Shot]:
        """A shot for each frame and enabled item; in a sequence those without a mask are left out, with a note."""
        scene, manager = self._scene, bpy.context.window_manager
        shots: list[Shot] = []
        missing: dict[str, list[int]] = defaultdict(list)
        objects = {item.camera for item in self._items}.union(self._empties, still.objects if still else ())
        with ExitStack() as stack:
            footage = [stack.enter_context(Footage(item.image)) for item in self._items]
            timeline = stack.enter_context(closing(moments(scene, objects, shapes=bool(still and still.shapes))))
            manager.progress_begin(0, len(frames_of(scene)))
            stack.callback(manager.progress_end)
            for done, (frame, seen) in enumerate(timeline):
                manager.progress_update(done)
                if still is not None and scene.softras.sequence:
                    still.check(frame, seen)
                for number, item in enumerate(self._items):
                    shot = read_shot(scene, number, item, footage[number], frame, seen)
                    if shot is not None:
                        shots.append(shot[0])
                        self.views.append(shot[1])
                    else:
                        missing[item.camera.name].append(frame)
        if not shots:
            raise InputError(
                f"no view has a mask in {in_words(frames_of(scene))}; check the images' files and the Start Frame of "
                "each view."
            )
        self.notes += [f"View '{name}' has no mask in {in_words(without)}." for name, without in missing.items()]
        if empty := set(frames_of(scene)) - {shot.frame for shot in shots}:
            self.notes.append(f"No view has a mask in {in_words(empty)}; no keyframes are made there.")
        return shots


def _check_cameras(scene: bpy.types.Scene, parts: Sequence[str]) -> None:
    """Raises InputError when a camera cannot be given what the fit finds."""
    lenses: dict[bpy.types.Camera, bpy.types.Object] = {}
    for item in enabled_views(scene):
        camera = item.camera
        if problem := moves_problem(camera, parts):
            raise InputError(problem)
        other = lenses.setdefault(camera.data, camera)
        if other != camera and {"focal", "shift"} & set(parts) and not scene.softras.cameras.together:
            raise InputError(
                f"cameras '{other.name}' and '{camera.name}' share one lens ('{camera.data.name}'); make it "
                "single-user, tick Move Together, or untick Focal Length and Shift."
            )


def _check_sizes(shots: Sequence[Shot]) -> None:
    """Raises InputError when one camera would be two for the engine."""
    seen: dict[tuple[bpy.types.Object, int], Shot] = {}
    for shot in shots:
        other = seen.setdefault((shot.camera, shot.frame), shot).seen
        if (other.width, other.height) != (shot.seen.width, shot.seen.height):
            raise InputError(
                f"camera '{shot.camera.name}' has two views whose images differ in size; disable one of them, or give "
                "it a camera of its own."
            )


def _check_parents(scene: bpy.types.Scene, target: bpy.types.Object, optimize: Sequence[str]) -> None:
    """Raises InputError when fitting the rig moves a camera, or fitting a camera the rig."""
    mover, armature = mover_of(target), armature_of(target)
    for item in enabled_views(scene):
        for ob in (item.camera, *above(item.camera)):
            on_bone = ob.parent == armature and ob.parent_type == "BONE"
            if ob.parent is not None and (
                ("object" in optimize and ob.parent == mover) or ("pose" in optimize and on_bone)
            ):
                raise InputError(
                    f"camera '{item.camera.name}' is parented to '{ob.parent.name}', which is fitted; clear its parent "
                    "(Keep Transform)."
                )
        if item.camera in above(target) and "cameras" in optimize:
            raise InputError(
                f"'{target.name}' is parented to camera '{item.camera.name}', which is fitted; clear its parent (Keep "
                "Transform)."
            )


def _check_keys(target: bpy.types.Object, optimize: Sequence[str], shots: Sequence[Shot]) -> None:
    """Raises InputError when something cannot be given keyframes."""
    owners: list[bpy.types.ID | None] = []
    if "object" in optimize:
        owners.append(mover_of(target))
    if "pose" in optimize:
        owners.append(armature_of(target))
    if "shape_keys" in optimize:
        owners.append(target.data.shape_keys)
    if "cameras" in optimize:
        owners += [owner for shot in shots for owner in (shot.camera, shot.camera.data)]
    for owner in owners:
        if owner is not None and (problem := keys_problem(owner)):
            raise InputError(problem)


def _known_frame(scene: bpy.types.Scene, shots: Sequence[Shot]) -> int:
    known = scene.frame_current
    if all(shot.frame != known for shot in shots):
        raise InputError(
            f"Known Pose is the pose of the current frame, but frame {known} is not among those that are fitted; go to "
            "one that is, or untick Known Pose."
        )
    return known


def _background_notes(scene: bpy.types.Scene, shots: Sequence[Shot]) -> list[str]:
    """What the artist should know who placed a camera by its background image."""
    sizes = {shot.camera: (shot.seen.width, shot.seen.height) for shot in shots}
    cameras = [camera.name for camera, size in sizes.items() if shown_elsewhere(camera, size, scene.render)]
    if not cameras:
        return []
    more = f" and of {len(cameras) - 1} more" if len(cameras) > 1 else ""
    return [
        f"The background image of camera '{cameras[0]}'{more} is not shown where the fit has it, which is the camera's "
        "whole frame; give the render the image's aspect, and the background a scale of 1 and no offset, turn or flip."
    ]
