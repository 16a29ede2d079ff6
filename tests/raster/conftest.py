import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> ctypes.CDLL:
    """The emulated CUDA driver."""
    import emulation

    return emulation.build(tmp_path_factory.mktemp("emulator"))


@pytest.fixture(params=["cpu", "cuda", "emulated"])
def where(request) -> str:
    """What renders: the native library, the CUDA kernels on a GPU, or the same under the emulator."""
    return request.param


@pytest.fixture
def device(request, where) -> Iterator[str]:
    """The device of a test's tensors; skips without a GPU where one is asked for, fails if the kernels do not run."""
    if where == "emulated":
        import emulation

        with emulation.emulated(request.getfixturevalue("library")):
            yield "cpu"  # whose tensors pass for a GPU's now
        return
    if where == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        from softras.raster.native import cuda

        assert cuda.available(torch.device("cuda")), cuda.failure(torch.cuda.current_device())
    yield where
