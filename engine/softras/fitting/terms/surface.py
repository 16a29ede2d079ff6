"""The terms of a mesh by itself: how rough, folded, sheared or stretched it has become.

Every term is a mean over the mesh, so that its weight does not depend on the number of vertices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...geometry.normals import corners, triangle_areas
from ...geometry.smoothness import cotangents, edge_lengths, hinge_cosines
from ...geometry.topology import Topology
from ...raster.sums import whole
from .closed_form import measured
from .free import Loss, Rest
from .term import Term

MAX_DISTORTION = 100.0  # A face's conformal energy per area counts as at most this, however sheared the face is.
EQUILATERAL = 3**-0.5  # The cotangent of 60 degrees.
SHORTEST_AT_REST = 0.1  # An edge that is shorter than this share of the mean edge at rest counts as this long.


def laplacian(moved: Tensor, topology: Topology, edge: float) -> Tensor:
    """Mean squared distance of a vertex from the middle of its neighbours, in edge lengths.

    mean |L x|^2 / edge^2, where L = I - D^-1 A (V, V) is the random-walk graph Laplacian and x (V, 3) are the vertices
    or, to leave the mesh its detail, their displacements. Sorkine et al., "Laplacian surface editing", SGP 2004.

    Args:
        moved: x.
        edge: the mean length of an edge.
    """
    return _roughness(moved, topology, edge, 1)


def bilaplacian(moved: Tensor, topology: Topology, edge: float) -> Tensor:
    """Mean squared Laplacian of the Laplacian, in edge lengths. Smooth bends cost little, noise costs much.

    mean |L L x|^2 / edge^2; letters and arguments as of `laplacian`. Kobbelt et al., "Interactive multi-resolution
    modeling", SIGGRAPH 1998.
    """
    return _roughness(moved, topology, edge, 2)


def normal_consistency(vertices: Tensor, topology: Topology, rest: Tensor | None = None) -> Tensor:
    """Mean over the hinges of how far their faces are folded.

    Without `rest` it is the mean of 1 - cos(angle between the normals), as `softras.normal_consistency_loss`. With
    `rest` it is the mean of max(0, cos(angle at rest) - cos(angle)), so that the artist's creases cost nothing.

    Args:
        rest: (H,) cosines of the hinges' angles at rest.
    """

    def definition(vertices: Tensor) -> Tensor:
        cosines = hinge_cosines(vertices, topology)
        return _mean(1 - cosines if rest is None else (rest - cosines).clamp_min(0))

    return measured("folding", definition, vertices, topology, len(topology.hinges), rest=rest)


def edge_length(vertices: Tensor, topology: Topology, lengths: Tensor) -> Tensor:
    """Mean squared relative change of the edges' lengths.

    mean ((|e| - l) / l)^2 over the edges e with wanted lengths l. The edge term of Wang et al., "Pixel2Mesh", ECCV
    2018, wants length 0.

    Args:
        lengths: (E,) l.
    """
    return _mean(((edge_lengths(vertices, topology.edges) - lengths) / lengths).square())


def distortion(vertices: Tensor, topology: Topology, cotangents: Tensor) -> Tensor:
    """Mean of how much the faces are sheared: 0 for a face that keeps its angles, up to 10^4 for one that collapses.

    mean (q - 1)^2 with q = s / A, where s = sum_i cot(theta_i) |e_i|^2 / 4 and A is the face's area. q is the conformal
    energy per area of the map from the face at rest: 1 for a similarity, more for other maps, at most MAX_DISTORTION.
    Hormann and Greiner, "MIPS: an efficient global parametrization method", 2000; Pinkall and Polthier, 1993.

    Args:
        cotangents: (F, 3) cotangents of the angles theta at rest, as `softras.geometry.smoothness.cotangents` gives
            them; edge i of a face is the one from corner i + 1 to corner i + 2, opposite to angle i.
    """

    def definition(vertices: Tensor) -> Tensor:
        a, b, c = corners(vertices, topology.faces)
        squares = torch.stack([(x - y).square().sum(dim=1) for x, y in ((c, b), (a, c), (b, a))], dim=1)
        energy = (cotangents * squares).sum(dim=1) / 4
        area = triangle_areas(a, b, c)
        bounded = energy / (area + energy / MAX_DISTORTION).clamp_min(1e-15)
        return _mean(torch.where(energy > 0, bounded - 1 / (1 + 1 / MAX_DISTORTION), 0).square())

    return measured("distortion", definition, vertices, topology, len(topology.faces), rest=cotangents)


def _roughness(moved: Tensor, topology: Topology, edge: float, order: int) -> Tensor:
    """mean |L^order x|^2 / edge^2."""

    def definition(moved: Tensor) -> Tensor:
        for _ in range(order):
            moved = topology.laplacian(moved)
        return _mean(moved.square().sum(dim=1)) / edge**2

    return measured("roughness", definition, moved, topology, len(moved), factor=edge**-2, order=order)


def _mean(values: Tensor) -> Tensor:
    return whole(values) / max(1, len(values))


def _laplacian(rest: Rest) -> Loss:
    return lambda drawn: laplacian(drawn.moved, rest.topology, rest.mean_edge)


def _bilaplacian(rest: Rest) -> Loss:
    return lambda drawn: bilaplacian(drawn.moved, rest.topology, rest.mean_edge)


def _normal_consistency(rest: Rest) -> Loss | None:
    if not len(rest.topology.hinges):
        return None
    at_rest = hinge_cosines(rest.vertices, rest.topology) if rest.keep_detail else None
    return lambda drawn: normal_consistency(drawn.vertices, rest.topology, at_rest)


def _distortion(rest: Rest) -> Loss:
    if rest.keep_detail:
        angles = cotangents(rest.vertices, rest.faces)
    else:
        angles = torch.full((len(rest.faces), 3), EQUILATERAL, dtype=rest.vertices.dtype, device=rest.vertices.device)
    return lambda drawn: distortion(drawn.vertices, rest.topology, angles)


def _edge_length(rest: Rest) -> Loss:
    if rest.keep_detail:
        lengths = rest.edge_lengths.clamp_min(SHORTEST_AT_REST * rest.mean_edge)
    else:
        lengths = torch.full_like(rest.edge_lengths, rest.mean_edge)
    return lambda drawn: edge_length(drawn.vertices, rest.topology, lengths)


LAPLACIAN = Term(loss=_laplacian, of_mesh=True)
BILAPLACIAN = Term({"refine": 0.03, "reconstruct": 0.2}, _bilaplacian, of_mesh=True)
NORMAL_CONSISTENCY = Term({"refine": 1.5}, _normal_consistency, of_mesh=True)
DISTORTION = Term({"refine": 0.035}, _distortion, of_mesh=True)
EDGE_LENGTH = Term(loss=_edge_length, of_mesh=True)
