# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames that are fitted, and the scene in each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from typing import Any

import bpy

Seen = Callable[[Any], Any]  # an ID as it is at a moment


def frames_of(scene: bpy.types.Scene) -> list[int]:
    """The frames to fit: the current one, or those of the sequence."""
    settings = scene.softras
    if not settings.sequence:
        return [scene.frame_current]
    return list(range(settings.frame_first, settings.frame_last + 1, settings.frame_step))


def moments(
    scene: bpy.types.Scene, objects: Collection[bpy.types.Object], *, shapes: bool
) -> Generator[tuple[int, Seen], None, None]:
    """Each frame, and a function that gives IDs as they are in it; what it gives is valid until the next frame.

    In a sequence the objects go through the frames in a scene of their own, so that in the artist's scene no frame
    changes and nothing is lost that was changed there and not keyed. Close the iterator to have that scene removed.
    Without `shapes` meshes are not subdivided there, which takes time.
    """
    if not scene.softras.sequence:
        yield scene.frame_current, lambda owner: owner
        return
    stage = bpy.data.scenes.new("Softras")
    stage.render.use_simplify, stage.render.simplify_subdivision = not shapes, 0
    try:
        for ob in objects:
            stage.collection.objects.link(ob)
        for frame in frames_of(scene):
            stage.frame_set(frame)
            graph = stage.view_layers[0].depsgraph
            yield frame, lambda owner, graph=graph: owner.evaluated_get(graph)
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
