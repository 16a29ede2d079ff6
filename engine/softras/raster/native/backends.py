"""Which backend computes: the native library for tensors on the CPU, the CUDA kernels for those on a GPU.

A GPU whose kernels do not start, and what has no kernels, is served by the CPU's backend on copies of the tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..scene import Scene
from . import coverage_cpu, cpu, cuda, image_cpu, image_cuda

ON_CPU = {"silhouettes": cpu, "images": image_cpu, "coverage": coverage_cpu}  # modules, by renderer
ON_GPU = {"silhouettes": cuda, "images": image_cuda}


def computes(renderer: str, device: torch.device) -> bool:
    """Whether a renderer has a backend for tensors on the device; else the definition itself runs."""
    return cpu.available() or (renderer in ON_GPU and _kernels_start(device))


def compute(name: str, scene: Scene, *rest: Any) -> Any:
    """The result of a backend's function of that name, whose first word is the renderer's."""
    renderer, device = name.partition("_")[0], scene.vertices.device
    if device.type == "cpu":
        return getattr(ON_CPU[renderer], name)(scene, *rest)
    if renderer in ON_GPU and _kernels_start(device):
        return getattr(ON_GPU[renderer], name)(scene, *rest)
    return by_copies(name, scene, *rest)


def by_copies(name: str, scene: Scene, *rest: Any) -> Any:
    """The result of the CPU's function for tensors on another device."""
    copies = _moved((scene, *rest), torch.device("cpu"))
    return _moved(getattr(ON_CPU[name.partition("_")[0]], name)(*copies), scene.vertices.device)


def _kernels_start(device: torch.device) -> bool:
    return device.type == "cuda" and cuda.available(device)


def _moved(value: Any, device: torch.device) -> Any:
    """The tensors in it, and in tuples in it, on another device; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        moved = [_moved(x, device) for x in value]
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
    return value
