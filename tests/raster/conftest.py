import ctypes
from collections.abc import Iterator

import emulation
import pytest
import torch

from softras.raster.native import cuda, nvrtc


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> ctypes.CDLL:
    """The emulated CUDA driver."""
    return emulation.build(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(params=["cpu", "cuda", "emulated"])
def where(request) -> str:
    """What renders: the native library, the CUDA kernels on a GPU, or the same under the emulator."""
    return request.param


@pytest.fixture
def device(request, where) -> Iterator[str]:
    """The device of a test's tensors; skips without a GPU where one is asked for, fails if the kernels do not run."""
    if where == "emulated":
        with emulation.emulated(request.getfixturevalue("library")):
            yield "cpu"  # whose tensors pass for a GPU's now
        return
    if where == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        assert cuda.available(torch.device("cuda")), cuda.failure(torch.cuda.current_device())
    yield where


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """NVRTC on the sources of the checkout, with a cache of its own."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(nvrtc, "SOURCES", emulation.CSRC)
    try:
        nvrtc.version()
    except nvrtc.CompileError:
        pytest.skip("no NVRTC here: pip install nvidia-cuda-nvrtc")
