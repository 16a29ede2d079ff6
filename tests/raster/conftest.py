import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> str:
    """Where a test renders; "cuda" is skipped without a GPU, and fails where the kernels do not run on it."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        from softras.raster import cuda

        assert cuda.available(torch.device("cuda")), cuda.failure(torch.cuda.current_device())
    return request.param
