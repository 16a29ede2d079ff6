"""Isotropic remeshing, for meshes that the fit itself makes.

The remesher is that of gpytoolbox (MIT), which has wheels for Linux, Windows and macOS on x86-64 and ARM and depends on
scikit-image, from which the marching cubes come. pymeshlab has the same remesher but is five times as large, under the
GPL, and lacks ARM wheels for Windows; libigl and trimesh have no remesher.
"""

from __future__ import annotations

import numpy as np

from ...geometry.normals import face_areas

MOST_FACES = 14_000  # A remeshed surface has at most about so many faces.


def remesh(vertices: np.ndarray, faces: np.ndarray, edge: float, iterations: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of the same surface, made of triangles with edges of about the length `edge`.

    Edges are longer where the surface, say that of a lattice, is so large that it would take more than MOST_FACES.
    Botsch and Kobbelt, "A remeshing approach to multiresolution modeling", SGP 2004.
    """
    from gpytoolbox.remesh_botsch import remesh_botsch  # Loading it takes half a second, only where it is needed.

    area = face_areas(vertices, faces).numpy().sum()
    edge = max(edge, float(np.sqrt(area / MOST_FACES * 4 / np.sqrt(3))))
    v, f = remesh_botsch(vertices.astype(np.float64), faces.astype(np.int32), iterations, edge, True)
    return np.asarray(v), np.asarray(f, dtype=np.int32)
