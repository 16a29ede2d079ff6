"""The native CPU backend: the C ABI of csrc/softras.h through ctypes."""

from __future__ import annotations

import ctypes
import functools
import platform
from pathlib import Path

import torch
from torch import Tensor

_STATUS = {
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
        *[(name, ctypes.c_void_p) for name in ("orthographic", "near_planes", "alpha", "grad_alpha")],
        *[(name, ctypes.c_void_p) for name in ("grad_positions", "grad_intrinsics", "grad_world_to_camera")],
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


def available() -> bool:
    """Whether the native library loads here."""
    return _load()[0] is not None


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
) -> Tensor:
    """The forward pass; arguments as :func:`softras.raster.ops.silhouettes`, checked there."""
    alpha = vertices.new_empty(K.shape[0], height, width)
    _run(vertices, faces, K, world_to_camera, sigma, orthographic, near, cull, alpha=alpha)
    return alpha


def silhouettes_backward(
    grad_alpha: Tensor,
    alpha: Tensor,
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
    grads = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (vertices, K, world_to_camera))
    _run(vertices, faces, K, world_to_camera, sigma, orthographic, near, cull, alpha=alpha, grad_alpha=grad_alpha, grads=grads)
    return grads  # type: ignore[return-value]


def _run(vertices, faces, K, world_to_camera, sigma, orthographic, near, cull, *, alpha, grad_alpha=None, grads=(None,) * 3):
    library = _load()[0]
    assert library is not None
    function = getattr(library, f"softras_silhouettes_{'float32' if vertices.dtype == torch.float32 else 'float64'}")
    arrays = [x.contiguous() for x in (vertices, faces, K, world_to_camera, orthographic, near, alpha)]
    grad_alpha = None if grad_alpha is None else grad_alpha.contiguous()
    call = _Call(
        views=alpha.shape[0],
        vertices=vertices.shape[-2],
        faces=faces.shape[0],
        height=alpha.shape[1],
        width=alpha.shape[2],
        threads=torch.get_num_threads(),
        shared_vertices=vertices.dim() == 2,
        wide_indices=faces.dtype == torch.int64,
        cull=cull,
        sigma=sigma,
        positions=arrays[0].data_ptr(),
        face_indices=arrays[1].data_ptr(),
        intrinsics=arrays[2].data_ptr(),
        world_to_camera=arrays[3].data_ptr(),
        orthographic=arrays[4].data_ptr(),
        near_planes=arrays[5].data_ptr(),
        alpha=arrays[6].data_ptr(),
        grad_alpha=None if grad_alpha is None else grad_alpha.data_ptr(),
        grad_positions=None if grad_alpha is None else grads[0].data_ptr(),
        grad_intrinsics=None if grad_alpha is None else grads[1].data_ptr(),
        grad_world_to_camera=None if grad_alpha is None else grads[2].data_ptr(),
    )
    status = function(ctypes.byref(call))
    if status:
        kind, message = _STATUS[status]
        raise kind(message)
