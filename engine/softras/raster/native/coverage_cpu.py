"""Exact coverage by the native library, the CPU's backend."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..coverage.topology import KEPT, ROOM, EdgeTopology, remembered, renewed
from ..scene import Scene, Tangents, dense
from . import cpu
from .structures import BAND, STALE_TOPOLOGY, CoverageCall

FORWARD, TAKE, BACKWARD, PIXELS, JACOBIAN, CENTRES = range(6)  # modes of a call (csrc/softras.h)


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """The silhouette's outline, cut at the pixels' borders, which the derivatives need. All of it is on the CPU."""

    topology: EdgeTopology
    outline: Tensor  # the bytes of `softras_coverage_call::outline`, and unused room behind them
    pieces: int  # of the outline, in all views


def coverage(scene: Scene, keep: bool, warn: bool = True) -> tuple[Tensor, Kept | None]:
    """Alpha (N, H, W) and, with keep, the outline, which the derivatives need.

    warn: whether a RuntimeWarning says that pixels were sampled.
    """
    alpha = scene.vertices.new_empty(scene.size)
    call, topology, outline = _drawn(scene, FORWARD, alpha, keep)
    if warn:
        warn_of_samples(call.sampled_bands)
    if not keep:
        return alpha, None
    if not call.bytes <= topology.room[0] <= max(4 * call.bytes, ROOM):
        topology.room[0] = call.bytes + call.bytes // 4
    if call.kept:
        outline = _bytes(call.bytes)
        call.mode, call.outline = TAKE, outline.data_ptr()
        cpu.run("coverage", alpha.dtype, call)
    return alpha, Kept(topology, outline, call.pieces)


def warn_of_samples(bands: int) -> None:
    """Say that the pixels of so many bands of rows were sampled, if there are any."""
    if bands:
        warnings.warn(
            f"so many edges cross that the coverage of {bands} bands of {BAND} rows is that of 8 x 8 samples a pixel",
            RuntimeWarning,
            stacklevel=3,
        )


def coverage_centres(scene: Scene) -> Tensor:
    """(N, H, W) bool, whether a face covers the pixel's centre."""
    covered = torch.empty(scene.size, dtype=torch.bool)
    _drawn(scene, CENTRES, covered, False)
    return covered


def coverage_backward(
    scene: Scene, kept: Kept, grad_alpha: Tensor, wanted: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients to vertices, K and world_to_camera, or None for those that are not wanted."""
    moving = (scene.vertices, scene.K, scene.world_to_camera)
    grads = [x.new_empty(x.shape) if want else None for x, want in zip(moving, wanted, strict=True)]
    scene, grad_alpha = dense(scene), grad_alpha.contiguous()
    call = _call(scene, kept.topology, BACKWARD, kept=kept)
    inner = call.scene
    inner.grad_alpha = grad_alpha.data_ptr()
    inner.grad_positions, inner.grad_intrinsics, inner.grad_world_to_camera = [
        None if x is None else x.data_ptr() for x in grads
    ]
    cpu.run("coverage", grad_alpha.dtype, call)
    return grads[0], grads[1], grads[2]


def coverage_jacobian(scene: Scene, kept: Kept, tangents: Tangents) -> tuple[Tensor, Tensor]:
    """The pixels (M,) on the outline, ascending, and the rows (M, P) of their Jacobian."""
    pixels, row_of_piece = torch.empty(kept.pieces, dtype=torch.int64), torch.empty(kept.pieces, dtype=torch.int32)
    scene, tangents = dense(scene), dense(tangents)
    call = _call(scene, kept.topology, PIXELS, kept=kept)
    call.pixels, call.row_of_piece = pixels.data_ptr(), row_of_piece.data_ptr()
    cpu.run("coverage", scene.vertices.dtype, call)
    rows = scene.vertices.new_empty(call.row_count, tangents.parameters)
    call.mode, call.parameters, call.rows = JACOBIAN, tangents.parameters, rows.data_ptr()
    call.d_positions, call.d_intrinsics, call.d_world_to_camera = (
        None if x is None else x.data_ptr() for x in tangents
    )
    cpu.run("coverage", rows.dtype, call)
    return pixels[: call.row_count].clone(), rows


def _drawn(scene: Scene, mode: int, image: Tensor, keep: bool) -> tuple[CoverageCall, EdgeTopology, Tensor]:
    """A call that has drawn an image, the topology of the scene's faces, and with keep the outline, if it had room."""
    scene = dense(scene)
    topology = remembered(scene.faces, scene.vertices)
    while True:
        call = _call(scene, topology, mode, image)
        outline = _bytes(topology.room[0] if keep else 0)
        if keep:
            call.keep, call.room, call.outline = True, topology.room[0], outline.data_ptr()
        status = cpu.status_of("coverage", scene.vertices.dtype, call)
        if status != STALE_TOPOLOGY:
            cpu.check(status)
            return call, topology, outline
        topology = renewed(scene.faces, scene.vertices, topology)


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


def _call(
    scene: Scene, topology: EdgeTopology, mode: int, alpha: Tensor | None = None, kept: Kept | None = None
) -> CoverageCall:
    """The structure of a call. alpha: (N, H, W), to be written where the call draws."""
    call = CoverageCall.from_buffer_copy(_topology_part(topology))
    call.scene, call.mode = cpu.call_of(scene, 1.0, None, alpha=alpha), mode
    if kept is not None:
        call.outline = kept.outline.data_ptr()
    return call


@functools.lru_cache(maxsize=KEPT)
def _topology_part(topology: EdgeTopology) -> bytes:
    """The bytes of a call in which only the fields of the topology are set."""
    call = CoverageCall(source_faces=topology.source_faces.data_ptr())
    for name in (
        "faces", "pair_faces", "pair_vertices", "other_edges", "other_ends", "other_faces", "other_directions",
        "group_ends", "copies",
    ):  # fmt: skip
        setattr(call, name, getattr(topology, name).ctypes.data)
    call.pairs, call.others = len(topology.pair_faces), len(topology.other_edges)
    call.groups = len(topology.group_ends) - 1
    return bytes(call)
