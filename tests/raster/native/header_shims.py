"""Headers of csrc behind plain C functions, for the tests that hold them to their definitions."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[2] / "csrc"
FLAGS = (
    "-std=c++17 -O2 -ffp-contract=fast -fno-exceptions -fno-rtti -fno-sanitize=all -Wall -Wextra -Werror "
    "-shared -fPIC -nostdlib++"
)
NAMES = {torch.float32: "float", torch.float64: "double"}


def compiled(name: str, folder: Path) -> ctypes.CDLL:
    """The library made of NAME.cpp beside this file; the test is skipped without a compiler."""
    pytest.importorskip("ziglang", reason="compiling the header needs the package ziglang")
    library = folder / ("shim.dll" if os.name == "nt" else "shim.so")
    flags = [flag for flag in FLAGS.split() if os.name != "nt" or flag != "-fPIC"]
    command = [sys.executable, "-m", "ziglang", "c++", *flags, f"-I{CSRC}", str(HERE / f"{name}.cpp")]
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    subprocess.run([*command, "-o", str(library)], check=True, env=environment)
    return ctypes.CDLL(str(library))
