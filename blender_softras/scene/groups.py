# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of vertices that are far enough apart to be moved at the same time. Knows nothing of Blender."""

from __future__ import annotations

import numpy as np

LEVELS = 16  # A vertex of a group is known by the amounts by which it moves along x, y and z, each one of so many,
LARGEST_GROUP = LEVELS * LEVELS  # where any two of the three tell which of so many vertices it is.


class Neighbours:
    """The vertices near each vertex of a mesh, counted in rings: those of one face are one ring apart."""

    def __init__(self, count: int, sizes: np.ndarray, corners: np.ndarray, edges: np.ndarray) -> None:
        """The mesh.

        Args:
            count: how many vertices it has.
            sizes: (P,) how many corners each face has.
            corners: the vertex of each corner, face after face.
            edges: (E, 2) edges, which may belong to no face.
        """
        self.count = count
        pairs = [edges, edges[:, ::-1]]
        starts = np.cumsum(sizes) - sizes
        for size in np.unique(sizes):
            faces = corners[starts[sizes == size][:, None] + np.arange(size)]
            pairs += [np.stack([faces, np.roll(faces, k, axis=1)], axis=2).reshape(-1, 2) for k in range(1, size)]
        self._first = self._lists(np.concatenate(pairs).astype(np.int64))

    def rings(self, vertex: int, most: int) -> list[np.ndarray]:
        """The vertices exactly 0, 1, ... and up to `most` rings from a vertex; fewer rings where the mesh ends."""
        starts, near = self._first
        seen = np.zeros(self.count, dtype=bool)
        seen[vertex] = True
        rings = [np.array([vertex])]
        for _ in range(most):
            found = np.unique(np.concatenate([near[starts[v] : starts[v + 1]] for v in rings[-1]]))
            found = found[~seen[found]]
            if not len(found):
                break
            seen[found] = True
            rings.append(found)
        return rings

    def within(self, rings: int) -> tuple[np.ndarray, np.ndarray]:
        """The vertices up to so many rings from each vertex, without itself.

        They are (V + 1,) where the list of each vertex starts, and all lists one after the other.
        """
        if rings == 0:
            return np.zeros(self.count + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        starts, near = self._first
        keys = np.repeat(np.arange(self.count), np.diff(starts)) * self.count + near
        for _ in range(rings - 1):
            owner, middle = np.divmod(keys, self.count)
            lengths = np.diff(starts)[middle]
            owners = np.repeat(owner, lengths)
            places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            farther = near[np.repeat(starts[middle], lengths) + places]
            keys = np.unique(np.concatenate([keys, owners * self.count + farther]))
        return self._lists(np.stack(np.divmod(keys, self.count), axis=1))

    def _lists(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = np.unique(pairs[:, 0] * self.count + pairs[:, 1])
        owner, other = np.divmod(keys, self.count)
        owner, other = owner[owner != other], other[owner != other]
        return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=self.count))]), other


def grouped(neighbours: Neighbours, vertices: np.ndarray, apart: int) -> list[np.ndarray]:
    """The vertices in groups, each of at most LARGEST_GROUP vertices that are more than `apart` rings apart.

    Greedy colouring of the graph in which two vertices conflict that are no farther apart than that.
    """
    starts, near = neighbours.within(apart)
    colour = np.full(neighbours.count, -1)
    groups: list[list[int]] = []
    first = 0  # the groups before it are full
    for vertex in vertices.tolist():
        taken = set(colour[near[starts[vertex] : starts[vertex + 1]]].tolist())
        choice = first
        while choice < len(groups) and (choice in taken or len(groups[choice]) >= LARGEST_GROUP):
            choice += 1
        if choice == len(groups):
            groups.append([])
        groups[choice].append(vertex)
        colour[vertex] = choice
        while first < len(groups) and len(groups[first]) >= LARGEST_GROUP:
            first += 1
    return [np.array(group) for group in groups]


def codes(count: int) -> np.ndarray:
    """(count, 3) digits below LEVELS for the vertices of a group; any two digits of a row belong to no other row."""
    number = np.arange(count)
    a, b = number % LEVELS, number // LEVELS
    return np.stack([a, b, (a + b) % LEVELS], axis=1)


def decoded(digits: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(M,) the row of `codes` for digits (M, 3) of which those are `known` (M, 3); -1 where they belong to no row."""
    a, b, c = digits.T
    row = np.where(known[:, 0] & known[:, 1], a + LEVELS * b, -1)
    row = np.where((row < 0) & known[:, 0] & known[:, 2], a + LEVELS * ((c - a) % LEVELS), row)
    row = np.where((row < 0) & known[:, 1] & known[:, 2], (c - b) % LEVELS + LEVELS * b, row)
    right = known.all(axis=1) & ((a + b) % LEVELS != c)
    return np.where(right, -1, row)
