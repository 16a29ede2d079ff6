"""How gpu_check.py measures: times and memory of calls on a GPU, and the rates that the device reaches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


class Clock:
    """How calls are timed on a device."""

    def __init__(self, device: str) -> None:
        self.device, self.real = device, device == "cuda"

    def wait(self) -> None:
        if self.real:
            torch.cuda.synchronize()

    def once(self, call: Callable[[], Any]) -> float:
        """Seconds of one call."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def called(self, call: Callable[[], Any], seconds: float = 0.2) -> float:
        """Milliseconds of a call as a program makes it, Python included: the median."""
        first = min(self.once(call), self.once(call))
        count = min(100, max(3, int(seconds / first))) if self.real else 1
        return 1e3 * statistics.median(self.once(call) for _ in range(count))

    def replayed(self, call: Callable[[], Any]) -> float | None:
        """Milliseconds of the device alone: the call as a CUDA graph, replayed. None: it cannot be captured."""
        if not self.real:
            return None
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                call()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            count = min(50, max(3, int(0.2 / self.once(graph.replay))))
            begin.record()
            for _ in range(count):
                graph.replay()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / count
        except RuntimeError as error:
            print(f"no CUDA graph: {str(error).splitlines()[0]}", flush=True)
            return None

    def memory(self, call: Callable[[], Any]) -> int:
        """Bytes that a call has allocated at most."""
        if not self.real:
            return 0
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        self.wait()
        return torch.cuda.max_memory_allocated() - before


def rates(clock: Clock) -> dict[str, float]:
    """Bytes and float32 operations a second that this device reaches in a large copy and a large product."""
    if not clock.real:
        return {"bytes": 1e10, "operations": 1e10}
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = clock.called(lambda: target.copy_(source))
    a = torch.randn(8192, 8192, device="cuda")
    product = clock.called(lambda: a @ a)
    return {"bytes": 2e3 * 4 * source.numel() / copy, "operations": 2e3 * 8192**3 / product}
