"""Variables and the preconditioner."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting_scenes import ball

from softras import InputError
from softras.deform import FreeVertices, Mirror, find_partners
from softras.fitting.solvers.smooth_adam import Adam, Preconditioner

CPU = torch.device("cpu")


def free(mesh, **options):
    return FreeVertices(mesh.vertices, mesh.faces, dtype=torch.float64, **options)


def set_displacements(variable, value):
    with torch.no_grad():
        variable.parameters.copy_(torch.as_tensor(value))


def test_preconditioner_against_a_dense_solve():
    variable = free(ball(1))
    n = variable.laplacian.shape[0]
    dense = np.eye(n) + 7.0 * variable.laplacian.toarray()
    smooth = Preconditioner(variable.laplacian, 7.0, device=CPU, dtype=torch.float64)
    u = torch.rand(n, 3, dtype=torch.float64, requires_grad=True)
    np.testing.assert_allclose(smooth.decode(u).detach(), np.linalg.solve(dense, u.detach().numpy()), atol=1e-12)
    torch.testing.assert_close(smooth.encode(smooth.decode(u)), u)
    assert torch.autograd.gradcheck(smooth.decode, (u,))


def test_laplacian_has_rows_that_sum_to_zero_and_counts_neighbours():
    laplacian = free(ball(1)).laplacian.toarray()
    np.testing.assert_allclose(laplacian.sum(axis=1), 0, atol=1e-12)
    assert sorted(set(np.diag(laplacian))) == [5, 6]


def test_preconditioning_keeps_the_shape():
    mesh = ball(1)
    variable = free(mesh)
    set_displacements(variable, np.random.default_rng(0).normal(size=(42, 3)))
    rest = torch.as_tensor(mesh.vertices)
    before = variable.apply(rest).detach()
    for strength in (3.0, 40.0):
        smooth = Preconditioner(variable.laplacian, strength, device=CPU, dtype=torch.float64)
        variable.precondition(smooth.encode, smooth.decode)
        torch.testing.assert_close(variable.apply(rest).detach(), before)


def test_locked_and_loose_vertices_do_not_move_and_seams_stay_closed():
    mesh = ball(1)
    seam = np.concatenate([mesh.vertices, mesh.vertices[[5]], [[9.0, 9, 9]]])  # a twin of vertex 5, a loose vertex
    faces = mesh.faces.copy()
    faces[np.argwhere(faces == 5)[0][0]] = np.where(
        faces[np.argwhere(faces == 5)[0][0]] == 5, 42, faces[np.argwhere(faces == 5)[0][0]]
    )
    lock = np.zeros(44, dtype=bool)
    lock[:4] = True
    variable = FreeVertices(seam, faces, lock=lock, dtype=torch.float64)
    assert variable.parameters.shape == (38, 3)
    smooth = Preconditioner(variable.laplacian, 5.0, device=CPU, dtype=torch.float64)
    variable.precondition(smooth.encode, smooth.decode)
    set_displacements(variable, np.random.default_rng(0).normal(size=(38, 3)))
    moved = variable.apply(torch.as_tensor(seam)).detach().numpy()
    np.testing.assert_array_equal(moved[:4], seam[:4])
    np.testing.assert_array_equal(moved[43], seam[43])
    np.testing.assert_array_equal(moved[42], moved[5])
    assert (np.linalg.norm(moved[4:42] - seam[4:42], axis=1) > 1e-3).all()


def test_mirrored_displacements_stay_mirrored_and_the_middle_stays_in_the_plane():
    mesh = ball(2)
    normal = np.array([1.0, 0, 0])
    partner = find_partners(mesh.vertices, np.zeros(3), normal)
    assert (partner >= 0).all()
    variable = free(mesh, mirror=Mirror(partner, normal, device=CPU, dtype=torch.float64))
    set_displacements(variable, np.random.default_rng(0).normal(size=(len(partner), 3)))
    moved = variable.apply(torch.as_tensor(mesh.vertices)).detach().numpy()
    np.testing.assert_allclose(moved[partner] * [-1, 1, 1], moved, atol=1e-12)
    middle = np.abs(mesh.vertices[:, 0]) < 1e-9
    assert middle.sum() > 4
    np.testing.assert_allclose(moved[middle, 0], 0, atol=1e-12)


def test_a_mesh_without_symmetry_is_refused(cow):
    with pytest.raises(InputError, match="choose another axis"):
        find_partners(cow.vertices, np.zeros(3), np.array([0.0, 1, 0]))


def test_adam_steps():
    """The first step of Adam is the rate times the gradient over its largest entry."""
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([4.0, -2, 1], dtype=torch.float64)
    Adam(p).step(0.1)
    torch.testing.assert_close(p.detach(), torch.tensor([-0.1, 0.05, -0.025], dtype=torch.float64))
    assert p.grad is None


def test_adam_finds_a_minimum():
    p = torch.tensor([3.0, -2.0], requires_grad=True)
    adam = Adam(p)
    for k in range(300):
        ((p - torch.tensor([1.0, 1.5])) ** 2).sum().backward()
        adam.step(0.3 * 0.985**k)
    torch.testing.assert_close(p.detach(), torch.tensor([1.0, 1.5]), atol=0.02, rtol=0)
