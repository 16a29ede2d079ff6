"""The losses that the native library computes with their gradients, beside their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fitting_scenes import ball
from torch import Tensor

from softras.fitting.terms import surface
from softras.geometry.smoothness import cotangents, hinge_cosines
from softras.geometry.topology import Topology
from softras.raster.native import cpu

Loss = Callable[[Tensor], Tensor]


def meshes(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Vertices in float64, and faces."""
    random = np.random.default_rng(seed)
    mesh = ball(2)
    bumpy = mesh.vertices + 0.05 * random.standard_normal(mesh.vertices.shape)
    turned = random.random(len(mesh.faces)) < 0.3
    mixed = np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces)
    collapsed = bumpy.copy()
    collapsed[mesh.faces[5]] = collapsed[mesh.faces[5, 0]]  # a face and all its edges
    collapsed[mesh.faces[40, 1]] = collapsed[mesh.faces[40, 0]]
    degenerate = np.concatenate([mesh.faces, [[0, 1, 1], [2, 2, 2]]])
    loose = np.concatenate([bumpy, random.random((3, 3))])
    shapes = {
        "bumpy": (bumpy, mesh.faces),
        "faces oriented in any way": (bumpy, mixed),
        "three faces at an edge": (bumpy, np.concatenate([mesh.faces, [[*mesh.faces[0, :2], 90]]])),
        "an open mesh": (bumpy, mesh.faces[: len(mesh.faces) // 2 - 3]),
        "collapsed edges": (collapsed, mesh.faces),
        "faces of fewer than three vertices": (bumpy, degenerate),
        "vertices in no face": (loose, mesh.faces),
        "one face": (bumpy[:3], np.array([[0, 1, 2]])),
        "all vertices in one point": (np.ones_like(bumpy), mesh.faces),
    }
    return {name: (torch.as_tensor(v), torch.as_tensor(np.ascontiguousarray(f))) for name, (v, f) in shapes.items()}


def losses(faces: Tensor, rest: Tensor) -> dict[str, Loss]:
    """Every loss, of a mesh that was at rest with these vertices."""
    topology = Topology(faces)
    angles, cosines = cotangents(rest, faces), hinge_cosines(rest, topology)
    found: dict[str, Loss] = {
        "laplacian": lambda v: surface.laplacian(v, topology, 0.3),
        "bilaplacian": lambda v: surface.bilaplacian(v, topology, 0.3),
        "distortion": lambda v: surface.distortion(v, topology, angles),
    }
    if len(topology.hinges):
        found["folding"] = lambda v: surface.normal_consistency(v, topology)
        found["folding from rest"] = lambda v: surface.normal_consistency(v, topology, cosines)
    return found


def value_and_gradient(loss: Loss, vertices: Tensor) -> tuple[Tensor, Tensor]:
    leaf = vertices.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("name", meshes(0))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_the_definitions(name: str, dtype: torch.dtype, monkeypatch) -> None:
    """In float32 the definition in float64 decides, and the library may differ from it twice as much as float32.

    Where corners of a face coincide, its area is nothing but rounding, and the direction in which it grows, which is a
    large part of the gradient of distortion, is whatever the instructions make of it.
    """
    for seed in range(3):
        vertices, faces = meshes(seed)[name]
        rest = torch.as_tensor(ball(2).vertices)
        rest = torch.cat([rest, rest])[: len(vertices)]
        ours = {n: value_and_gradient(loss, vertices.to(dtype)) for n, loss in losses(faces, rest.to(dtype)).items()}
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_AVAILABLE", False)
            exact = {n: value_and_gradient(loss, vertices) for n, loss in losses(faces, rest).items()}
            same = {
                n: value_and_gradient(loss, vertices.to(dtype)) for n, loss in losses(faces, rest.to(dtype)).items()
            }
        for n, found in ours.items():
            for x, wanted, defined in zip(found, exact[n], same[n], strict=True):
                assert x.dtype == dtype and torch.isfinite(x).all(), n
                if n == "distortion" and x.dim():
                    a, b, c = vertices[faces].unbind(dim=1)
                    flat = (a == b).all(dim=1) | (b == c).all(dim=1) | (c == a).all(dim=1)
                    known = torch.ones(len(vertices), dtype=torch.bool).index_fill(
                        0, faces[flat].flatten().long(), False
                    )
                    x, wanted, defined = x[known], wanted[known], defined[known]
                    if not len(x):
                        continue
                size = max(wanted.abs().max().item(), 1e-2)
                allowed = size * (1e-11 if dtype == torch.float64 else 2e-6)
                assert (x - wanted).abs().max() <= 2 * (defined - wanted).abs().max() + allowed, n


def test_a_gradient_can_be_differentiated_again_and_losses_transformed(monkeypatch) -> None:
    mesh = ball(1)
    rest = torch.as_tensor(mesh.vertices)
    vertices = rest * torch.tensor([1.0, 0.7, 1.2])
    for name, loss in losses(torch.as_tensor(mesh.faces), rest).items():
        twice = torch.autograd.functional.hessian(loss, vertices)
        once = torch.func.grad(loss)(vertices)
        torch.testing.assert_close(once, value_and_gradient(loss, vertices)[1])
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_AVAILABLE", False)
            torch.testing.assert_close(twice, torch.autograd.functional.hessian(loss, vertices), msg=name)


def test_other_shapes_and_types_are_left_to_the_definition() -> None:
    vertices, faces = meshes(2)["bumpy"]
    topology = Topology(faces)
    loss = losses(faces, vertices)["folding from rest"]
    assert loss(vertices.float()).item() == pytest.approx(0, abs=1e-6)  # the cosines at rest are float64
    with pytest.raises((IndexError, RuntimeError)):
        surface.normal_consistency(vertices[:10], topology)
    strided = torch.zeros(len(vertices), 6, dtype=torch.float64)[:, ::2].copy_(vertices * 1.1)
    torch.testing.assert_close(
        surface.bilaplacian(strided, topology, 1), surface.bilaplacian(strided.contiguous(), topology, 1)
    )
