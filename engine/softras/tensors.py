"""Tensors from what callers give: tensors, arrays or lists."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import InputError, shown
from .mesh import Mesh


def as_tensor(name: str, value: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """A tensor, array or nested list of numbers as a tensor. Raises InputError for anything else."""
    if isinstance(value, Mesh):
        raise InputError(f"{name} must be a tensor or an array, not a Mesh; give its .vertices and its .faces.")
    try:
        return torch.as_tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} must be a tensor or an array of numbers, not {shown(value)}.") from error
