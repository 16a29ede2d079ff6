"""What the terms of free vertices are computed from: the mesh before the fit, and the mesh drawn in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ...geometry.smoothness import edge_lengths
from ...geometry.topology import Topology
from ..observed.comparison import Comparison
from ..observed.observation import Observation

SHORTEST_EDGE = 1e-4  # Lengths are divided by the mean edge, which counts as at least so long (in object sizes).


class Rest:
    """The mesh before a fit of free vertices, in unit space, to which terms compare the mesh during the fit.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3) int64.
        topology: the edges and hinges of the faces.
        keep_detail: True for the artist's own shape, of which terms measure the change (a refinement); False for a
            shape that the fit has made, of which terms measure the smoothness (a reconstruction).
        edge_lengths: (E,) lengths of the edges.
        mean_edge: their mean, at least SHORTEST_EDGE.
    """

    def __init__(self, vertices: Tensor, topology: Topology, *, keep_detail: bool) -> None:
        self.vertices, self.topology, self.keep_detail = vertices, topology, keep_detail
        self.faces = topology.faces
        self.edge_lengths = edge_lengths(vertices, topology.edges)
        lengths = self.edge_lengths
        self.mean_edge = max(float(lengths.mean()), SHORTEST_EDGE) if len(lengths) else 1.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """The mesh in one step of the fit, drawn in B of the views.

    Attributes:
        rest: the mesh before the fit.
        vertices: (V, 3) the vertices now, in unit space, differentiable.
        alpha: (B, S, S) the silhouettes of the mesh in the B views, differentiable.
        observation: what all views show, in crops of S x S pixels.
        views: (B,) the indices of the B views among all.
        weights: (B,) the weights of the B views.
    """

    rest: Rest
    vertices: Tensor
    alpha: Tensor
    observation: Observation
    views: Tensor
    weights: Tensor

    @cached_property
    def moved(self) -> Tensor:
        """(V, 3) the displacements of the vertices in a refinement; in a reconstruction, the vertices themselves."""
        return self.vertices - self.rest.vertices if self.rest.keep_detail else self.vertices

    @cached_property
    def comparison(self) -> Comparison:
        """How the silhouettes compare with the masks of the B views, differentiable."""
        return self.observation.compared(self.alpha, self.views)


Loss = Callable[[Drawn], Tensor]  # It returns one differentiable number, of shape ().
