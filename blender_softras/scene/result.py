# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine finds, into the scene: shown while a fit runs, written when it ends, or taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import bpy
import numpy as np

from ..engine.softras import Camera
from ..engine.softras.rig import Rig, Transform
from ..engine.softras.rotations import rotation_matrix, rotation_numbers
from .animation import keyed, write_keys
from .camera import camera_channels
from .channels import Channel, Remembered, rotation_property, write_channels
from .job import SceneJob, chosen_camera_parts
from .mesh import IntoMesh, IntoShapeKey, OwnMesh
from .rig import channels_of
from .views import Shot

_VERTICES = {"SHAPE_KEY": IntoShapeKey, "MESH": IntoMesh}
Keys = dict[Channel, dict[int, np.ndarray]]


class IntoRig:
    """Shows a fitted rig as the transform, the pose and the shape key values of the target."""

    def __init__(self, target: bpy.types.Object, rig: Rig) -> None:
        self._target = target
        self._before = Remembered(channels_of(target, rig), target)

    def problem(self) -> str | None:
        """Why it can be neither shown nor put back; None when it can."""
        return self._before.problem()

    def show(self, rig: Rig) -> None:
        """Show one frame."""
        write_channels(channels_of(self._target, rig))

    def keys(self, rigs: Mapping[int, Rig]) -> Keys:
        """The channels of all frames."""
        keys: Keys = defaultdict(dict)
        for frame, rig in _continuous(rigs).items():
            for channel, value in channels_of(self._target, rig).items():
                keys[channel][frame] = value
        return keys

    def revert(self) -> None:
        """Put everything back."""
        self._before.put_back()


class IntoCameras:
    """Shows fitted cameras as the camera objects and lenses of the shots.

    A camera that stands still in the frames that are fitted is one camera to the engine, and stands still afterwards.
    """

    def __init__(self, scene: bpy.types.Scene, shots: Sequence[Shot]) -> None:
        self._render, self._shots = scene.render, shots
        self._parts = chosen_camera_parts(scene.softras)
        seen = defaultdict(list)
        for shot in shots:
            seen[shot.camera].append(shot.seen)
        self._moving = {camera for camera, cameras in seen.items() if any(_differ(cameras[0], c) for c in cameras)}
        self._before = Remembered(channel for shot in shots for channel in self._channels(shot, shot.seen))

    def problem(self) -> str | None:
        """Why they can be neither shown nor put back; None when they can."""
        return self._before.problem()

    def show(self, cameras: Sequence[Camera], frame: int) -> None:
        """Show the cameras, one for each shot, as they are in a frame."""
        for shot, camera in zip(self._shots, cameras, strict=True):
            if shot.frame == frame or shot.camera not in self._moving:
                write_channels(self._channels(shot, camera))

    def keys(self, cameras: Sequence[Camera]) -> Keys:
        """The channels, in all frames, of the cameras that move or have keyframes."""
        keys: Keys = defaultdict(dict)
        turns: dict[bpy.types.Object, np.ndarray] = {}
        for shot, camera in sorted(zip(self._shots, cameras, strict=True), key=lambda pair: pair[0].frame):
            channels = self._channels(shot, camera, turns.get(shot.camera))
            for (owner, path), value in channels.items():
                if shot.camera in self._moving or keyed(owner, path):
                    keys[owner, path][shot.frame] = value
            rotation = rotation_property(shot.camera.rotation_mode)
            if (shot.camera, rotation) in channels:
                turns[shot.camera] = channels[shot.camera, rotation]
        return keys

    def revert(self) -> None:
        """Put everything back."""
        self._before.put_back()

    def _channels(self, shot: Shot, camera: Camera, near: np.ndarray | None = None) -> dict[Channel, np.ndarray]:
        return camera_channels(shot.camera, camera, shot.parent, self._parts, self._render, near)


class Result:
    """Where a job's result goes. What is shown can be taken back until it is written."""

    def __init__(self, scene: bpy.types.Scene, scene_job: SceneJob) -> None:
        """Prepare the scene. Raises InputError when it could not keep a result, and leaves it as it was."""
        target, self._given, optimize = scene_job.target, scene_job.job.rig, scene_job.optimize
        self._scene = scene
        self._own = OwnMesh(target) if {"vertices", "shape_keys"} & set(optimize) else None
        try:
            self._vertices = _VERTICES[scene.softras.result](target) if "vertices" in optimize else None
            self._rig = None if self._given is None else IntoRig(target, self._given)
            self._cameras = IntoCameras(scene, scene_job.shots) if "cameras" in optimize else None
        except BaseException:
            if self._own is not None:
                self._own.revert()
            raise

    def problem(self) -> str | None:
        """Why nothing can be shown any more, in a sentence; None when it can."""
        return next((problem for part in self._parts() if (problem := part.problem())), None)

    def show(
        self, rigs: Mapping[int, Rig], cameras: Sequence[Camera], vertices: np.ndarray | None, *, unposed: bool = False
    ) -> None:
        """Show what belongs to the scene's current frame.

        Args:
            rigs: by frame, those that changed.
            cameras: of all views, or none.
            vertices: (V, 3) where vertices are fitted: in world space; `unposed`, those of the rig's mesh. Or None.
            unposed: see above.
        """
        frame = self._scene.frame_current
        if cameras and self._cameras is not None:
            self._cameras.show(cameras, frame)
        if self._rig is not None and frame in rigs:
            self._rig.show(rigs[frame])
        if self._vertices is None or vertices is None:
            return
        if self._given is None:
            self._vertices.show(vertices)
        elif unposed:
            self._vertices.move(vertices - self._given.mesh.vertices)
        elif frame in rigs:
            self._vertices.move(rigs[frame].unposed(vertices) - self._given.mesh.vertices)

    def start_again(self) -> None:
        """Show the start."""
        for part in (self._rig, self._cameras):
            if part is not None:
                part.revert()
        if self._vertices is not None and self._given is not None:
            self._vertices.move(np.zeros_like(self._given.mesh.vertices))

    def write(self, rigs: Mapping[int, Rig], cameras: Sequence[Camera]) -> list[str]:
        """Keep what was shown: in a sequence as keyframes of all frames. Returns notes for the artist."""
        settings = self._scene.softras
        keys = self._rig.keys(rigs) if self._rig is not None else {}
        if cameras and self._cameras is not None:
            keys |= self._cameras.keys(cameras)
        if not settings.sequence:
            keys = {channel: values for channel, values in keys.items() if keyed(*channel)}
            if keys and not settings.replace_keys:
                name = next(iter(keys))[0].name
                return [f"'{name}' has keyframes, which show again when the frame changes; insert one to keep the fit."]
        write_keys(keys, replace=settings.replace_keys)
        return []

    def revert(self) -> None:
        """Take back what was shown, of all that is still there."""
        for part in self._parts():
            if part.problem() is None or isinstance(part, (IntoRig, IntoCameras)):
                part.revert()
        if self._own is not None:
            try:
                self._own.revert()
            except ReferenceError:
                pass  # the object is gone

    def _parts(self) -> Iterator[IntoShapeKey | IntoMesh | IntoRig | IntoCameras]:
        yield from filter(None, (self._vertices, self._rig, self._cameras))


def _differ(a: Camera, b: Camera) -> bool:
    return not (np.array_equal(a.K, b.K) and np.array_equal(a.world_to_camera, b.world_to_camera))


def _continuous(rigs: Mapping[int, Rig]) -> dict[int, Rig]:
    """The rigs, frame by frame, with the numbers of each rotation close to those of the frame before."""
    result: dict[int, Rig] = {}
    before: Rig | None = None
    for frame in sorted(rigs):
        rig = rigs[frame]
        if before is not None:
            rig = replace(rig, transform=_close(rig.transform, before.transform))
            if rig.armature is not None and before.armature is not None:
                bones = tuple(
                    replace(bone, pose=_close(bone.pose, last.pose))
                    for bone, last in zip(rig.armature.bones, before.armature.bones, strict=True)
                )
                rig = replace(rig, armature=replace(rig.armature, bones=bones))
        result[frame] = before = rig
    return result


def _close(now: Transform, before: Transform) -> Transform:
    """The transform with such numbers for its rotation; locked or limited angles are what they are."""
    if now.mode != "QUATERNION" and not now.turns_freely:
        return now
    if now.mode == "QUATERNION":  # keeps its length
        return replace(now, rotation=now.rotation * (1.0 if now.rotation @ before.rotation >= 0 else -1.0))
    matrix = rotation_matrix(now.rotation, now.mode)
    return replace(now, rotation=rotation_numbers(matrix, now.mode, before.rotation))
