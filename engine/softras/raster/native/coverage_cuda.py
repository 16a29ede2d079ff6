"""Exact coverage by the CUDA kernels of csrc/cuda_coverage.h; docs/cuda.md says why."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..coverage.topology import KEPT, EdgeTopology, remembered, renewed
from ..scene import Scene, Tangents, dense
from . import cuda
from .coverage_cpu import warn_of_samples
from .cuda_structures import END_GRADIENT, SAMPLES, SHARE, THREADS, CoverageCall
from .structures import BAND, STALE_TOPOLOGY, Contour

MOST = 256  # contour edges of a row that are compared with each other; bands of rows with more are measured by samples


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """The contours of all views, which the derivatives need."""

    topology: dict[str, Tensor]  # as _on_device gives it
    parts: list[_Contours]


def coverage(scene: Scene, keep: bool, warn: bool = True) -> tuple[Tensor, Kept | None]:
    """Alpha (N, H, W), with the same bits in every run, and with keep the contours, which the derivatives need.

    warn: whether a RuntimeWarning says that pixels were sampled.
    """
    launcher = cuda.Launcher(scene, 1.0)
    alpha = launcher.scene.vertices.new_empty(scene.size)
    topology, parts = _drawn(launcher, lambda part: part.draw(launcher, alpha[part.views]))
    if warn:
        warn_of_samples(sum(part.sampled_bands for part in parts))
    return alpha, Kept(_on_device(topology, alpha.device), parts) if keep else None


def coverage_centres(scene: Scene) -> Tensor:
    """(N, H, W) bool, whether a face covers the pixel's centre."""
    launcher = cuda.Launcher(scene, 1.0)
    covered = launcher.scene.vertices.new_empty(scene.size, dtype=torch.bool)
    _drawn(launcher, lambda part: part.draw_centres(launcher, covered[part.views]))
    return covered


def coverage_backward(
    scene: Scene, kept: Kept, grad_alpha: Tensor, wanted: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients to vertices, K and world_to_camera, or None for those that are not wanted.

    For the bits of the gradient to vertices see cuda.silhouettes_backward.
    """
    launcher, grad_alpha = cuda.Launcher(scene, 1.0), grad_alpha.contiguous()
    backward = cuda.Backward(launcher, of_faces=False)
    with launcher.gpu.current():
        for part in kept.parts:
            part.add_gradients(backward, grad_alpha)
        # Of coincident vertices, faces name the first alone, which has the gradient of the whole group.
        if len(kept.topology["copies"]):
            each = backward.grads[0].index_select(-2, kept.topology["firsts"]) / kept.topology["sizes"][:, None]
            backward.grads[0].index_copy_(-2, kept.topology["copies"].long(), each.to(grad_alpha.dtype))
    grads = [grad if want else None for grad, want in zip(backward.grads, wanted, strict=True)]
    return grads[0], grads[1], grads[2]


def coverage_jacobian(scene: Scene, kept: Kept, tangents: Tangents) -> tuple[Tensor, Tensor]:
    """The pixels (M,) on the outline, ascending, and the rows (M, P) of their Jacobian.

    The rows are added up atomically: two runs may differ in their last bits.
    """
    launcher, tangents = cuda.Launcher(scene, 1.0), dense(tangents)
    with launcher.gpu.current():
        marks = scene.vertices.new_zeros(scene.size, dtype=torch.uint8)
        for part in kept.parts:
            part.mark(launcher, marks)
        pixels = marks.view(-1).nonzero()[:, 0]
        rows = scene.vertices.new_zeros(len(pixels), tangents.parameters)
        row_of = torch.empty_like(marks, dtype=torch.int32)
        row_of.view(-1)[pixels] = torch.arange(len(pixels), dtype=torch.int32, device=rows.device)
        for part in kept.parts if rows.numel() else []:
            part.add_rows(launcher, tangents, row_of, rows)
    return pixels, rows


def _drawn(launcher: cuda.Launcher, draw: Callable[[_Contours], None]) -> tuple[EdgeTopology, list[_Contours]]:
    """Draw all views. Returns the topology of the scene's faces, and the contours of each part of the views."""
    scene, parts = launcher.scene, []
    topology = remembered(scene.faces, scene.vertices)
    edges = len(topology.pair_faces) + len(topology.other_edges)
    numbers = 3 * scene.vertices.shape[-2] + edges + len(scene.faces) + 2 * scene.height * (scene.width + 1)
    with launcher.gpu.current():
        waiting = list(launcher.parts(numbers))
        while waiting:
            part = _Contours(topology, waiting[0])
            if part.find(launcher):
                draw(part)
                parts.append(part)
                waiting.pop(0)
            else:  # the topology is stale: all views are drawn anew
                topology = renewed(scene.faces, scene.vertices, topology)
                waiting, parts = [*(part.views for part in parts), *waiting], []
    return topology, parts


class _Contours:
    """The contours of a part of the views, and the kernels that find and use them.

    sampled_bands: how many bands of rows are measured by samples.
    """

    def __init__(self, topology: EdgeTopology, views: slice) -> None:
        self.views, self.sampled_bands = views, 0
        self._topology = topology
        self._call = CoverageCall()
        self._tensors: dict[str, Tensor] = {}  # those whose addresses the call holds

    def find(self, launcher: cuda.Launcher) -> bool:
        """Find the contour edges, and list those of each row. False: the topology is stale."""
        scene, call, topology = launcher.scene, self._call, self._topology
        like, n, faces = scene.vertices, self.views.stop - self.views.start, len(scene.faces)
        call.pairs, call.others = len(topology.pair_faces), len(topology.other_edges)
        call.coincident, call.bands = len(topology.copies), -(-scene.height // BAND)
        edges, corners = call.pairs + call.others, like.shape[-2]
        status = like.new_zeros(1, dtype=torch.int32)
        call.scene = launcher.call(self.views, status=status)
        self._set(**{name: x for name, x in _on_device(topology, like.device).items() if name != "sizes"})
        self._set(
            pixels=like.new_empty(n, corners, 2, dtype=torch.float64),
            front=like.new_empty(n, corners, dtype=torch.uint8),
            signs=like.new_empty(n, faces, dtype=torch.int8),
            windings=like.new_empty(n, edges + faces, dtype=torch.int32),
        )
        launcher.launch("check", call.scene, launcher.checks())
        self._launch(launcher, "known", launcher.checks() * THREADS)
        read = launcher.gpu.read(status)
        self._launch(launcher, "project_vertices", corners, n)
        self._launch(launcher, "face_signs", faces, n)
        self._launch(launcher, "edge_windings", edges, n)
        found = self._tensors["windings"].nonzero().contiguous()
        bad = read()
        cuda.refuse(bad & ~(1 << STALE_TOPOLOGY))
        if bad:
            return False
        call.count = len(found)
        counts = like.new_zeros(n, call.bands, BAND, dtype=torch.int32)
        self._set(
            found=found, contours=like.new_empty(len(found), ctypes.sizeof(Contour), dtype=torch.uint8), counts=counts
        )
        self._launch(launcher, "make_contours", len(found))
        self._drop("pixels", "front", "signs", "windings")
        self._list_rows(launcher, counts)
        return True

    def _list_rows(self, launcher: cuda.Launcher, counts: Tensor) -> None:
        """List the contour edges in each row, except in the bands that are measured by samples."""
        sampled = counts.amax(2) > MOST
        begins = counts.new_zeros(counts.numel() + 1, dtype=torch.int64)
        torch.cumsum(counts.masked_fill(sampled[..., None], 0).flatten(), 0, out=begins[1:])
        entries, self.sampled_bands = torch.stack((begins[-1], sampled.sum())).tolist()
        self._set(sampled=sampled, begins=begins, in_row=counts.new_empty(entries))
        self._launch(launcher, "list_rows", self._threads)
        self._drop("counts")

    def draw(self, launcher: cuda.Launcher, alpha: Tensor) -> None:
        """Draw the images of these views."""
        n, height, width = alpha.shape
        self._call.scene = launcher.call(self.views, alpha=alpha)
        self._set(areas=alpha.new_zeros(n, height, width + 1, dtype=torch.int64))
        self._launch(launcher, "sweep", self._threads)
        if self.sampled_bands:
            self._sample(launcher, self._tensors["sampled"], width)
        self._launch(launcher, "finish_coverage", 32 * n * height)
        if not self.sampled_bands:
            self._drop("areas")  # of which derivatives need the samples alone

    def draw_centres(self, launcher: cuda.Launcher, covered: Tensor) -> None:
        """Find the pixels of these views whose centres are covered: one sample each. covered: bool, to be written."""
        call, (n, height, width) = self._call, covered.shape
        call.scene, rows = launcher.call(self.views), n * call.bands * BAND
        changes = torch.zeros(n, call.bands * BAND, width, dtype=torch.int32, device=covered.device)
        slots = torch.arange(rows, dtype=torch.int32, device=covered.device)
        self._set(slot_of_row=slots, changes=changes)
        call.first_slot, call.slots, call.lines = 0, rows, 1
        self._launch(launcher, "add_changes", self._threads)
        covered.copy_(changes[:, :height].cumsum(2) != 0)
        self._drop("slot_of_row", "changes")

    def _sample(self, launcher: cuda.Launcher, bands: Tensor, width: int) -> None:
        """Draw the rows that are measured by samples, in as many calls as their memory takes."""
        sampled = bands.flatten().repeat_interleave(BAND)
        rows = sampled.nonzero()[:, 0]
        slot_of_row = torch.full_like(sampled, -1, dtype=torch.int32)
        slot_of_row[rows] = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        self._set(slot_of_row=slot_of_row, sampled_rows=rows)
        step = max(1, 2 * cuda.WORK // (SAMPLES * SAMPLES * width))
        for first in range(0, len(rows), step):
            self._call.first_slot, self._call.slots, self._call.lines = first, min(step, len(rows) - first), SAMPLES
            self._set(changes=rows.new_zeros(self._call.slots, SAMPLES, SAMPLES * width, dtype=torch.int32))
            self._launch(launcher, "add_changes", self._threads)
            self._launch(launcher, "draw_samples", 32 * self._call.slots)
        self._drop("slot_of_row", "sampled_rows", "changes")

    def add_gradients(self, backward: cuda.Backward, grad_alpha: Tensor) -> None:
        """Add the gradients of these views to those of the backward pass."""
        corners = cuda.CornerGradients(backward, self.views)
        inner = corners.call(grad_alpha=grad_alpha[self.views])
        if self._call.count:
            self._call.scene, found = inner, self._tensors["found"]
            by_end = torch.empty(len(found), 2, END_GRADIENT, dtype=torch.float64, device=found.device)
            vertices = found.new_empty(len(found), 2, 2)
            self._set(end_gradients=by_end, end_vertices=vertices)
            self._launch(backward.launcher, "outline_backward", self._threads)
            corners.add(vertices.flatten(), by_end[..., :6].reshape(-1, 3), found[:, 0], by_end[..., 6:].sum(1))
            self._drop("end_gradients", "end_vertices")
        corners.finish(inner)

    def mark(self, launcher: cuda.Launcher, marks: Tensor) -> None:
        """Set to 1 the pixels of these views that are on the outline. marks: of all views, (N, H, W)."""
        self._call.scene = launcher.call(self.views)
        self._set(on_outline=marks[self.views])
        self._launch(launcher, "mark_outline", self._threads)
        self._drop("on_outline")

    def add_rows(self, launcher: cuda.Launcher, tangents: Tangents, row_of: Tensor, rows: Tensor) -> None:
        """Add the pieces of the outline in these views to the rows of the Jacobian.

        row_of: (N, H, W) int32, of all views, the row of each pixel on the outline.
        """
        call, parameters = self._call, tangents.parameters
        call.scene, call.parameters = launcher.call(self.views), parameters
        of_views = tangents.of_views(self.views, launcher.scene.shared)
        given = dict(zip(("d_positions", "d_intrinsics", "d_world_to_camera"), of_views, strict=True))
        self._set(row_of=row_of[self.views], rows=rows, **{name: x for name, x in given.items() if x is not None})
        step = max(1, cuda.WORK // max(1, 2 * call.count))
        for first in range(0, parameters, step):
            call.first_parameter, call.block = first, min(step, parameters - first)
            motions = torch.empty(call.count, 2, call.block, dtype=torch.float64, device=rows.device)
            self._set(motions=motions)
            self._launch(launcher, "move_ends", call.count * call.block)
            self._launch(launcher, "add_pieces", self._threads)
        self._drop("row_of", "rows", "motions", *(name for name in given if name in self._tensors))

    @property
    def _threads(self) -> int:
        """The threads of a kernel in which SHARE of them take the rows of a contour edge."""
        return SHARE * self._call.count

    def _launch(self, launcher: cuda.Launcher, name: str, threads: int, y: int = 1) -> None:
        launcher.launch(name, self._call, -(-threads // THREADS), y, part="coverage")

    def _set(self, **tensors: Tensor) -> None:
        """Give the call tensors, by the names of its fields, and keep them as long as it has them."""
        self._tensors |= tensors
        for name, tensor in tensors.items():
            setattr(self._call, name, tensor.data_ptr())

    def _drop(self, *names: str) -> None:
        """Take tensors from the call."""
        for name in names:
            del self._tensors[name]
            setattr(self._call, name, None)


@functools.lru_cache(maxsize=KEPT)
def _on_device(topology: EdgeTopology, device: torch.device) -> dict[str, Tensor]:
    """The arrays of a topology on a device, by the names that `CoverageCall` has for them.

    Beside each vertex that belongs to a group, `firsts` has the first one of the group, and `sizes`, which is not in
    the call, how many they are.
    """
    sizes = np.diff(topology.group_ends)
    arrays = {
        name: getattr(topology, name)
        for name in ("faces", "pair_faces", "pair_vertices", "other_edges", "other_ends", "other_faces")
    }
    arrays |= {
        "other_directions": topology.other_directions,
        "copies": topology.copies,
        "firsts": np.repeat(topology.copies[topology.group_ends[:-1]], sizes),
        "sizes": np.repeat(sizes, sizes),
    }
    on_device = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return {"source_faces": topology.source_faces.to(device)} | on_device
