# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that are fitted, and the scene as it is in each of them."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from typing import Protocol, TypeVar

import bpy

from ..access import present
from ..props import settings_of

_ID = TypeVar("_ID", bound=bpy.types.ID)


class Evaluated(Protocol):
    """A function that gives an ID, such as an object or a camera, as it is in one frame of the scene."""

    def __call__(self, owner: _ID, /) -> _ID:
        """The ID as it is in the frame; it is only to be read."""


def frames_of(scene: bpy.types.Scene) -> list[int]:
    """The frames to fit: those of the sequence, or the scene's current frame."""
    settings = settings_of(scene)
    if not settings.sequence:
        return [scene.frame_current]
    return list(range(settings.frame_first, settings.frame_last + 1, settings.frame_step))


def moments(
    scene: bpy.types.Scene, objects: Collection[bpy.types.Object], *, shapes: bool
) -> Generator[tuple[int, Evaluated], None, None]:
    """Each frame to fit, with a function that gives IDs as they are in it; what it gives is valid until the next frame.

    In a sequence the objects go through the frames in a scene of their own. So in the artist's scene no frame changes,
    and nothing is lost that was changed there and not keyed. Close the iterator to have the other scene removed.

    Args:
        scene: the artist's scene.
        objects: the objects that can be asked for; their data and their parents come with them.
        shapes: whether the evaluated meshes must be right. Without it they are not subdivided, which takes time.
    """
    if not settings_of(scene).sequence:
        yield scene.frame_current, _as_it_is
        return
    stage = bpy.data.scenes.new("Softras")
    stage.render.use_simplify, stage.render.simplify_subdivision = not shapes, 0
    try:
        for ob in objects:
            stage.collection.objects.link(ob)
        for frame in frames_of(scene):
            stage.frame_set(frame)
            yield frame, _evaluated_by(present(stage.view_layers[0].depsgraph))
    finally:
        bpy.data.scenes.remove(stage)


def in_words(frames: Iterable[int]) -> str:
    """Frame numbers as a person writes them: frames 3, 7–9."""
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    text = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
    return f"frame {text}" if len(runs) == 1 and runs[0][0] == runs[0][1] else f"frames {text}"


def _as_it_is(owner: _ID, /) -> _ID:
    return owner


def _evaluated_by(graph: bpy.types.Depsgraph) -> Evaluated:
    def evaluated(owner: _ID, /) -> _ID:
        return owner.evaluated_get(graph)

    return evaluated
