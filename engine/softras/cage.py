"""The cage of modifiers: vertices that are fitted, and how the mesh that is shown moves with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import affine, array
from .errors import InputError
from .mesh import Mesh

NEGLIGIBLE = 1e-6  # Entries below this share of the largest are rounding.
MARGIN = 1.01  # Vertices stay so many times a plane's margin away from it.


@dataclass(frozen=True, eq=False)
class Cage:
    """Vertices of which another mesh is seen: a cage that modifiers subdivide, mirror, thicken or bend.

    The shown mesh is a linear map of the cage: its vertices are shown.vertices + A (x - vertices) for a cage at x. The
    map is exact for modifiers that are linear (mirrors, subdivision, an armature in one pose), and holds near
    `vertices` for others.

    Attributes:
        vertices: (V, 3) the cage where the map was taken.
        shown: what is seen of it then, S vertices.
        starts: (3 S + 1,) int64 where each row of A (3 S, 3 V) begins among the entries. Row 3 s + k is axis k of the
            shown vertex s.
        columns: (E,) int64 the columns of the entries. Column 3 v + j is axis j of the cage's vertex v.
        values: (E,) float64 the entries.
        planes: (K, 7) the planes of mirrors: a point, the unit normal, and a margin. A vertex that is no farther from a
            plane than its margin stays in it, any other stays on its side and farther away than that.
    """

    vertices: np.ndarray
    shown: Mesh
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    planes: np.ndarray

    def __post_init__(self) -> None:
        _set(self, "vertices", array("the vertices of a cage", self.vertices, (None, 3)))
        _set(self, "values", array("the entries of a cage", self.values, (None,)))
        _set(self, "planes", array("the planes of a cage", self.planes, (None, 7)))
        for name in ("starts", "columns"):
            _set(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.int64))
        rows, entries = 3 * len(self.shown.vertices), len(self.values)
        starts, columns = self.starts, self.columns
        if starts.shape != (rows + 1,) or starts[0] != 0 or starts[-1] != entries or (np.diff(starts) < 0).any():
            raise InputError(f"the rows of a cage must be {rows}, in order, for the {entries} entries that it has.")
        if columns.shape != (entries,) or (entries and not 0 <= columns.min() <= columns.max() < self.vertices.size):
            raise InputError(f"the columns of a cage must be one for each entry, each below {self.vertices.size}.")

    def shown_at(self, vertices: np.ndarray) -> Mesh:
        """What is seen where the cage is at (V, 3)."""
        moved = (vertices - self.vertices).ravel()
        if not moved.any():
            return self.shown
        added = np.bincount(self._rows(), self.values * moved[self.columns], minlength=len(self.starts) - 1)
        return Mesh(self.shown.vertices + added.reshape(-1, 3), self.shown.faces)

    def moved(self, matrix: np.ndarray) -> Cage:
        """The cage and what is shown of it, moved together by an affine map (4, 4)."""
        matrix = affine("the matrix that moves a cage", matrix)
        linear, shift = matrix[:3, :3], matrix[:3, 3]
        # A becomes L A L^-1 in each of its blocks of 3 x 3, which are first made full.
        rows, inverse = self._rows(), np.linalg.inv(linear)
        keys, block = np.unique((rows // 3) * (self.vertices.size // 3) + self.columns // 3, return_inverse=True)
        blocks = np.zeros((len(keys), 3, 3))
        blocks[block, rows % 3, self.columns % 3] = self.values
        blocks = np.einsum("ab,nbc,cd->nad", linear, blocks, inverse)
        return of_blocks(
            self.vertices @ linear.T + shift,
            Mesh(self.shown.vertices @ linear.T + shift, self.shown.faces),
            *np.divmod(keys, self.vertices.size // 3),
            blocks,
            moved_planes(self.planes, matrix),
        )

    def _rows(self) -> np.ndarray:
        """(E,) the row of each entry."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def of_blocks(
    vertices: np.ndarray, shown: Mesh, seen: np.ndarray, moving: np.ndarray, blocks: np.ndarray, planes: np.ndarray
) -> Cage:
    """A cage whose matrix is given by blocks.

    Args:
        vertices: as of `Cage`.
        shown: as of `Cage`.
        seen: (B,) a shown vertex for each block.
        moving: (B,) the vertex of the cage that moves it; no pair may come twice.
        blocks: (B, 3, 3) derivatives of the one by the other.
        planes: as of `Cage`.
    """
    block, row, column = np.nonzero(np.abs(blocks) > NEGLIGIBLE * np.abs(blocks).max(initial=0.0))
    rows, columns, values = 3 * seen[block] + row, 3 * moving[block] + column, blocks[block, row, column]
    order = np.argsort(rows * vertices.size + columns)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=3 * len(shown.vertices)))])
    return Cage(vertices, shown, starts, columns[order], values[order], planes)


def moved_planes(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The planes (K, 7) of a cage, moved by an affine map (4, 4)."""
    linear, shift = matrix[:3, :3], matrix[:3, 3]
    normals = planes[:, 3:6] @ np.linalg.inv(linear)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([planes[:, :3] @ linear.T + shift, normals / length, planes[:, 6:] / length], axis=1)


def held(planes: np.ndarray, vertices: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """(V, 3) the displacements that keep vertices (V, 3) in the planes (K, 7) and on their sides; see `Cage`.

    This is the definition, against which `deform.Sides` is tested.
    """
    for plane in planes:
        normal, margin = plane[3:6], plane[6]
        distance, along = (vertices - plane[:3]) @ normal, displacements @ normal
        side = np.where(np.abs(distance) <= margin, 0.0, np.sign(distance))
        least = np.minimum(MARGIN * margin, np.abs(distance))  # as near as the vertex may come
        beyond = np.maximum(least - side * (distance + along), 0) * side
        displacements = displacements + np.where(side == 0, -along, beyond)[:, None] * normal
    return displacements


def checked_cage(cage: Cage | None, vertices: np.ndarray | None) -> Cage | None:
    """The cage. Raises InputError where it is not one of (V, 3) vertices."""
    if cage is not None and (vertices is None or len(vertices) != len(cage.vertices)):
        count = 0 if vertices is None else len(vertices)
        raise InputError(f"the cage has {len(cage.vertices)} vertices but the mesh has {count}; give one of the mesh.")
    return cage


def _set(owner: Any, name: str, value: Any) -> None:
    object.__setattr__(owner, name, value)  # The class is frozen; its constructor sets fields once.
