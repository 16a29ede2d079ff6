"""The objective of a fit: the weighted sum of its terms for one topology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from . import terms
from .sparse import SparseMap


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
        self._faces = torch.as_tensor(faces, dtype=torch.int64, device=rest.device)
        edges, hinges = edges_and_hinges(faces)
        self._edges = torch.as_tensor(edges, device=rest.device)
        self._hinges = torch.as_tensor(hinges, device=rest.device)
        self._rest_cosines = terms.hinge_cosines(rest, self._faces, self._hinges) if keep_detail else None
        equilateral = torch.full((len(faces), 3), 3**-0.5, dtype=rest.dtype, device=rest.device)
        self._cotangents = terms.cotangents(rest, self._faces) if keep_detail else equilateral
        self._operator = SparseMap(_random_walk(edges, len(rest)), device=rest.device, dtype=rest.dtype)
        lengths = (rest[self._edges[:, 0]] - rest[self._edges[:, 1]]).norm(dim=1)
        self.mean_edge = max(float(lengths.mean()), 1e-4) if len(lengths) else 1.0
        self._lengths = (
            lengths.clamp_min(0.1 * self.mean_edge) if keep_detail else torch.full_like(lengths, self.mean_edge)
        )

    def silhouette(self, alpha: Tensor, masks: Sequence[Tensor], view_weights: Tensor) -> dict[str, Tensor]:
        """The silhouette terms times their weights, each the mean over the views by their weights (B,)."""
        found = {}
        for name, term in (("iou", terms.silhouette_iou), ("squared", terms.silhouette_squared)):
            if name in self.weights:
                found[name] = (view_weights * term(alpha, masks)).sum() / len(view_weights)
        return self._weighted(found)

    def mesh(self, vertices: Tensor, stiffness: float = 1.0) -> dict[str, Tensor]:
        """The mesh terms times their weights and the stiffness."""
        moved = vertices - self._rest if self._keep_detail else vertices
        found = {}
        if "laplacian" in self.weights:
            found["laplacian"] = terms.laplacian(moved, self._operator, self.mean_edge)
        if "bilaplacian" in self.weights:
            found["bilaplacian"] = terms.bilaplacian(moved, self._operator, self.mean_edge)
        if "normal_consistency" in self.weights and len(self._hinges):
            found["normal_consistency"] = terms.normal_consistency(
                vertices, self._faces, self._hinges, self._rest_cosines
            )
        if "distortion" in self.weights:
            found["distortion"] = terms.distortion(vertices, self._faces, self._cotangents)
        if "edge_length" in self.weights:
            found["edge_length"] = terms.edge_length(vertices, self._edges, self._lengths)
        return self._weighted(found, stiffness)

    def _weighted(self, found: dict[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
        return {name: factor * self.weights[name] * value for name, value in found.items()}


def edges_and_hinges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E, 2) undirected edges and (H, 2) pairs of faces that share an edge (neighbours in order, if more do)."""
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1).astype(np.int64)
    owner = np.repeat(np.arange(len(faces)), 3)
    real = sides[:, 0] != sides[:, 1]
    sides, owner = sides[real], owner[real]
    count = int(faces.max()) + 1
    keys = sides[:, 0] * count + sides[:, 1]
    order = np.argsort(keys, kind="stable")
    same = np.diff(keys[order]) == 0
    edges = sides[order][np.concatenate([[True], ~same])] if len(order) else sides
    return edges, np.stack([owner[order][:-1][same], owner[order][1:][same]], axis=1)


def _random_walk(edges: np.ndarray, count: int) -> sp.csr_matrix:
    """(count, count) I - D^-1 A; rows of vertices without neighbours are zero."""
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    degree = np.bincount(i, minlength=count)
    neighbours = sp.csr_matrix((1.0 / degree[i], (i, j)), shape=(count, count))
    return sp.diags((degree > 0).astype(float)) - neighbours
