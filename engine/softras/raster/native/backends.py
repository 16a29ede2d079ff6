"""The choice of a backend: the native library for tensors on the CPU, the CUDA kernels for tensors on a GPU.

The native library also computes, on copies of the tensors, for a GPU whose kernels do not start and for renderers that
have no kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..scene import Scene
from . import coverage_cpu, coverage_cuda, cpu, cuda, image_cpu, image_cuda

# The modules of the backends by renderer; their functions have the names that `compute` is given.
ON_CPU = {"silhouettes": cpu, "images": image_cpu, "coverage": coverage_cpu}
ON_GPU = {"silhouettes": cuda, "images": image_cuda, "coverage": coverage_cuda}


def computes(renderer: str, device: torch.device) -> bool:
    """Whether a renderer has a backend for tensors on the device; without one, its definition renders."""
    return cpu.available() or (renderer in ON_GPU and _kernels_start(device))


def compute(name: str, scene: Scene, *rest: Any) -> Any:
    """Call a function of the backend for the scene's device.

    name: of the function; it begins with the renderer's.
    """
    renderer, device = name.partition("_")[0], scene.vertices.device
    if device.type == "cpu":
        return getattr(ON_CPU[renderer], name)(scene, *rest)
    if renderer in ON_GPU and _kernels_start(device):
        return getattr(ON_GPU[renderer], name)(scene, *rest)
    return by_copies(name, scene, *rest)


def by_copies(name: str, scene: Scene, *rest: Any) -> Any:
    """Call a function of the native library for tensors on another device, to which its results are moved."""
    copies = _moved((scene, *rest), torch.device("cpu"))
    return _moved(getattr(ON_CPU[name.partition("_")[0]], name)(*copies), scene.vertices.device)


def _kernels_start(device: torch.device) -> bool:
    return device.type == "cuda" and cuda.available(device)


def _moved(value: Any, device: torch.device) -> Any:
    """The value with all tensors, also those inside tuples, moved to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        moved = [_moved(x, device) for x in value]
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
    return value
