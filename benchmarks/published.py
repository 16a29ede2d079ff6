"""SoftRas's published algorithm on a GPU, published.cu, for the scenes of gpu_check.py."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch

from softras.raster.native import cuda, driver, nvrtc


class Published:
    """SoftRas's published algorithm: its gradient goes to the projected corners, as there."""

    class Call(ctypes.Structure):
        _fields_ = [
            *[(name, ctypes.c_int32) for name in ("views", "faces", "height", "width")],
            ("sigma", ctypes.c_double),
            *[(name, ctypes.c_void_p) for name in ("corners", "alpha", "grad_alpha", "grad_corners")],
        ]

    def __init__(self, gpu: cuda.Gpu, sigma: float) -> None:
        text = Path(__file__).with_name("published.cu").read_text()
        image = nvrtc.build({nvrtc.SOURCE: text}, [nvrtc.target(gpu.architecture), "-std=c++17"])[0]
        self.gpu, self.module, self.sigma = gpu, driver.Module(image), sigma

    def both(self, case: Any) -> torch.Tensor:
        tensors, (views, size) = case.tensors, (len(case.cameras), case.size)
        world = tensors["world_to_camera"]
        points = case.vertices.detach() @ world[:, :3, :3].mT + world[:, None, :3, 3]
        pixels = (points / points[..., 2:]) @ tensors["K"].mT
        corners = (2 * pixels[..., :2] / size - 1)[:, case.faces.flatten().long()].contiguous()
        alpha, grads = torch.empty_like(case.upstream), torch.zeros_like(corners)
        call = self.Call(views, len(case.faces), size, size, self.sigma, *[
            tensor.data_ptr() for tensor in (corners, alpha, case.upstream, grads)
        ])  # fmt: skip
        grid = (-(-alpha.numel() // 256), 1, 1)
        for kernel in ("published_forward", "published_backward"):
            self.module.launch(kernel, grid, 256, self.gpu.stream(), call)
        return alpha
