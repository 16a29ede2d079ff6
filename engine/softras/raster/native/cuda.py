"""Silhouettes by the CUDA kernels of csrc/softras_cuda.cu, on PyTorch's memory and stream; docs/cuda.md says why."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..scene import Scene, Tangents, dense
from . import cpu, driver, nvrtc
from .cuda_structures import CAMERA, CELL, THREADS, Call, JacobianCall

WARPS = 16  # the warps for each multiprocessor of the device: as many as its registers hold
PARTIALS = 128  # the largest number of blocks for each view in the kernel vertices_backward
WORK = 1 << 22  # the numbers of 8 bytes that a launch may keep beside inputs and outputs; a single view may need more


class Gpu:
    """One CUDA device and the kernels loaded on it."""

    def __init__(self, index: int) -> None:
        properties = torch.cuda.get_device_properties(index)
        self.index = index
        self.architecture = 10 * properties.major + properties.minor
        self.processors = properties.multi_processor_count
        self._modules: dict[tuple[torch.dtype, str], driver.Module] = {}

    def current(self) -> AbstractContextManager:
        """A context in which this is the device of the thread."""
        return torch.cuda.device(self.index)

    def stream(self) -> int:
        """The stream on which PyTorch queues its operators."""
        return torch.cuda.current_stream(self.index).cuda_stream

    def capturing(self) -> bool:
        """Whether launches are being recorded into a CUDA graph, during which no number can be read."""
        return torch.cuda.is_current_stream_capturing()

    def read(self, number: Tensor) -> Callable[[], int]:
        """Start to copy a number to the CPU. The function returned waits for that copy alone and returns the number."""
        copy = torch.empty(1, dtype=number.dtype, device="cpu", pin_memory=True)
        copy.copy_(number, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()

        def wait() -> int:
            copied.synchronize()
            return int(copy)

        return wait

    def module(self, dtype: torch.dtype, part: str = "silhouettes") -> driver.Module:
        """The kernels of a part of softras_cuda.cu (see nvrtc.py) for a dtype, compiled and loaded at first use."""
        if (dtype, part) not in self._modules:
            wanted = self.architecture, str(dtype).removeprefix("torch."), part
            with self.current():
                try:
                    self._modules[dtype, part] = driver.Module(nvrtc.compiled(*wanted))
                except driver.DriverError:  # what is in the cache may be for another driver
                    self._modules[dtype, part] = driver.Module(nvrtc.compiled(*wanted, anew=True))
        return self._modules[dtype, part]


@functools.cache
def gpu(index: int) -> Gpu:
    """The device of an index."""
    return Gpu(index)


@functools.cache
def failure(index: int) -> str:
    """The reason why the kernels do not run on this device; empty if they do. They are compiled and loaded to see."""
    try:
        if torch.version.hip is not None:
            return "the kernels are CUDA's, and this PyTorch is built for ROCm"
        gpu(index).module(torch.float32)
        return ""
    except (RuntimeError, OSError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        warnings.warn(f"Softras renders on the CPU, since its CUDA kernels do not start: {reason}.", stacklevel=2)
        return reason


def problem() -> str:
    """The reason why no GPU renders, as a sentence without a full stop; empty if the current GPU renders."""
    if torch.cuda.is_available():
        return failure(torch.cuda.current_device())
    if torch.version.cuda is None:
        return "this PyTorch is built for the CPU only"
    return "PyTorch finds no NVIDIA GPU or driver"


def available(device: torch.device) -> bool:
    """Whether the kernels run on this device. At the first question they are compiled and loaded."""
    return not failure(_index(device))


def silhouettes(scene: Scene, sigma: float) -> tuple[Tensor, Tensor]:
    """Alpha and transmittance (N, H, W)."""
    launcher = Launcher(scene, sigma)
    alpha = scene.vertices.new_empty(scene.size)
    transmittance = torch.empty_like(alpha)
    with launcher.gpu.current():
        status = torch.zeros(1, dtype=torch.int32, device=alpha.device)
        bad = None
        for part in launcher.parts(scene.height * scene.width):
            sums = torch.zeros_like(alpha[part], dtype=torch.int64)
            outputs = {"alpha": alpha[part], "transmittance": transmittance[part]}
            call = launcher.call(part, status=status, sums=sums, **outputs)
            launcher.launch("check", call, launcher.checks())
            if part.stop == len(alpha) and not launcher.gpu.capturing():
                bad = launcher.gpu.read(status)  # copied before drawing is queued, so that only the check is waited for
            launcher.launch("draw", call, *launcher.face_blocks(call.views, call.splits))
            launcher.launch("finish", call, -(-sums.numel() // THREADS))
        if bad is not None:
            refuse(bad())
    return alpha, transmittance


def silhouettes_backward(
    scene: Scene, sigma: float, transmittance: Tensor, grad_alpha: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera.

    They are added atomically in float64, so two runs may differ in the last bit. Under
    torch.use_deterministic_algorithms(True) they do not differ, at some cost in time and memory.
    """
    launcher = Launcher(scene, sigma)
    backward = Backward(launcher)
    transmittance, grad_alpha = transmittance.contiguous(), grad_alpha.contiguous()
    with launcher.gpu.current():
        for part in launcher.parts(backward.numbers):
            corners = CornerGradients(backward, part)
            call = corners.call(transmittance=transmittance[part], grad_alpha=grad_alpha[part])
            launcher.launch("faces_backward", call, *launcher.face_blocks(call.views, call.splits))
            corners.finish(call)
    return backward.grads


def silhouettes_jacobian(
    scene: Scene, sigma: float, transmittance: Tensor, pixels: Tensor, tangents: Tangents
) -> Tensor:
    """(M, P) rows of the Jacobian at M pixels. They are added atomically: two runs may differ in the last bits."""
    launcher, transmittance, tangents = Launcher(scene, sigma), transmittance.contiguous(), dense(tangents)
    with launcher.gpu.current():
        rows = transmittance.new_zeros(len(pixels), tangents.parameters)
        if not rows.numel():
            return rows
        row_of = torch.full(transmittance.shape, -1, dtype=torch.int32, device=rows.device)
        row_of.view(-1)[pixels] = torch.arange(len(pixels), dtype=torch.int32, device=rows.device)
        for part in launcher.parts(1):
            of_part = tangents.of_views(part, scene.shared)
            pointers = [None if x is None else x.data_ptr() for x in (row_of[part], *of_part, rows)]
            inner = launcher.call(part, transmittance=transmittance[part])
            call = JacobianCall(inner, tangents.parameters, *pointers)
            launcher.launch("jacobian", call, *launcher.face_blocks(inner.views, inner.splits))
    return rows


class Launcher:
    """A contiguous scene on a GPU, and the launches of kernels on it."""

    def __init__(self, scene: Scene, sigma: float) -> None:
        self.scene, self.sigma = dense(scene), sigma
        self.gpu = gpu(_index(scene.vertices.device))

    def call(self, part: slice, **tensors: Tensor | None) -> Call:
        """The structure that kernels take for a part of the views.

        tensors: those of these views, by the names of the structure's fields; they must outlive the kernels.
        """
        scene, count = self.scene, part.stop - part.start
        call = Call(
            views=count,
            vertices=scene.vertices.shape[-2],
            faces=len(scene.faces),
            height=scene.height,
            width=scene.width,
            shared_vertices=scene.shared,
            wide_indices=scene.faces.dtype == torch.int64,
            cull=scene.cull,
            splits=self._splits(count),
            sigma=self.sigma,
            positions=(scene.vertices if scene.shared else scene.vertices[part]).data_ptr(),
            face_indices=scene.faces.data_ptr(),
            intrinsics=scene.K[part].data_ptr(),
            world_to_camera=scene.world_to_camera[part].data_ptr(),
            orthographic=scene.orthographic[part].data_ptr(),
            near_planes=scene.near[part].data_ptr(),
        )
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call

    def launch(
        self, name: str, call: ctypes.Structure, x: int, y: int = 1, z: int = 1, part: str = "silhouettes"
    ) -> None:
        """Queue a kernel of a part of softras_cuda.cu on a grid of x, y and z blocks."""
        if x and y and z:
            dtype = self.scene.vertices.dtype
            kernel = f"softras_{name}_{str(dtype).removeprefix('torch.')}"
            self.gpu.module(dtype, part).launch(kernel, (x, y, z), THREADS, self.gpu.stream(), call)

    def parts(self, numbers: int, most: int | None = None) -> Iterator[slice]:
        """Divide the views into parts, mostly one, with at most `most` numbers each if a view needs `numbers`.

        most: WORK, unless given.
        """
        views, most = len(self.scene.K), WORK if most is None else most
        step = min(max(1, most // max(1, numbers)), 65535)  # the largest size of a grid in y and z
        for start in range(0, views, step):
            yield slice(start, min(start + step, views))

    def checks(self) -> int:
        """The number of blocks of the kernel that checks the inputs."""
        most = max(self.scene.vertices.numel(), self.scene.faces.numel(), 12 * len(self.scene.K))
        return min(-(-most // THREADS), 8 * self.gpu.processors)

    def face_blocks(self, count: int, splits: int) -> tuple[int, int, int]:
        """The grid of the kernels in which each warp has 32 faces of a view."""
        return -(-len(self.scene.faces) // THREADS), splits, count

    def _splits(self, count: int) -> int:
        """The number of warps that share the cells of the same faces, so that few faces fill the device too."""
        warps = -(-len(self.scene.faces) // 32) * count
        cells = -(-self.scene.height // CELL) * -(-self.scene.width // CELL)
        return max(1, min(WARPS * self.gpu.processors // max(1, warps), cells, 65535))


class Backward:
    """The backward pass of one scene.

    grads: the gradients to vertices, K and world_to_camera, which the kernels write.
    deterministic: whether kernels that add gradients of faces are to store them, so that sums have the same bits in
        every run.
    numbers: how many numbers of 8 bytes `CornerGradients` holds for each view.
    """

    def __init__(self, launcher: Launcher, *, of_faces: bool = True) -> None:
        self.launcher, scene = launcher, launcher.scene
        self.grads = scene.empty_gradients()
        self.deterministic = of_faces and torch.are_deterministic_algorithms_enabled()
        self.numbers = 5 * scene.vertices.shape[-2] + (21 * len(scene.faces) if self.deterministic else 0)
        if not len(scene.K):
            self.grads[0].zero_()


class CornerGradients:
    """The gradients of faces' corners in a part of the views, which become those of vertices and cameras."""

    def __init__(self, backward: Backward, part: slice) -> None:
        self._backward, self._part = backward, part
        scene, count = backward.launcher.scene, part.stop - part.start
        V, F = scene.vertices.shape[-2], len(scene.faces)
        zeros = torch.zeros(count * (5 * V + 6), dtype=torch.float64, device=scene.vertices.device)
        self._pixel, self._point, self._clipped = zeros.split([2 * count * V, 3 * count * V, 6 * count])
        self._corner = zeros.new_zeros(count, F, 21) if backward.deterministic else None
        self._partial = zeros.new_empty(count, min(-(-V // THREADS), PARTIALS), CAMERA)

    def call(self, **tensors: Tensor | None) -> Call:
        """The structure that kernels take which add gradients of corners. tensors: as in `Launcher.call`."""
        part, shared = self._part, self._backward.launcher.scene.shared
        of_vertices, of_K, of_pose = self._backward.grads
        call = self._backward.launcher.call(
            part,
            **tensors,
            pixel_gradients=self._pixel,
            point_gradients=self._point,
            clipped_intrinsics=self._clipped,
            corner_gradients=self._corner,
            partial_gradients=self._partial,
            grad_positions=of_vertices if shared else of_vertices[part],
            grad_intrinsics=of_K[part],
            grad_world_to_camera=of_pose[part],
        )
        call.partials, call.add = self._partial.shape[1], shared and part.start > 0
        if self._backward.deterministic:
            call.splits = 1
        return call

    def add(self, vertices: Tensor, points: Tensor, views: Tensor, intrinsics: Tensor) -> None:
        """Add gradients to those of vertices and cameras, in a fixed order if PyTorch is asked for one.

        points: (M, 3) to the camera-space points of vertices (M,), counted in all of these views. intrinsics: (C, 6) to
        rows 0 and 1 of the K of views (C,).
        """
        self._point.view(-1, 3).index_add_(0, vertices, points)
        self._clipped.view(-1, 6).index_add_(0, views, intrinsics)

    def finish(self, call: Call) -> None:
        """Queue the kernels that add the gradients of corners to those of vertices and cameras."""
        launcher, count, V = self._backward.launcher, call.views, call.vertices
        if self._corner is not None:
            pixel, point = self._pixel.view(count, V, 2), self._point.view(count, V, 3)
            _add_corners(launcher.scene.faces, self._corner, pixel, point, self._clipped)
        launcher.launch("vertices_backward", call, call.partials, count)
        launcher.launch("sum_gradients", call, count + -(-3 * V * (1 if call.shared_vertices else count) // THREADS))


def _add_corners(faces: Tensor, corner: Tensor, pixel: Tensor, point: Tensor, clipped: Tensor) -> None:
    """Add gradients of corners (n, F, 21) to those of vertices and cameras in a fixed order; see csrc/cuda_faces.h."""
    count = len(corner)
    index = faces.flatten()
    pixel.index_add_(1, index, corner[..., :6].reshape(count, -1, 2))
    point.index_add_(1, index, corner[..., 6:15].reshape(count, -1, 3))
    clipped.copy_(corner[..., 15:].sum(1).flatten())


def refuse(status: int) -> None:
    """Raise the error that the lowest bit of the kernels' status means; 0 is success."""
    for code, (kind, message) in cpu.STATUS.items():
        if status >> code & 1:
            raise kind(message)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
