"""The objective of a fit: the weighted sum of its terms for one topology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...geometry.smoothness import cotangents, edge_lengths, hinge_cosines
from ...geometry.topology import Topology
from . import terms


class Objective:
    """Silhouette and mesh terms with their weights.

    In a refinement the smoothness terms see displacements, so that the artist's own creases cost nothing; in a
    reconstruction, where the mesh is ours, they see the vertices themselves.
    """

    def __init__(
        self,
        rest: Tensor,
        faces: np.ndarray,
        weights: dict[str, float],
        *,
        keep_detail: bool,
    ) -> None:
        """rest: (V, 3) the mesh before the fit; weights: by name of the term."""
        self.weights = {name: weight for name, weight in weights.items() if weight != 0}
        self._rest, self._keep_detail = rest, keep_detail
        self._topology = Topology(faces, rest.device)
        self._faces = self._topology.faces
        self._rest_cosines = hinge_cosines(rest, self._topology) if keep_detail else None
        equilateral = torch.full((len(faces), 3), 3**-0.5, dtype=rest.dtype, device=rest.device)
        self._cotangents = cotangents(rest, self._faces) if keep_detail else equilateral
        lengths = edge_lengths(rest, self._topology.edges)
        self.mean_edge = max(float(lengths.mean()), 1e-4) if len(lengths) else 1.0
        self._lengths = (
            lengths.clamp_min(0.1 * self.mean_edge) if keep_detail else torch.full_like(lengths, self.mean_edge)
        )

    def silhouette(self, alpha: Tensor, masks: Sequence[Tensor], view_weights: Tensor) -> dict[str, Tensor]:
        """The silhouette terms times their weights, each the mean over the views by their weights (B,)."""
        found = {}
        for name, term in (("iou", terms.silhouette_iou_loss), ("squared", terms.silhouette_squared)):
            if name in self.weights:
                found[name] = (view_weights * term(alpha, masks)).sum() / len(view_weights)
        return self._weighted(found)

    def mesh(self, vertices: Tensor, stiffness: float = 1.0) -> dict[str, Tensor]:
        """The mesh terms times their weights and the stiffness."""
        moved = vertices - self._rest if self._keep_detail else vertices
        found = {}
        if "laplacian" in self.weights:
            found["laplacian"] = terms.laplacian(moved, self._topology.laplacian, self.mean_edge)
        if "bilaplacian" in self.weights:
            found["bilaplacian"] = terms.bilaplacian(moved, self._topology.laplacian, self.mean_edge)
        if "normal_consistency" in self.weights and len(self._topology.hinges):
            found["normal_consistency"] = terms.normal_consistency(vertices, self._topology, self._rest_cosines)
        if "distortion" in self.weights:
            found["distortion"] = terms.distortion(vertices, self._faces, self._cotangents)
        if "edge_length" in self.weights:
            found["edge_length"] = terms.edge_length(vertices, self._topology, self._lengths)
        return self._weighted(found, stiffness)

    def _weighted(self, found: dict[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
        return {name: factor * self.weights[name] * value for name, value in found.items()}
