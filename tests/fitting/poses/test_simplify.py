"""Rigs with fewer vertices."""

import numpy as np
import trimesh

from softras import Mesh, Rig
from softras.fitting.poses.simplify import simplified


def test_vertices_at_one_place_become_one() -> None:
    ball = trimesh.creation.icosphere(2)
    corners = Mesh(np.asarray(ball.vertices)[ball.faces].reshape(-1, 3), np.arange(ball.faces.size).reshape(-1, 3))
    rig, clusters = simplified(Rig(corners))
    assert len(rig.mesh.vertices) == len(ball.vertices) and len(rig.mesh.faces) == len(ball.faces)
    np.testing.assert_array_equal(rig.mesh.vertices[clusters], corners.vertices)


def test_a_cell_keeps_one_vertex_and_those_that_are_to_be_alone() -> None:
    ball = trimesh.creation.icosphere(4)
    rig = Rig(Mesh(np.asarray(ball.vertices), np.asarray(ball.faces)))
    fewer, clusters = simplified(rig, 0.1)
    assert len(fewer.mesh.vertices) < 0.5 * len(ball.vertices)
    away = np.linalg.norm(fewer.mesh.vertices[clusters] - ball.vertices, axis=1)
    assert away.max() < 0.2 * np.sqrt(3)
    lost = np.flatnonzero(away > 0)[:5]
    fewer, clusters = simplified(rig, 0.1, alone=lost)
    np.testing.assert_array_equal(fewer.mesh.vertices[clusters[lost]], ball.vertices[lost])
