"""Exact coverage of the scenes of gpu_check.py, and of a heap of triangles, most of which is measured by samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

import softras


class Areas:
    """Exact coverage of a scene: its vertices, faces, size, cameras and upstream gradient are `case`'s.

    heap: in place of the scene's faces, so many unconnected triangles at random places.
    """

    def __init__(self, case: Any, heap: int = 0) -> None:
        self.case, self.vertices, self.faces = case, case.vertices, case.faces
        if heap:
            generator = torch.Generator().manual_seed(0)
            middles = torch.rand(heap, 1, 3, generator=generator, dtype=torch.float64) * 1.4 - 0.7
            corners = middles + 0.02 * torch.randn(heap, 3, 3, generator=generator, dtype=torch.float64)
            self.vertices = corners.reshape(-1, 3).float().to(case.vertices).requires_grad_()
            self.faces = torch.arange(3 * heap, device=case.faces.device).reshape(-1, 3)
        self.views = {**case.tensors, "height": case.size, "width": case.size, "warn": False}

    def forward(self) -> torch.Tensor:
        return softras.coverage(self.vertices, self.faces, **self.views)

    def both(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Alpha and the gradient of the vertices."""
        alpha = self.forward()
        return alpha.detach(), torch.autograd.grad(alpha, self.vertices, self.case.upstream)[0]

    def jacobian(self, moves: torch.Tensor) -> torch.Tensor:
        """(pixels of all views, parameters): the Jacobian with zeros where it has no rows."""
        found = softras.coverage_jacobian(self.vertices, self.faces, d_vertices=moves, **self.views)
        return found.rows.new_zeros(found.alpha.numel(), moves.shape[-1]).index_copy(0, found.pixels, found.rows)


def time_areas(clock: Any, on_cpu: Any, case: Any, here: Any, heap: int) -> dict[str, Any]:
    """Milliseconds as called by gpu_check's clock, of silhouettes too, and bytes; "cpu": of `here`, a case of the CPU.

    No CUDA graph can hold it: how long the contour is shows only in the middle of a call.
    """
    row: dict[str, Any] = {"faces": heap or len(case.faces), "size": case.size, "views": len(case.cameras)}
    areas, moves = Areas(case, heap), case.moves()
    row["coverage"], row["bytes"] = [clock.called(areas.forward), clock.called(areas.both)], clock.memory(areas.both)
    if not heap:
        row["silhouettes"] = [clock.called(case.forward), clock.called(case.both)]
        row["jacobian"] = clock.called(lambda: areas.jacobian(moves))
    with on_cpu():
        theirs = Areas(here, heap)
        row["cpu"] = [type(clock)("cpu").called(call) for call in (theirs.forward, theirs.both)]
    return row


def differences(case: Any, exact: Any, on_cpu: Any, heap: int) -> Iterator[tuple[str, float]]:
    """The largest differences from the CPU's coverage of the same scene in float64, `exact`."""
    areas = Areas(case)
    alpha, gradient = areas.both()
    rows, sampled = areas.jacobian(case.moves()), Areas(case, heap).forward()
    with on_cpu():
        theirs = Areas(exact)
        expected, slope = theirs.both()
        slopes, wanted = theirs.jacobian(exact.moves()), Areas(exact, heap).forward()
    yield "alpha", float((alpha.cpu() - expected).abs().max())
    yield "gradient", float((gradient.cpu() - slope).abs().max() / slope.abs().max())
    yield "jacobian", float((rows.cpu() - slopes).abs().max() / slopes.abs().max())
    yield "heap", float((sampled - wanted.to(sampled)).detach().abs().mean())
