"""The CUDA backend without a GPU: its kernels compiled for the CPU, behind the driver's functions."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from softras.raster.native import backends, cuda, driver, nvrtc

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
FLAGS = (
    "-std=c++17 -O1 -fno-exceptions -fno-rtti -fno-sanitize=all -U_FORTIFY_SOURCE -Wno-everything "
    "-nostdlib++ -nostdinc++"
)


_COMPUTE = backends.compute


class EmulatedGpu(cuda.Gpu):
    """A device whose memory is the CPU's, and whose processors are content with a warp each."""

    def __init__(self, processors: int = 6) -> None:
        self.index, self.architecture, self.processors = 0, 90, processors
        self._modules = {}
        self.captures = False

    def current(self) -> AbstractContextManager:
        return nullcontext()

    def stream(self) -> int:
        return 0

    def capturing(self) -> bool:
        return self.captures

    def read(self, number: torch.Tensor) -> Callable[[], int]:
        return lambda: int(number)


def build(folder: Path, changed: dict[str, str] | None = None) -> ctypes.CDLL:
    """The emulated driver, compiled; `changed`: other texts of some of the CUDA sources, by name."""
    pytest.importorskip("ziglang", reason="compiling the kernels for the CPU needs the package ziglang")
    if sys.platform != "linux":
        pytest.skip("the emulator's fibers are those of Linux")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in nvrtc.sources(CSRC).items():
        (folder / name).write_text((changed or {}).get(name) or text)
    library = folder / "emulated_driver.so"
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS.split(), "-shared", "-fPIC", f"-I{folder}"]
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    subprocess.run(
        [*command, str(HERE / "native" / "emulated_driver.cpp"), "-o", str(library)], check=True, env=environment
    )
    return driver.declared(ctypes.PyDLL(str(library)))  # one call at a time: the emulator has one GPU


def build_without_barrier(folder: Path, source: str, before: str) -> ctypes.CDLL:
    """The emulated driver with one barrier less: the one that follows this text."""
    text = nvrtc.sources(CSRC)[source]
    broken, found = re.subn(f"({re.escape(before)}) *__sync(warp|threads)\\(\\);\n", r"\1", text)
    assert found == 1
    library = build(folder, {source: broken})
    set_seed(library, 1)
    return library


@contextmanager
def emulated(library: ctypes.CDLL, gpu: EmulatedGpu | None = None) -> Iterator[EmulatedGpu]:
    """Within it, the rasterizer takes CPU tensors for a GPU's."""
    gpu = gpu or EmulatedGpu()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "library", lambda: library)
        patch.setattr(nvrtc, "compiled", lambda architecture, scalar, part: b"image")
        patch.setattr(cuda, "WARPS", 1)
        patch.setattr(cuda, "gpu", lambda index: gpu)
        patch.setattr(cuda, "_index", lambda device: 0)
        patch.setattr(backends, "compute", _on_the_emulator)
        yield gpu


def _on_the_emulator(name: str, *args: object) -> object:
    """A function of the CUDA backend, or of the CPU's where there are no kernels."""
    renderer = name.partition("_")[0]
    return getattr(backends.ON_GPU.get(renderer, backends.ON_CPU[renderer]), name)(*args)


@contextmanager
def native() -> Iterator[None]:
    """Within it, the rasterizer takes CPU tensors for what they are again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "compute", _COMPUTE)
        yield


def set_seed(library: ctypes.CDLL, seed: int) -> None:
    """Choose the schedule of the emulated threads."""
    ctypes.c_uint64.in_dll(library, "emulator_seed").value = seed


def spills(log: str) -> dict[str, int]:
    """Bytes that each kernel spills, from the assembler's log."""
    found, kernel = {}, ""
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = match[1]
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            found[kernel] = found.get(kernel, 0) + int(match[1]) + int(match[2])
    return found
