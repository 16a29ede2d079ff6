"""The losses against published values, closed forms and their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import cube, fins, icosahedron, plane, rotation, rough, sphere
from torch.func import grad, hessian, jvp, vmap

from softras import (
    InputError,
    Topology,
    edge_length_loss,
    flatten_loss,
    laplacian_loss,
    laplacian_smoothing_loss,
    normal_consistency_loss,
)
from softras.geometry.smoothness import cotangent_laplacian, cotangents
from softras.geometry.sparse import SparseMap


def cotangent_smoothing_loss(vertices, topology):
    return laplacian_smoothing_loss(vertices, topology, "cotangent")


LOSSES = [
    laplacian_loss,
    flatten_loss,
    normal_consistency_loss,
    edge_length_loss,
    laplacian_smoothing_loss,
    cotangent_smoothing_loss,
]


def test_the_cube_of_softras_and_pytorch3d() -> None:
    """12 of the cube's 18 edges are right angles and the 6 diagonals are flat."""
    vertices, faces = cube()
    topology = Topology(faces)
    assert laplacian_loss(vertices, topology).item() == pytest.approx(4.810833, abs=1e-6)
    assert flatten_loss(vertices, topology).item() == pytest.approx(12.0)
    assert normal_consistency_loss(vertices, topology).item() == pytest.approx(12 / 18)
    assert edge_length_loss(vertices, topology).item() == pytest.approx((12 * 1 + 6 * 2) / 18)
    assert edge_length_loss(vertices, topology, 1.0).item() == pytest.approx(6 * (2**0.5 - 1) ** 2 / 18)


def test_an_icosahedron() -> None:
    """The five neighbours' mean is at 1 / sqrt(5) of the way to the middle; the dihedral cosine is -sqrt(5) / 3."""
    vertices, faces = icosahedron()
    topology = Topology(faces)
    away, bend = 1 - 5**-0.5, 1 - 5**0.5 / 3
    assert laplacian_loss(vertices, topology).item() == pytest.approx(12 * away**2)
    assert laplacian_smoothing_loss(vertices, topology).item() == pytest.approx(away)
    assert cotangent_smoothing_loss(vertices, topology).item() == pytest.approx(away)
    assert flatten_loss(vertices, topology).item() == pytest.approx(30 * bend**2)
    assert normal_consistency_loss(vertices, topology).item() == pytest.approx(bend)


def test_a_plane_is_smooth_up_to_its_boundary() -> None:
    """Cotangents reproduce linear functions, uniform weights do not on an uneven mesh."""
    vertices, faces, edge = plane()
    topology = Topology(faces)
    assert flatten_loss(vertices, topology) < 1e-20 and normal_consistency_loss(vertices, topology).abs() < 1e-12
    away = cotangent_laplacian(vertices, faces)
    assert away[~edge].abs().max() < 1e-12 < away[edge].norm(dim=1).max()
    assert topology.laplacian(vertices)[~edge].norm(dim=1).max() > 0.01


def test_two_faces_at_an_angle_and_boundaries() -> None:
    for angle in (180, 135, 90, 30):
        vertices, faces = fins(0, angle)
        topology = Topology(faces)
        assert len(topology.hinges) == 1
        cosine = np.cos(np.radians(angle))
        assert flatten_loss(vertices, topology).item() == pytest.approx((cosine + 1) ** 2, abs=1e-12)
        assert normal_consistency_loss(vertices, topology).item() == pytest.approx(1 + cosine, abs=1e-12)


def test_every_two_of_the_faces_at_one_edge_count() -> None:
    vertices, faces = fins(0, 120, 240)
    topology = Topology(faces)
    assert topology.edges.shape == (7, 2) and sorted(topology.hinges.tolist()) == [[0, 1], [0, 2], [1, 2]]
    assert flatten_loss(vertices, topology).item() == pytest.approx(3 * 0.25)
    vertices, faces = fins(0, 90, 180, 270)  # two sheets that cross: 2 flat pairs and 4 right angles
    assert flatten_loss(vertices, Topology(faces)).item() == pytest.approx(4)


def test_smoothing_is_what_dense_matrices_give() -> None:
    vertices, faces = rough()
    weights = {"uniform": torch.zeros(len(vertices), len(vertices), dtype=torch.float64)}
    weights["cotangent"] = weights["uniform"].clone()
    for face in faces.tolist():
        for k in range(3):
            i, j, o = face[k], face[k - 2], face[k - 1]
            u, v = vertices[i] - vertices[o], vertices[j] - vertices[o]
            angle = torch.arccos(u @ v / (u.norm() * v.norm()))
            for a, b in ((i, j), (j, i)):
                weights["uniform"][a, b] = 1
                weights["cotangent"][a, b] += 1 / torch.tan(angle)
    topology = Topology(faces)
    for method, w in weights.items():
        away = (w @ vertices) / w.sum(dim=1, keepdim=True) - vertices
        torch.testing.assert_close(laplacian_smoothing_loss(vertices, topology, method), away.norm(dim=1).mean())
        if method == "uniform":
            torch.testing.assert_close(laplacian_loss(vertices, topology), away.square().sum())


def test_cotangents_have_no_gradient_of_their_own() -> None:
    vertices, faces = rough()
    topology, v = Topology(faces), vertices.clone().requires_grad_()
    cotangent_smoothing_loss(v, topology).backward()
    w = torch.zeros(len(v), len(v), dtype=torch.float64)
    for face, angles in zip(faces.tolist(), cotangents(vertices, faces).tolist(), strict=True):
        for k in range(3):
            i, j = face[k - 2], face[k - 1]
            w[i, j] += angles[k]
            w[j, i] += angles[k]
    u = vertices.clone().requires_grad_()
    ((w / w.sum(dim=1, keepdim=True)) @ u - u).norm(dim=1).mean().backward()
    torch.testing.assert_close(v.grad, u.grad)


@pytest.mark.parametrize("loss", LOSSES[:5])
def test_gradients(loss) -> None:
    vertices, faces = rough()
    topology = Topology(torch.cat([faces, torch.tensor([[0, 5, 20]])]))  # an extra sheet: three faces at an edge
    assert torch.autograd.gradcheck(lambda v: loss(v, topology), (vertices.requires_grad_(),))


@pytest.mark.parametrize("loss", LOSSES)
def test_batches_and_arrays(loss) -> None:
    vertices, faces = rough()
    many = torch.stack([vertices, 2 * vertices, vertices.flip(1)])
    topology = Topology(faces.numpy())
    found = loss(many, topology)
    torch.testing.assert_close(found, torch.stack([loss(one.numpy(), topology) for one in many]))
    half = loss(many.float(), topology)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), found, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 10**6), st.floats(0.1, 10))
@settings(max_examples=15)
def test_invariances(seed: int, scale: float) -> None:
    """Of motions, of the order of faces and of the corners in them, of the orientation of each; and of units."""
    vertices, faces = rough(seed)
    random = np.random.default_rng(seed)
    moved = vertices @ rotation(seed).T + torch.tensor([5.0, -3, 1])
    mixed = faces[torch.tensor(random.permutation(len(faces)))].roll(int(random.integers(3)), dims=1)
    flipped = torch.tensor(random.random(len(faces)) < 0.5)
    mixed[flipped] = mixed[flipped].flip(1)
    powers = dict(zip(LOSSES, (2, 0, 0, 2, 1, 1), strict=True))
    for loss in LOSSES:
        expected = loss(vertices, Topology(faces))
        torch.testing.assert_close(loss(moved, Topology(mixed)), expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(loss(scale * vertices, Topology(faces)), scale ** powers[loss] * expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_has_no_area_or_no_face_gives_finite_numbers(loss) -> None:
    vertices, faces = rough()
    broken = torch.cat([faces, torch.tensor([[0, 1, 1], [2, 2, 2], [3, 4, 42]])])
    flat = torch.cat([vertices, 0.5 * (vertices[3:4] + vertices[4:5]), torch.ones(1, 3, dtype=torch.float64)])
    for v in (flat, flat.float(), torch.ones_like(flat)):
        v = v.clone().requires_grad_()
        value = loss(v, Topology(broken))
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(v.grad).all()
        assert not v.grad[-1].any()  # in no face
    assert loss(flat, Topology(faces[:0])) == 0
    assert loss(flat, Topology(faces[:1])) >= 0


def test_topology_of_a_closed_mesh() -> None:
    _, faces = sphere(3)
    topology = Topology(faces.int())
    assert len(topology.edges) == len(topology.hinges) == 1.5 * len(faces)  # Euler
    assert len(topology.edges.unique(dim=0)) == len(topology.edges)
    assert not topology.turned.any() and topology.vertex_count == 642
    assert Topology(torch.cat([faces[:1].flip(1), faces[1:]])).turned.sum() == 3


def test_a_face_of_two_vertices_is_an_edge_and_no_hinge_with_itself() -> None:
    topology = Topology(np.array([[3, 1, 1], [2, 2, 2]]))
    assert topology.edges.tolist() == [[1, 3]] and topology.hinges.shape == (0, 2)


def test_what_does_not_fit_is_said() -> None:
    vertices, faces = cube()
    topology = Topology(faces)
    with pytest.raises(InputError, match="need 8 vertices but there are 7"):
        flatten_loss(vertices[:7], topology)
    for loss in (laplacian_loss, flatten_loss, normal_consistency_loss, edge_length_loss, laplacian_smoothing_loss):
        with pytest.raises(InputError, match=r"give softras.Topology\(faces\)"):
            loss(vertices, faces)
    with pytest.raises(InputError, match="'uniform' or 'cotangent', not 'cot'"):
        laplacian_smoothing_loss(vertices, topology, "cot")
    with pytest.raises(InputError, match="below 0"):
        Topology(faces - 1)
    with pytest.raises(InputError, match="shape"):
        Topology(faces.flatten())


def test_sparse_map_gradient() -> None:
    matrix = np.array([[1.0, 0, 2], [0, 0, -1], [3, 0, 0], [0, 4, 0]])
    sparse = SparseMap(scipy.sparse.csr_matrix(matrix), dtype=torch.float64)
    x = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sparse(x), torch.as_tensor(matrix) @ x)
    assert torch.autograd.gradcheck(sparse, (x,))


@pytest.mark.parametrize("loss", LOSSES)
def test_torch_func_gives_what_backward_and_a_loop_give(loss) -> None:
    vertices, faces = rough()
    meshes = torch.stack([vertices, vertices.flip(1)])
    leaf = vertices.clone().requires_grad_()
    loss(leaf, Topology(faces)).backward()
    topology = Topology(faces)  # of which all is found inside a transform
    gradient = grad(lambda x: loss(x, topology))
    assert torch.equal(gradient(vertices), leaf.grad)
    assert torch.equal(grad(lambda x: loss(x, Topology(faces.long())))(vertices), leaf.grad)
    torch.testing.assert_close(loss(vertices, topology), loss(vertices, Topology(faces)))
    torch.testing.assert_close(vmap(lambda x: loss(x, topology))(meshes), loss(meshes, topology))
    torch.testing.assert_close(vmap(gradient)(meshes), torch.stack([gradient(one) for one in meshes]))
    along = jvp(lambda x: loss(x, topology), (vertices,), (vertices.cos(),))[1]
    torch.testing.assert_close(along, (leaf.grad * vertices.cos()).sum())
    once = torch.autograd.functional.hessian(lambda x: loss(x, topology), vertices)
    torch.testing.assert_close(hessian(lambda x: loss(x, topology))(vertices), once)


def test_a_topology_is_of_one_mesh() -> None:
    vertices, faces = rough()
    with pytest.raises(ValueError, match="vmap is not possible over the faces of a softras.Topology"):
        vmap(lambda faces: laplacian_loss(vertices, Topology(faces)))(torch.stack([faces, faces]))
