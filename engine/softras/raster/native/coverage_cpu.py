"""Exact coverage by the native library, the CPU's backend."""

from __future__ import annotations

import ctypes
import functools
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..coverage.topology import KEPT, EdgeTopology, remembered, renewed
from ..scene import Scene, Tangents, dense
from . import cpu
from .structures import Contour, CoverageCall, Piece

FORWARD, TAKE, BACKWARD, JACOBIAN = range(4)  # modes of a call; TAKE copies the outline that FORWARD has kept
STALE_TOPOLOGY = 10  # the status of a call whose topology does not fit its faces and vertices
BAND = 32  # rows of pixels that are measured together, exactly or by samples


@dataclass(frozen=True, eq=False)
class Kept:
    """The silhouette's outline, cut at the pixels' borders, which the derivatives need. All of it is on the CPU."""

    topology: EdgeTopology
    counts: Tensor  # (N, 2) int64: the number of contour edges and of pieces of each view
    contours: Tensor  # the bytes of the `Contour` structures
    pieces: Tensor  # the bytes of the `Piece` structures


def coverage(scene: Scene, keep: bool) -> tuple[Tensor, Kept | None]:
    """Alpha (N, H, W) and, with keep, the outline, which the derivatives need."""
    views = scene.K.shape[0]
    alpha = scene.vertices.new_empty(scene.size)
    counts, sampled = torch.empty(views, 2, dtype=torch.int64), (ctypes.c_int64 * views)()
    scene = dense(scene)
    topology = remembered(scene.faces, scene.vertices)
    while True:
        call = _call(scene, topology, alpha, FORWARD)
        call.keep, call.counts, call.sampled_bands = keep, counts.data_ptr(), ctypes.addressof(sampled)
        status = cpu.status_of("coverage", alpha.dtype, call)
        if status != STALE_TOPOLOGY:
            break
        topology = renewed(scene.faces, scene.vertices, topology)
    cpu.check(status)
    if bands := sum(sampled):
        warnings.warn(
            f"so many edges cross that the coverage of {bands} bands of {BAND} rows is that of 8 x 8 samples a pixel",
            RuntimeWarning,
            stacklevel=2,
        )
    if not keep:
        return alpha, None
    found = counts.tolist()
    contours, pieces = sum(view[0] for view in found), sum(view[1] for view in found)
    kept = Kept(topology, counts, _bytes(contours * ctypes.sizeof(Contour)), _bytes(pieces * ctypes.sizeof(Piece)))
    call.mode, call.contours, call.pieces = TAKE, kept.contours.data_ptr(), kept.pieces.data_ptr()
    cpu.run("coverage", alpha.dtype, call)
    return alpha, kept


def coverage_backward(scene: Scene, kept: Kept, grad_alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera."""
    grads = scene.empty_gradients()
    scene, grad_alpha = dense(scene), grad_alpha.contiguous()
    call = _call(scene, kept.topology, grad_alpha, BACKWARD, kept)
    call.scene.grad_alpha = grad_alpha.data_ptr()
    call.scene.grad_positions, call.scene.grad_intrinsics, call.scene.grad_world_to_camera = (
        x.data_ptr() for x in grads
    )
    cpu.run("coverage", grad_alpha.dtype, call)
    return grads


def coverage_jacobian(scene: Scene, kept: Kept, tangents: Tangents) -> tuple[Tensor, Tensor]:
    """The pixels (M,) on the outline, ascending, and the rows (M, P) of their Jacobian."""
    pixel_in_view = kept.pieces.numpy().view(np.dtype(Piece))["pixel"].astype(np.int64)
    view = np.repeat(np.arange(len(kept.counts)), kept.counts[:, 1].numpy())
    first_pixel = view * (scene.height * scene.width)
    pixels, row_of_piece = np.unique(pixel_in_view + first_pixel, return_inverse=True)
    row_of_piece = np.ascontiguousarray(row_of_piece.ravel(), dtype=np.int32)
    rows = scene.vertices.new_empty(len(pixels), tangents.parameters)
    scene, tangents = dense(scene), dense(tangents)
    call = _call(scene, kept.topology, scene.vertices.new_empty(scene.size), JACOBIAN, kept)
    call.parameters, call.row_count, call.row_of_piece = tangents.parameters, len(pixels), row_of_piece.ctypes.data
    call.rows = rows.data_ptr()
    call.d_positions, call.d_intrinsics, call.d_world_to_camera = (
        None if x is None else x.data_ptr() for x in tangents
    )
    cpu.run("coverage", rows.dtype, call)
    return torch.from_numpy(pixels), rows


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


def _call(scene: Scene, topology: EdgeTopology, alpha: Tensor, mode: int, kept: Kept | None = None) -> CoverageCall:
    """The structure of a call. alpha: (N, H, W), to be written in the forward pass."""
    call = CoverageCall.from_buffer_copy(_topology_part(topology))
    call.scene, call.mode = cpu.call_of(scene, 1.0, alpha, alpha=alpha), mode
    if kept is not None:
        call.counts, call.contours = kept.counts.data_ptr(), kept.contours.data_ptr()
        call.pieces = kept.pieces.data_ptr()
    return call


@functools.lru_cache(maxsize=KEPT)
def _topology_part(topology: EdgeTopology) -> bytes:
    """The bytes of a call in which only the fields of the topology are set."""
    call = CoverageCall(source_faces=topology.source_faces.data_ptr())
    for name in ("faces", "pair_edges", "other_edges", "other_ends", "other_faces", "other_directions"):
        setattr(call, name, getattr(topology, name).ctypes.data)
    call.group_ends, call.copies = topology.group_ends.ctypes.data, topology.copies.ctypes.data
    call.pairs, call.others = len(topology.pair_edges), len(topology.other_edges)
    call.groups = len(topology.group_ends) - 1
    return bytes(call)
