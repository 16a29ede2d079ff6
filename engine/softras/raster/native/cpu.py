"""Silhouettes by the native library, the CPU's backend, whose C ABI (csrc/softras.h) is called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import platform
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..scene import Scene, Tangents, dense
from . import structures
from .structures import Call, JacobianCall

STATUS = {  # the error of each status SOFTRAS_BAD_... of softras.h, which are also the bits of the CUDA kernels' status
    1: (ValueError, "vertices holds NaN or infinite numbers"),
    2: (ValueError, "K holds NaN or infinite numbers"),
    3: (ValueError, "world_to_camera holds NaN or infinite numbers"),
    4: (ValueError, "faces name vertices that do not exist"),
    5: (MemoryError, "not enough memory to render; use fewer views at once or a smaller image"),
    6: (ValueError, "attribute_faces name attributes that do not exist"),
    7: (ValueError, "the attributes hold NaN or infinite numbers"),
    8: (ValueError, "the texture holds NaN or infinite numbers"),
    9: (ValueError, "the background holds NaN or infinite numbers"),
}


MEASURES = ("roughness", "folding", "distortion", "comparison")  # what a fit minimizes


def library_path() -> Path:
    """The path of this machine's library, whether there is one or not."""
    machine = platform.machine().lower()
    x86 = machine in ("x86_64", "amd64")
    arm = {"Linux": "aarch64", "Windows": "arm64", "Darwin": "arm64"}.get(platform.system(), machine)
    names = {"Linux": "softras-linux-{}.so", "Windows": "softras-windows-{}.dll", "Darwin": "softras-macos-{}.dylib"}
    name = names.get(platform.system(), "softras-{}.so").format("x86_64" if x86 else arm)
    return Path(__file__).resolve().parents[2] / "_native" / name


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    path = library_path()
    if not path.is_file():
        return None, f"there is no native library for this machine ({path.name})"
    try:
        library = ctypes.CDLL(str(path))
        if not hasattr(library, "softras_abi") or library.softras_abi() != structures.ABI:
            other = "is of another version of Softras"
        elif name := structures.mismatch(library):
            other = f"declares {name} otherwise than structures.py"
        else:
            other = ""
        if other:
            reason = f"the native library {path.name} {other}; build it with csrc/build.py"
            warnings.warn(f"{reason}. Until then the definitions render, which takes long.", stacklevel=2)
            return None, reason
        library.softras_instruction_set.restype = ctypes.c_char_p
        for scalar in ("float32", "float64"):
            getattr(library, "softras_silhouettes_" + scalar).argtypes = [ctypes.POINTER(Call)]
            getattr(library, "softras_silhouettes_jacobian_" + scalar).argtypes = [ctypes.POINTER(JacobianCall)]
            getattr(library, "softras_images_" + scalar).argtypes = [ctypes.c_void_p]
            for function in ("coverage", "product", "sparse_product", *MEASURES):
                getattr(library, f"softras_{function}_{scalar}").argtypes = [ctypes.c_void_p]
        for function in ("factor", "solve"):
            getattr(library, f"softras_{function}_float64").argtypes = [ctypes.c_void_p]
        return library, library.softras_instruction_set().decode()
    except (OSError, AttributeError) as error:
        return None, f"the native library {path.name} does not load: {error}"


_AVAILABLE = _load()[0] is not None  # a constant, since torch.compile cannot trace the loading


def available() -> bool:
    """Whether the native library loads here."""
    return _AVAILABLE


def description() -> str:
    """The instruction set that the library uses, or the reason why there is no library."""
    return _load()[1]


def silhouettes(scene: Scene, sigma: float) -> tuple[Tensor, Tensor]:
    """Alpha and transmittance (N, H, W)."""
    alpha = scene.vertices.new_empty(scene.size)
    transmittance = torch.empty_like(alpha)
    scene = dense(scene)
    run("silhouettes", alpha.dtype, call_of(scene, sigma, transmittance, alpha=alpha))
    return alpha, transmittance


def silhouettes_backward(
    scene: Scene, sigma: float, transmittance: Tensor, grad_alpha: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to vertices, K and world_to_camera."""
    grads = scene.empty_gradients()
    scene, transmittance, grad_alpha = dense(scene), transmittance.contiguous(), grad_alpha.contiguous()
    run("silhouettes", grad_alpha.dtype, call_of(scene, sigma, transmittance, grad_alpha=grad_alpha, grads=grads))
    return grads


def silhouettes_jacobian(
    scene: Scene, sigma: float, transmittance: Tensor, pixels: Tensor, tangents: Tangents
) -> Tensor:
    """(M, P) rows of the Jacobian at M pixels."""
    rows = scene.vertices.new_empty(len(pixels), tangents.parameters)
    if not rows.numel():
        return rows
    scene, tangents = dense(scene), dense(tangents)
    transmittance, pixels = transmittance.contiguous(), pixels.contiguous()
    pointers = [None if x is None else x.data_ptr() for x in (pixels, *tangents, rows)]
    call = JacobianCall(call_of(scene, sigma, transmittance), tangents.parameters, len(pixels), *pointers)
    run("silhouettes_jacobian", rows.dtype, call)
    return rows


def call_of(
    scene: Scene,
    sigma: float,
    transmittance: Tensor | None,
    alpha: Tensor | None = None,
    grad_alpha: Tensor | None = None,
    grads: Sequence[Tensor] = (),
) -> Call:
    """The structure of a call. It holds pointers to the tensors, which must be contiguous and outlive the call.

    alpha: to be written in the forward pass. grad_alpha, grads: in the backward pass, the gradient that comes in and
    the ones to be written, to vertices, K and world_to_camera.
    """
    return Call(
        scene.K.shape[0],
        scene.vertices.shape[-2],
        scene.faces.shape[0],
        scene.height,
        scene.width,
        torch.get_num_threads(),
        scene.shared,
        scene.faces.dtype == torch.int64,
        scene.cull,
        grad_alpha is not None,
        sigma,
        scene.vertices.data_ptr(),
        scene.faces.data_ptr(),
        scene.K.data_ptr(),
        scene.world_to_camera.data_ptr(),
        scene.orthographic.data_ptr(),
        scene.near.data_ptr(),
        None if alpha is None else alpha.data_ptr(),
        None if transmittance is None else transmittance.data_ptr(),
        None if grad_alpha is None else grad_alpha.data_ptr(),
        *[x.data_ptr() for x in grads],
    )


def run(function: str, dtype: torch.dtype, call: ctypes.Structure | bytes) -> None:
    """Call the library's function for a dtype. Raises the error that its status means."""
    check(status_of(function, dtype, call))


def status_of(function: str, dtype: torch.dtype, call: ctypes.Structure | bytes) -> int:
    """Call the library's function for a dtype and return its status (csrc/softras.h).

    call: the structure, or its bytes, which the function does not write to.
    """
    return _entry(function, dtype)(call if isinstance(call, bytes) else ctypes.byref(call))


@functools.cache
def _entry(function: str, dtype: torch.dtype) -> Callable[..., int]:
    library = _load()[0]
    assert library is not None
    return getattr(library, f"softras_{function}_{str(dtype).removeprefix('torch.')}")


def check(status: int) -> None:
    """Raise the error that a status means; 0 is success."""
    if status:
        kind, message = STATUS[status]
        raise kind(message)
