"""Isotropic remeshing, where the topology is ours to choose.

gpytoolbox (MIT) has Botsch and Kobbelt's remesher, wheels for Linux, Windows and macOS on x86-64 and ARM, and brings
scikit-image, which has the marching cubes. pymeshlab has the same remesher but is five times as large, under the GPL,
and lacks ARM wheels for Windows; libigl and trimesh have none.
"""

from __future__ import annotations

import numpy as np

MOST_FACES = 14_000


def remesh(vertices: np.ndarray, faces: np.ndarray, edge: float, iterations: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of the same surface in triangles with sides of about `edge`.

    Sides are longer where that would take more than about MOST_FACES: lattices have much surface for their size.
    Botsch and Kobbelt, "A remeshing approach to multiresolution modeling", SGP 2004.
    """
    from gpytoolbox.remesh_botsch import remesh_botsch  # takes half a second, which a refinement can do without

    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    edge = max(edge, float(np.sqrt(area / MOST_FACES * 4 / np.sqrt(3))))
    v, f = remesh_botsch(vertices.astype(np.float64), faces.astype(np.int32), iterations, edge, True)
    return np.asarray(v), np.asarray(f, dtype=np.int32)
