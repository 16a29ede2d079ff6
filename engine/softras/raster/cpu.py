"""The native CPU backend: the C ABI of csrc/softras.h through ctypes."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

STATUS = {  # what softras.h's SOFTRAS_BAD_... mean; the CUDA kernels' bits too
    1: (ValueError, "vertices holds NaN or infinite numbers"),
    2: (ValueError, "K holds NaN or infinite numbers"),
    3: (ValueError, "world_to_camera holds NaN or infinite numbers"),
    4: (ValueError, "faces name vertices that do not exist"),
    5: (MemoryError, "not enough memory to render; use fewer views at once or a smaller image"),
}


class _Call(ctypes.Structure):
    """`softras_call` of csrc/softras.h."""

    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("views", "vertices", "faces", "height", "width", "threads")],
        *[(name, ctypes.c_int32) for name in ("shared_vertices", "wide_indices", "cull")],
        ("sigma", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in ("positions", "face_indices", "intrinsics", "world_to_camera")],
        *[(name, ctypes.c_void_p) for name in ("orthographic", "near_planes", "alpha", "transmittance")],
        *[
            (name, ctypes.c_void_p)
            for name in ("grad_alpha", "grad_positions", "grad_intrinsics", "grad_world_to_camera")
        ],
    ]


def library_path() -> Path:
    """Where the library of this machine belongs (it may not be there)."""
    machine = platform.machine().lower()
    x86 = machine in ("x86_64", "amd64")
    arm = {"Linux": "aarch64", "Windows": "arm64", "Darwin": "arm64"}.get(platform.system(), machine)
    names = {"Linux": "softras-linux-{}.so", "Windows": "softras-windows-{}.dll", "Darwin": "softras-macos-{}.dylib"}
    name = names.get(platform.system(), "softras-{}.so").format("x86_64" if x86 else arm)
    return Path(__file__).resolve().parent.parent / "_native" / name


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    path = library_path()
    if not path.is_file():
        return None, f"there is no native library for this machine ({path.name})"
    try:
        library = ctypes.CDLL(str(path))
        library.softras_instruction_set.restype = ctypes.c_char_p
        library.softras_silhouettes_float32.argtypes = [ctypes.POINTER(_Call)]
        library.softras_silhouettes_float64.argtypes = [ctypes.POINTER(_Call)]
        return library, library.softras_instruction_set().decode()
    except (OSError, AttributeError) as error:
        return None, f"the native library {path.name} does not load: {error}"


_AVAILABLE = _load()[0] is not None  # a constant, which torch.compile can look at


def available() -> bool:
    """Whether the native library loads here."""
    return _AVAILABLE


def description() -> str:
    """The instruction set in use, or why there is no native library."""
    return _load()[1]


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
    """Alpha and transmittance; arguments as :func:`softras.raster.ops.silhouettes`, checked there."""
    alpha = vertices.new_empty(K.shape[0], height, width)
    transmittance = torch.empty_like(alpha)
    inputs = (vertices, faces, K, world_to_camera, orthographic, near)
    _run(*inputs, sigma, cull, alpha=alpha, transmittance=transmittance)
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
    """Gradients to vertices, K and world_to_camera."""
    dense = torch.contiguous_format
    grads = [torch.empty_like(x, memory_format=dense) for x in (vertices, K, world_to_camera)]
    inputs = (vertices, faces, K, world_to_camera, orthographic, near)
    _run(*inputs, sigma, cull, transmittance=transmittance, grad_alpha=grad_alpha.contiguous(), grads=grads)
    return grads[0], grads[1], grads[2]


def _run(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    orthographic: Tensor,
    near: Tensor,
    sigma: float,
    cull: bool,
    *,
    transmittance: Tensor,
    alpha: Tensor | None = None,
    grad_alpha: Tensor | None = None,
    grads: Sequence[Tensor] = (),
) -> None:
    library = _load()[0]
    assert library is not None
    if vertices.dtype == torch.float32:
        function = library.softras_silhouettes_float32
    else:
        function = library.softras_silhouettes_float64
    inputs = [x.contiguous() for x in (vertices, faces, K, world_to_camera, orthographic, near)]  # alive until the end
    views, height, width = transmittance.shape
    call = _Call(
        views,
        vertices.shape[-2],
        faces.shape[0],
        height,
        width,
        torch.get_num_threads(),
        vertices.dim() == 2,
        faces.dtype == torch.int64,
        cull,
        sigma,
        *[x.data_ptr() for x in inputs],
        None if alpha is None else alpha.data_ptr(),
        transmittance.data_ptr(),
        None if grad_alpha is None else grad_alpha.data_ptr(),
        *[x.data_ptr() for x in grads],
    )
    status = function(ctypes.byref(call))
    if status:
        kind, message = STATUS[status]
        raise kind(message)
