"""The edges of a mesh and the faces that share them, in the form that the kernel of exact coverage reads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

KEPT = 8  # topologies that are remembered from call to call
ROOM = 1 << 16  # bytes for the outline of a mesh that has not been drawn yet


@dataclass(frozen=True, eq=False)
class EdgeTopology:
    """The edges of a mesh by the faces that traverse them. Coincident vertices are one, so that a seam is no border.

    Attributes:
        source_faces: (F, 3) the faces as given, on the CPU; the kernel compares them with those of each call.
        faces: (F, 3) int32, coincident vertices named by the first of them. Where that changes nothing it is the memory
            of source_faces, so that a call reads less.
        pair_faces: (E, 2) int32 for edges that two faces traverse in opposite directions: the face that goes from
            vertex a to vertex b, and the one that goes from b to a.
        pair_vertices: (E, 2) int32 a and b.
        other_edges: (O, 2) int32 vertices a and b of all other edges.
        other_ends: (O + 1,) int64 where the faces of each begin in the two next.
        other_faces: int32.
        other_directions: int8, 1 where the face goes from a to b, -1 where it goes from b to a.
        group_ends: (G + 1,) int64 where each group of coincident vertices begins in `copies`.
        copies: int32 vertices, group after group.
        room: one number, the bytes that the next outline of the mesh is expected to take.
    """

    source_faces: Tensor
    faces: np.ndarray
    pair_faces: np.ndarray
    pair_vertices: np.ndarray
    other_edges: np.ndarray
    other_ends: np.ndarray
    other_faces: np.ndarray
    other_directions: np.ndarray
    group_ends: np.ndarray
    copies: np.ndarray
    room: list[int] = field(default_factory=lambda: [ROOM], init=False)

    @classmethod
    def of(cls, faces: Tensor, vertices: Tensor, groups: np.ndarray | None = None) -> EdgeTopology:
        """The topology of faces (F, 3) and vertices (V, 3), or (N, V, 3) that coincide only if they do in all N sets.

        groups: (V,) numbers; vertices with different numbers are never joined. Raises ValueError where faces name
        vertices that do not exist.
        """
        count = vertices.shape[-2]
        source = faces.detach().to("cpu", copy=True).contiguous()
        given = source.numpy()
        if given.size and (given.min() < 0 or given.max() >= count):
            raise ValueError("faces name vertices that do not exist")
        first = coincident(vertices.detach().cpu().numpy(), given, groups)
        named = np.ascontiguousarray(first[given], dtype=np.int32)
        faces32 = given if given.dtype == np.int32 and np.array_equal(named, given) else named
        edges, groups_of_vertices = _edges(faces32, count), _groups(first)
        return cls(source, faces32, *(edges + groups_of_vertices))

    def first_of(self, count: int) -> np.ndarray:
        """(V,) for each vertex, the first vertex of its group of coincident ones."""
        first = np.arange(count)
        for begin, end in zip(self.group_ends[:-1], self.group_ends[1:], strict=True):
            first[self.copies[begin:end]] = self.copies[begin]
        return first


def coincident(vertices: np.ndarray, faces: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """(V,) for each vertex, the first vertex of the same group whose coordinates have the same bits."""
    sets = vertices if vertices.ndim == 3 else vertices[None]
    first = np.arange(sets.shape[1])
    used = np.unique(faces)
    if not used.size:
        return first
    coordinates = np.ascontiguousarray(sets[:, used].transpose(1, 0, 2).reshape(len(used), -1)) + 0.0  # -0 is 0
    if groups is not None:
        coordinates = np.column_stack([coordinates, groups[used]])
    rows = coordinates.view([("", coordinates.dtype)] * coordinates.shape[1]).ravel()
    _, at, inverse = np.unique(rows, return_index=True, return_inverse=True)
    first[used] = used[at[inverse.ravel()]]
    return first


def _groups(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`group_ends` and `copies` of an EdgeTopology, from the first vertex of each group; it comes first in `copies`."""
    shared = np.flatnonzero(np.bincount(first, minlength=len(first))[first] > 1)
    copies = shared[np.argsort(first[shared], kind="stable")]
    ends = np.flatnonzero(np.diff(first[copies], prepend=-1, append=-1)) if copies.size else np.zeros(1)
    return ends.astype(np.int64), copies.astype(np.int32)


def _edges(faces: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """The fields of EdgeTopology from pair_faces to other_directions."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    half = np.flatnonzero(start != end)  # an edge of length 0 encloses nothing
    low, high = np.minimum(start, end)[half], np.maximum(start, end)[half]
    order = np.argsort(low * count + high, kind="stable")
    half, low, high = half[order], low[order], high[order]
    face, forward = half // 3, start[half] == low
    new = np.flatnonzero((np.diff(low, prepend=-1) != 0) | (np.diff(high, prepend=-1) != 0))
    sizes = np.diff(new, append=len(half))
    second = np.minimum(new + 1, max(len(half) - 1, 0))
    pair = (sizes == 2) & (forward[new] != forward[second]) if len(new) else np.zeros(0, dtype=bool)
    i, j = new[pair], new[pair] + 1
    i, j = np.where(forward[i], i, j), np.where(forward[i], j, i)
    near = np.argsort(np.minimum(face[i], face[j]), kind="stable")  # edges of neighbouring faces are neighbours
    i, j = i[near], j[near]
    rest = np.flatnonzero(~pair)
    members = np.concatenate([np.arange(new[e], new[e] + sizes[e]) for e in rest]) if len(rest) else np.zeros(0, int)
    return (
        np.column_stack([face[i], face[j]]).astype(np.int32),
        np.column_stack([low[i], high[i]]).astype(np.int32),
        np.column_stack([low[new[rest]], high[new[rest]]]).astype(np.int32),
        np.concatenate([[0], np.cumsum(sizes[rest])]).astype(np.int64),
        face[members].astype(np.int32),
        np.where(forward[members], 1, -1).astype(np.int8),
    )


_kept: OrderedDict[tuple, EdgeTopology] = OrderedDict()
_lock = threading.Lock()


def _key(faces: Tensor, vertices: Tensor) -> tuple:
    return faces.data_ptr(), faces.shape[0], faces.dtype, vertices.shape[-2]


def remembered(faces: Tensor, vertices: Tensor) -> EdgeTopology:
    """The topology remembered for these faces, else a new one. It may be stale, which the kernel finds out."""
    key = _key(faces, vertices)
    with _lock:
        known = _kept.get(key)
    return known if known is not None else renewed(faces, vertices, None)


def renewed(faces: Tensor, vertices: Tensor, stale: EdgeTopology | None) -> EdgeTopology:
    """A new topology, remembered instead of a stale one.

    If the faces are the same, it joins no vertices that the stale one kept apart. Otherwise two meshes that share their
    faces but not their coincident vertices would make each other's topology stale at every call.
    """
    groups = None
    if stale is not None and torch.equal(stale.source_faces, faces.cpu()):
        groups = stale.first_of(vertices.shape[-2])
    made = EdgeTopology.of(faces, vertices, groups)
    with _lock:
        _kept[_key(faces, vertices)] = made
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return made
