"""The CUDA backend: the kernels of csrc/softras_cuda.cu on torch's memory and stream. docs/cuda.md has the why."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from . import cpu, driver, nvrtc
from .cuda_structures import CAMERA, CELL, THREADS, Call, JacobianCall

WARPS = 16  # a multiprocessor should be given: what the registers let it hold; more would only set up more faces
PARTIALS = 128  # most blocks a view in vertices_backward
WORK = 1 << 22  # numbers of 8 bytes that one launch keeps beside its inputs and outputs, unless one view needs more


class Gpu:
    """One CUDA device and the kernels loaded on it."""

    def __init__(self, index: int) -> None:
        properties = torch.cuda.get_device_properties(index)
        self.index = index
        self.architecture = 10 * properties.major + properties.minor
        self.processors = properties.multi_processor_count
        self._modules: dict[tuple[torch.dtype, str], driver.Module] = {}

    def current(self) -> AbstractContextManager:
        """Makes this the thread's device."""
        return torch.cuda.device(self.index)

    def stream(self) -> int:
        """The one that torch's operators are queued on."""
        return torch.cuda.current_stream(self.index).cuda_stream

    def capturing(self) -> bool:
        """Whether launches are recorded into a CUDA graph, so that nothing can be read."""
        return torch.cuda.is_current_stream_capturing()

    def read(self, number: Tensor) -> Callable[[], int]:
        """Start to copy a number to the CPU; the function returned waits for that alone and gives it."""
        copy = torch.empty(1, dtype=number.dtype, device="cpu", pin_memory=True)
        copy.copy_(number, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()

        def wait() -> int:
            copied.synchronize()
            return int(copy)

        return wait

    def module(self, dtype: torch.dtype, part: str = "silhouettes") -> driver.Module:
        """The kernels of a part of softras_cuda.cu for this scalar type, compiled and loaded at first use."""
        if (dtype, part) not in self._modules:
            wanted = self.architecture, str(dtype).removeprefix("torch."), part
            with self.current():
                try:
                    self._modules[dtype, part] = driver.Module(nvrtc.compiled(*wanted))
                except driver.DriverError:  # the cache's may be of another driver
                    self._modules[dtype, part] = driver.Module(nvrtc.compiled(*wanted, anew=True))
        return self._modules[dtype, part]


@functools.cache
def gpu(index: int) -> Gpu:
    """The device of that index."""
    return Gpu(index)


@functools.cache
def failure(index: int) -> str:
    """Why the kernels do not run on this device; empty if they do. Compiles and loads them at first use."""
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
    """Why no GPU renders here, in one sentence without a full stop; empty if the current one does."""
    if torch.cuda.is_available():
        return failure(torch.cuda.current_device())
    if torch.version.cuda is None:
        return "this PyTorch is built for the CPU only"
    return "PyTorch finds no NVIDIA GPU or driver"


def available(device: torch.device) -> bool:
    """Whether the kernels run on this device; the first time, they are compiled and loaded."""
    return not failure(_index(device))


def silhouettes(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> tuple[Tensor, Tensor]:
    """Alpha and transmittance; arguments as :func:`softras.raster.silhouettes.ops.silhouettes`, checked there."""
    scene = Scene(vertices, faces, K, world_to_camera, orthographic, near, sigma, cull, height, width)
    alpha = scene.vertices.new_empty(scene.views, height, width)
    transmittance = torch.empty_like(alpha)
    with scene.gpu.current():
        status = torch.zeros(1, dtype=torch.int32, device=vertices.device)
        bad = None
        for part in scene.parts(height * width):
            count = part.stop - part.start
            sums = torch.zeros(count, height, width, dtype=torch.int64, device=vertices.device)
            outputs = {"alpha": alpha[part], "transmittance": transmittance[part]}
            call = scene.call(part, status=status, sums=sums, **outputs)
            scene.launch("check", call, scene.checks())
            if part.stop == scene.views and not scene.gpu.capturing():
                bad = scene.gpu.read(status)  # what is drawn below need not be waited for
            scene.launch("draw", call, *scene.face_blocks(count, call.splits))
            scene.launch("finish", call, -(-sums.numel() // THREADS))
        if bad is not None:
            refuse(bad())
    return alpha, transmittance


def silhouettes_backward(
    grad_alpha: Tensor,
    transmittance: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera.

    Atomic additions in float64, so two runs may differ in the last bit; under
    torch.use_deterministic_algorithms(True) they do not, at some cost in time and memory.
    """
    height, width = transmittance.shape[1:]
    scene = Scene(vertices, faces, K, world_to_camera, orthographic, near, sigma, cull, height, width)
    backward, grad_alpha = Backward(scene), grad_alpha.contiguous()
    with scene.gpu.current():
        for part in scene.parts(backward.numbers):
            call = backward.call(part, transmittance=transmittance[part], grad_alpha=grad_alpha[part])
            scene.launch("faces_backward", call, *scene.face_blocks(call.views, call.splits))
            backward.finish(call)
    return backward.grads


def silhouettes_jacobian(
    transmittance: Tensor,
    pixels: Tensor,
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    sigma: float,
    orthographic: Tensor,
    near: Tensor,
    cull: bool,
    parameters: int,
    d_vertices: Tensor | None,
    d_K: Tensor | None,
    d_world_to_camera: Tensor | None,
) -> Tensor:
    """Rows of the Jacobian. Atomic additions, so two runs may differ in the last bits."""
    height, width = transmittance.shape[1:]
    scene = Scene(vertices, faces, K, world_to_camera, orthographic, near, sigma, cull, height, width)
    d_vertices, d_K, d_world_to_camera = (
        None if x is None else x.contiguous() for x in (d_vertices, d_K, d_world_to_camera)
    )
    with scene.gpu.current():
        rows = vertices.new_zeros(len(pixels), parameters)
        if not rows.numel():
            return rows
        row_of = torch.full(transmittance.shape, -1, dtype=torch.int32, device=vertices.device)
        row_of.view(-1)[pixels] = torch.arange(len(pixels), dtype=torch.int32, device=vertices.device)
        for part in scene.parts(1):
            moves = [
                d_vertices if d_vertices is None or vertices.dim() == 2 else d_vertices[part],
                None if d_K is None else d_K[part],
                None if d_world_to_camera is None else d_world_to_camera[part],
            ]
            tensors = (row_of[part], *moves, rows)
            pointers = [None if x is None else x.data_ptr() for x in tensors]
            inner = scene.call(part, transmittance=transmittance[part])
            call = JacobianCall(inner, parameters, *pointers)
            scene.launch("jacobian", call, *scene.face_blocks(part.stop - part.start, inner.splits))
    return rows


class Scene:
    """The inputs of a call, dense, and how to launch kernels on them."""

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        K: Tensor,
        world_to_camera: Tensor,
        orthographic: Tensor,
        near: Tensor,
        sigma: float,
        cull: bool,
        height: int,
        width: int,
    ) -> None:
        inputs = (vertices, faces, K, world_to_camera, orthographic, near)
        self.vertices, self.faces, self.K, self.world_to_camera, self.orthographic, self.near = (
            x.contiguous() for x in inputs
        )
        self.views, self.sigma, self.cull, self.height, self.width = len(K), sigma, cull, height, width
        self.gpu = gpu(_index(vertices.device))

    def call(self, part: slice, **tensors: Tensor | None) -> Call:
        """The argument of the kernels for some of the views; `tensors` are of these views, and must stay alive."""
        shared = self.vertices.dim() == 2
        count = part.stop - part.start
        call = Call(
            views=count,
            vertices=self.vertices.shape[-2],
            faces=len(self.faces),
            height=self.height,
            width=self.width,
            shared_vertices=shared,
            wide_indices=self.faces.dtype == torch.int64,
            cull=self.cull,
            splits=self._splits(count),
            sigma=self.sigma,
            positions=(self.vertices if shared else self.vertices[part]).data_ptr(),
            face_indices=self.faces.data_ptr(),
            intrinsics=self.K[part].data_ptr(),
            world_to_camera=self.world_to_camera[part].data_ptr(),
            orthographic=self.orthographic[part].data_ptr(),
            near_planes=self.near[part].data_ptr(),
        )
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        return call

    def launch(
        self, name: str, call: ctypes.Structure, x: int, y: int = 1, z: int = 1, part: str = "silhouettes"
    ) -> None:
        """Queue a kernel of that part of softras_cuda.cu."""
        if x and y and z:
            dtype = self.vertices.dtype
            kernel = f"softras_{name}_{str(dtype).removeprefix('torch.')}"
            self.gpu.module(dtype, part).launch(kernel, (x, y, z), THREADS, self.gpu.stream(), call)

    def parts(self, numbers: int, most: int = WORK) -> Iterator[slice]:
        """The views in parts for which `numbers` a view fit into `most`; mostly one part."""
        step = min(max(1, most // max(1, numbers)), 65535)  # the most blocks of a grid in y and z
        for start in range(0, self.views, step):
            yield slice(start, min(start + step, self.views))

    def checks(self) -> int:
        """Blocks that look at the inputs."""
        most = max(self.vertices.numel(), self.faces.numel(), 12 * self.views)
        return min(-(-most // THREADS), 8 * self.gpu.processors)

    def face_blocks(self, count: int, splits: int) -> tuple[int, int, int]:
        """The grid of the kernels that give a warp 32 faces of a view."""
        return -(-len(self.faces) // THREADS), splits, count

    def _splits(self, count: int) -> int:
        """Warps that share the cells of the same faces, so that few faces fill the device too."""
        warps = -(-len(self.faces) // 32) * count
        cells = -(-self.height // CELL) * -(-self.width // CELL)
        return max(1, min(WARPS * self.gpu.processors // max(1, warps), cells, 65535))


class Backward:
    """The way from gradients of faces' corners to `grads`, those of vertices, K and world_to_camera.

    numbers: of 8 bytes, what it keeps for a view.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        of = scene.vertices, scene.K, scene.world_to_camera
        self.grads = torch.empty_like(of[0]), torch.empty_like(of[1]), torch.empty_like(of[2])
        self._fixed = torch.are_deterministic_algorithms_enabled()
        self.numbers = 5 * scene.vertices.shape[-2] + (21 * len(scene.faces) if self._fixed else 0)
        if scene.views == 0:
            self.grads[0].zero_()

    def call(self, part: slice, **tensors: Tensor | None) -> Call:
        """The argument of the kernels that add gradients of corners."""
        grads, scene, count = self.grads, self.scene, part.stop - part.start
        V, F, shared = scene.vertices.shape[-2], len(scene.faces), scene.vertices.dim() == 2
        zeros = torch.zeros(count * (5 * V + 6), dtype=torch.float64, device=scene.vertices.device)
        self._pixel, self._point, self._clipped = zeros.split([2 * count * V, 3 * count * V, 6 * count])
        self._corner = zeros.new_zeros(count, F, 21) if self._fixed else None
        self._partial = zeros.new_empty(count, min(-(-V // THREADS), PARTIALS), CAMERA)
        call = scene.call(
            part,
            **tensors,
            pixel_gradients=self._pixel,
            point_gradients=self._point,
            clipped_intrinsics=self._clipped,
            corner_gradients=self._corner,
            partial_gradients=self._partial,
            grad_positions=grads[0] if shared else grads[0][part],
            grad_intrinsics=grads[1][part],
            grad_world_to_camera=grads[2][part],
        )
        call.partials, call.add = self._partial.shape[1], shared and part.start > 0
        if self._fixed:
            call.splits = 1
        return call

    def finish(self, call: Call) -> None:
        """From there to `grads`."""
        scene, count, V = self.scene, call.views, call.vertices
        if self._corner is not None:
            pixel, point = self._pixel.view(count, V, 2), self._point.view(count, V, 3)
            _add_corners(scene.faces, self._corner, pixel, point, self._clipped)
        scene.launch("vertices_backward", call, call.partials, count)
        scene.launch("sum_gradients", call, count + -(-3 * V * (1 if call.shared_vertices else count) // THREADS))


def _add_corners(faces: Tensor, corner: Tensor, pixel: Tensor, point: Tensor, clipped: Tensor) -> None:
    """What the kernel otherwise adds atomically, in a fixed order: (n, F, 21) gradients of corners, see Call."""
    count = len(corner)
    index = faces.flatten()
    pixel.index_add_(1, index, corner[..., :6].reshape(count, -1, 2))
    point.index_add_(1, index, corner[..., 6:15].reshape(count, -1, 3))
    clipped.copy_(corner[..., 15:].sum(1).flatten())


def refuse(status: int) -> None:
    """Raise what the bits that the kernels have set mean."""
    for code, (kind, message) in cpu.STATUS.items():
        if status >> code & 1:
            raise kind(message)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
