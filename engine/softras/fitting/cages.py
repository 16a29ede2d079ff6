"""Cages in a fit: what is seen of a cage is what is searched for, and the cage goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..cage import Cage
from ..deform import follow
from ..mesh import Mesh
from ..rig import Rig, rig_of
from ..views import View, mean_iou
from .observed.evaluate import evaluate, thinned
from .observed.renderer import Renderer
from .progress import FitResult, Journal, Progress
from .starts.placement import without_placement

_Event = TypeVar("_Event", Progress, FitResult, Progress | FitResult)


def shown_rig(cage: Cage, start: Mesh | Rig) -> Rig:
    """The start as a rig that carries what is seen of it in place of the cage."""
    rig = rig_of(start)
    inverse = np.linalg.inv(rig.matrix)
    seen = cage.shown_at(rig.vertices())
    return replace(rig, mesh=Mesh(seen.vertices @ inverse[:3, :3].T + inverse[:3, 3], seen.faces))


def of_cage(event: _Event, start: Mesh | Rig) -> _Event:
    """An event of a search for the object, of the cage in place of what is seen of it."""
    given = rig_of(start)
    rigs = {frame: replace(rig, mesh=given.mesh) for frame, rig in event.rigs.items()}
    rig = next(iter(rigs.values()), None)
    if isinstance(event, FitResult):
        assert rig is not None
        return replace(event, rigs=rigs, mesh=Mesh(rig.vertices(), rig.mesh.faces))
    shown = event.vertices is not None and rig is not None
    return replace(event, rigs=rigs, vertices=rig.vertices() if rig is not None and shown else None)


def carried_cage(cage: Cage, start: Mesh | Rig, rigs: Mapping[int, Rig]) -> Cage:
    """The cage after its object, which was where `start` has it, went where the rigs of the one frame have it."""
    given = rig_of(start)
    after = next(iter(rigs.values()), given)
    return cage.moved(after.matrix @ np.linalg.inv(given.matrix))


def followed(cage: Cage, mesh: Mesh, wanted: Mesh, views: Sequence[View], renderer: Renderer, journal: Journal) -> Mesh:
    """The cage, moved so that what is seen of it is near `wanted`; the cage as it was if that matches better.

    Then the note that it was moved is taken back.
    """
    moved = Mesh(follow(cage, mesh.vertices, wanted.vertices), mesh.faces)
    few = [thinned(view) for view in views]
    before, after = (
        mean_iou(evaluate(seen.vertices, seen.faces, few, renderer), views)
        for seen in (cage.shown_at(each.vertices) for each in (mesh, moved))
    )
    if after > before:
        return moved
    journal.notes[:] = without_placement(journal.notes)
    return mesh
