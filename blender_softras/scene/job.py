# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene as a job for the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..access import lens_of, present
from ..engine.softras import InputError, Mesh, View
from ..engine.softras.job import Job
from ..engine.softras.rig import PARTS
from ..props import SOFTRAS_PG_scene, settings_of
from .animation import keys_problem
from .background import shown_elsewhere
from .camera import fitting_problem
from .frames import frames_of, in_words, moments
from .landmarks import landmark_empties
from .masks import Footage
from .mesh import matrix_of, read_lock, read_mesh
from .posing import Posing
from .probing import mirror_planes
from .rig import is_shaped, read_cage, read_rig, read_shown
from .shown import selected_beside, shown_mesh
from .still import StillMesh, StillRig, check_landmarks
from .target import MeshObject, Target, find_moved, find_posable, find_target, parents_of
from .views import Shot, check_item, enabled_views, read_shot


@dataclass(frozen=True)
class SceneJob:
    """A job and what of the scene it was read from.

    Attributes:
        job: the document for the engine.
        target: what is fitted.
        shots: one for each of the job's views, in their order.
        notes: what the artist should know about how the scene was read.
        caged: whether the vertices are the cage of modifiers, whose map the job still lacks.
        posing: the channels of the pose, where only Blender can tell how they move what is seen; the job still lacks
            their effect.
    """

    job: Job
    target: Target
    shots: list[Shot]
    notes: list[str]
    caged: bool
    posing: Posing | None = None

    @property
    def optimize(self) -> list[str]:
        """The variables, as the engine calls them."""
        return self.job.settings["optimize"]

    @property
    def frames(self) -> list[int]:
        """The frames that have a view."""
        return sorted({shot.frame for shot in self.shots})


def read_job(scene: bpy.types.Scene, ob: bpy.types.Object | None, device: str) -> SceneJob:
    """Read the scene for a fit of an object; the view layer must be up to date.

    Raises InputError when the scene cannot be fitted as the panel says.
    """
    settings = settings_of(scene)
    optimize = settings.optimize.chosen()
    for item in enabled_views(scene):
        check_item(item, scene)
    if "cameras" in optimize:
        _check_cameras(scene, settings)
    rigged = not set(PARTS).isdisjoint(optimize)
    bends = {"pose", "shape_keys"} & set(optimize)
    # It moves as a whole, as it is shown. In a sequence that must be found to be the same in all frames, part by part.
    whole = "object" in optimize and not bends and not settings.sequence
    alone = ob is None or bool({"vertices", "shape_keys"} & set(optimize)) or not rigged
    others = [] if ob is None or alone else selected_beside(ob)
    caged, rig, posing = False, None, None
    try:
        target = find_moved(ob, others) if whole else find_target(ob, rigged=rigged, others=others)
        caged = "vertices" in optimize and bool(target.meshes[0].shown_modifiers) and not bends
        if caged and whole:
            rig = read_cage(target)
        elif whole and "vertices" not in optimize:
            rig = read_shown(target)
        elif rigged:
            rig = read_rig(target, optimize)
    except InputError as error:
        if optimize != ["pose"] or settings.sequence:
            raise
        target, armatures = find_posable(ob, others)
        posing = Posing(target, armatures, str(error))
    single = target.meshes[0]
    if rig is not None or posing is not None:
        _check_parents(scene, target, optimize)
    frames = _Frames(scene, target)
    mesh: Mesh | None = None
    as_shown = caged or whole or posing is not None or is_shaped(target, optimize)
    left_out = [] if as_shown else single.left_out
    if posing is not None:
        shots = frames.read(None)
        mesh = shown_mesh(target)
    elif rig is not None:
        shots = frames.read(StillRig(target, rig, optimize))
    elif "vertices" in optimize:
        shots = frames.read(None)
        mesh = read_mesh(single)
    else:
        still = StillMesh(target, frames.has_landmarks)
        shots = frames.read(still)
        mesh, left_out = still.mesh, []
    if posing is not None:
        frames.notes += posing.notes
    if as_shown and (whole or not caged) and frames.has_landmarks:
        check_landmarks(single)
    notes = frames.notes + _background_notes(scene, shots)
    if left_out:
        notes.insert(0, f"'{single.name}' has modifiers; the fit is of the mesh without them ({', '.join(left_out)}).")
    if single.is_shared and {"vertices", "shape_keys"} & set(optimize):
        notes.append(f"'{single.name}' shared its mesh with other objects; it has its own copy now.")
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
        values["camera_parts"] = settings.cameras.chosen()
        values["cameras_together"] = settings.cameras.together
    if settings.sequence and settings.known_pose:
        values["known_frame"] = _known_frame(scene, shots)
    lock = None
    if "vertices" in optimize:
        lock = read_lock(single, settings.lock)
        if settings.symmetry != "NONE" and not (caged and _is_mirrored(single, settings.symmetry)):
            values["symmetry"] = settings.symmetry
            values["symmetry_frame"] = matrix_of(single.object).ravel().tolist()
    return SceneJob(Job(frames.views, mesh, lock, values, rig), target, shots, notes, caged, posing)


def _is_mirrored(target: MeshObject, axis: str) -> bool:
    """Whether a Mirror modifier makes the object symmetric across its own axis: then its cage is a half, and is not."""
    normal = np.eye(3)["xyz".index(axis)]
    return any(np.allclose(np.abs(plane[3:6]), normal) for plane in mirror_planes(target.object))


class _Frames:
    """Reads the views, frame by frame.

    Attributes:
        has_landmarks: whether a view has landmarks.
        notes: what the artist should know of views and frames without a mask.
        views: the engine's views, one for each shot that was read.
    """

    def __init__(self, scene: bpy.types.Scene, target: Target) -> None:
        self._scene = scene
        self._items = enabled_views(scene)
        self._empties = [ob for item in self._items for ob in landmark_empties(item, scene, target.meshes[0])]
        self.has_landmarks = bool(self._empties)
        self.notes: list[str] = []
        self.views: list[View] = []

    def read(self, still: StillRig | StillMesh | None) -> list[Shot]:
        """A shot for each frame and enabled item; in a sequence those without a mask are left out, with a note.

        `still` checks in each frame of a sequence what must not move; None where there is nothing to check.
        """
        scene, manager = self._scene, present(bpy.context.window_manager)
        sequence = settings_of(scene).sequence
        shots: list[Shot] = []
        missing: dict[str, list[int]] = defaultdict(list)
        objects = {item.camera for item in self._items}.union(self._empties, still.objects if still else ())
        with ExitStack() as stack:
            footage = [stack.enter_context(Footage(item.mask)) for item in self._items]
            timeline = stack.enter_context(closing(moments(scene, objects, shapes=bool(still and still.shapes))))
            manager.progress_begin(0, len(frames_of(scene)))
            stack.callback(manager.progress_end)
            for done, (frame, evaluated) in enumerate(timeline):
                manager.progress_update(done)
                if still is not None and sequence:
                    still.check(frame, evaluated)
                for number, item in enumerate(self._items):
                    shot = read_shot(scene, number, item, footage[number], frame, evaluated)
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


def _check_cameras(scene: bpy.types.Scene, settings: SOFTRAS_PG_scene) -> None:
    """Raises InputError when a camera cannot be given what the fit finds."""
    parts = settings.cameras.chosen()
    owners: dict[bpy.types.Camera, bpy.types.Object] = {}
    for item in enabled_views(scene):
        camera: bpy.types.Object = item.camera
        lens = lens_of(camera)
        if problem := fitting_problem(camera, parts):
            raise InputError(problem)
        other = owners.setdefault(lens, camera)
        if other != camera and {"focal", "shift"} & set(parts) and not settings.cameras.together:
            raise InputError(
                f"cameras '{other.name}' and '{camera.name}' share one lens ('{lens.name}'); make it single-user, tick "
                "Move Together, or untick Focal Length and Shift."
            )


def _check_sizes(shots: Sequence[Shot]) -> None:
    """Raises InputError when one camera has images of two sizes, since it would be two cameras to the engine."""
    first: dict[tuple[bpy.types.Object, int], Shot] = {}
    for shot in shots:
        other = first.setdefault((shot.camera, shot.frame), shot).engine_camera
        if (other.width, other.height) != (shot.engine_camera.width, shot.engine_camera.height):
            raise InputError(
                f"camera '{shot.camera.name}' has two views whose images differ in size; disable one of them, or give "
                "it a camera of its own."
            )


def _check_parents(scene: bpy.types.Scene, target: Target, optimize: Sequence[str]) -> None:
    """Raises InputError when fitting the rig moves a camera, or fitting a camera the rig."""
    for item in enabled_views(scene):
        for ob in (item.camera, *parents_of(item.camera)):
            on_mover = ob.parent == target.mover
            on_bone = ob.parent == target.armature and ob.parent_type == "BONE"
            if ob.parent is not None and (("object" in optimize and on_mover) or ("pose" in optimize and on_bone)):
                raise InputError(
                    f"camera '{item.camera.name}' is parented to '{ob.parent.name}', which is fitted; clear its parent "
                    "(Keep Transform)."
                )
        for each in target.meshes:
            if "cameras" in optimize and item.camera in parents_of(each.object):
                raise InputError(
                    f"'{each.name}' is parented to camera '{item.camera.name}', which is fitted; clear its parent "
                    "(Keep Transform)."
                )


def _check_keys(target: Target, optimize: Sequence[str], shots: Sequence[Shot]) -> None:
    """Raises InputError when something cannot be given keyframes."""
    owners: list[bpy.types.ID | None] = []
    if "object" in optimize:
        owners.append(target.mover)
    if "pose" in optimize:
        owners.append(target.armature)
    if "shape_keys" in optimize:
        owners += [each.keys for each in target.meshes]
    if "cameras" in optimize:
        owners += [owner for shot in shots for owner in (shot.camera, lens_of(shot.camera))]
    for owner in owners:
        if owner is not None and (problem := keys_problem(owner)):
            raise InputError(problem)


def _known_frame(scene: bpy.types.Scene, shots: Sequence[Shot]) -> int:
    """The frame whose pose is known: the current one. Raises InputError when that is not fitted."""
    known = scene.frame_current
    if all(shot.frame != known for shot in shots):
        raise InputError(
            f"Known Pose is the pose of the current frame, but frame {known} is not among those that are fitted; go to "
            "one that is, or untick Known Pose."
        )
    return known


def _background_notes(scene: bpy.types.Scene, shots: Sequence[Shot]) -> list[str]:
    """A note for artists who align cameras by background images, where the fit has an image elsewhere."""
    sizes = {shot.camera: (shot.engine_camera.width, shot.engine_camera.height) for shot in shots}
    cameras = [camera.name for camera, size in sizes.items() if shown_elsewhere(camera, size, scene.render)]
    if not cameras:
        return []
    more = f" and of {len(cameras) - 1} more" if len(cameras) > 1 else ""
    return [
        f"The background image of camera '{cameras[0]}'{more} is not shown where the fit has it, which is the camera's "
        "whole frame; give the render the image's aspect, and the background a scale of 1 and no offset, turn or flip."
    ]
