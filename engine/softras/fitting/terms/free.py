"""What terms of free vertices are given: the mesh before the fit, and what one step shows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ...geometry.smoothness import edge_lengths
from ...geometry.topology import Topology
from ..observed.observation import Observation

SHORTEST_EDGE = 1e-4  # object sizes; the mean edge of a mesh counts as no shorter, for lengths are divided by it


class Rest:
    """The mesh before a fit of free vertices, in unit space: what a changed mesh is measured against.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3) int64.
        topology: of the faces.
        keep_detail: whether the shape is the artist's own, which costs nothing as it is (a refinement); otherwise it
            is the fit's own, which is to be smooth (a reconstruction).
        mean_edge: mean length of the edges.
    """

    def __init__(self, vertices: Tensor, topology: Topology, *, keep_detail: bool) -> None:
        self.vertices, self.topology, self.keep_detail = vertices, topology, keep_detail
        self.faces = topology.faces
        self.edge_lengths = edge_lengths(vertices, topology.edges)
        lengths = self.edge_lengths
        self.mean_edge = max(float(lengths.mean()), SHORTEST_EDGE) if len(lengths) else 1.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """One step of free vertices: the mesh as it is, and as some of the views should show it.

    Attributes:
        rest: the mesh before the fit.
        vertices: (V, 3) in unit space, differentiable.
        alpha: (B, S, S) their silhouettes in B views.
        observation: what all views show, S x S pixels each.
        views: (B,) which of them those B are.
        weights: (B,) of these views.
    """

    rest: Rest
    vertices: Tensor
    alpha: Tensor
    observation: Observation
    views: Tensor
    weights: Tensor

    @cached_property
    def moved(self) -> Tensor:
        """(V, 3) displacements of the vertices in a refinement; in a reconstruction the vertices themselves."""
        return self.vertices - self.rest.vertices if self.rest.keep_detail else self.vertices

    @cached_property
    def masks(self) -> list[Tensor]:
        """For each of the B views (2, S, S): the mask where it is known, and how much of the pixel is known."""
        return self.observation.masks_of(self.views)


Loss = Callable[[Drawn], Tensor]  # one number, differentiable
