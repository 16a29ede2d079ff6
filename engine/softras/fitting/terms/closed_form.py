"""Losses of a mesh by itself whose value and gradient the native library computes together (csrc/softras_mesh.cpp).

One pass over the mesh takes less time than PyTorch needs to begin the dozens of small operations of a definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...geometry.topology import Topology
from ...raster.algebra import plain
from ...raster.native import cpu
from ...raster.native.structures import MeshCall


def measured(
    function: str,
    definition: Callable[[Tensor], Tensor],
    vertices: Tensor,
    topology: Topology,
    count: int,
    *,
    factor: float = 1.0,
    rest: Tensor | None = None,
    order: int = 0,
) -> Tensor:
    """A loss () of vertices (V, 3), by the native library where it can and otherwise by its definition.

    Args:
        function: its name in the library: "roughness", "folding" or "distortion".
        definition: the same loss as a function of the vertices, in PyTorch's operations. It computes on a GPU, under
            transforms, without the library, and wherever the gradient is to be differentiated again.
        count: how many vertices, hinges or faces the loss is the mean over.
        factor: what the mean is multiplied by.
        rest: the numbers of the mesh at rest that the loss compares with, `count` rows of the dtype of the vertices.
        order: how many times the Laplacian is applied, for "roughness".
    """
    fits = vertices.dim() == 2 and vertices.shape[0] >= topology.vertex_count and topology.faces.is_cpu
    if rest is not None:
        fits = fits and rest.shape[0] == count and rest.dtype == vertices.dtype
    if not (fits and cpu.available() and plain(vertices.detach()) and (rest is None or plain(rest))):
        return definition(vertices)
    return _Measured.apply(vertices, definition, function, topology, factor / max(1, count), rest, order)


class _Measured(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        definition: Callable[[Tensor], Tensor],
        function: str,
        topology: Topology,
        scale: float,
        rest: Tensor | None,
        order: int,
    ) -> Tensor:
        value, ctx.gradient = vertices.new_empty(()), torch.empty_like(vertices, memory_format=torch.contiguous_format)
        ctx.definition = definition
        ctx.save_for_backward(vertices)
        starts, neighbours = topology.neighbours(vertices.shape[0]) if order else (None, None)
        faces, hinges = topology.faces, topology.hinges
        read = (vertices, faces, hinges, topology.turned, starts, neighbours, rest)
        dense = [None if x is None else x.contiguous() for x in read]
        pointers = [None if x is None else x.data_ptr() for x in (*dense, value, ctx.gradient)]
        sizes = vertices.shape[0], faces.shape[0], hinges.shape[0]
        cpu.run(function, vertices.dtype, MeshCall(*sizes, order, scale, *pointers))
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # The gradient is to be differentiated again.
            (vertices,) = ctx.saved_tensors
            (found,) = torch.autograd.grad(ctx.definition(vertices), vertices, gradient, create_graph=True)
        else:
            found = gradient * ctx.gradient
        return found, None, None, None, None, None, None
