"""Shape keys: values that add offsets to the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..raster.algebra import product
from ..rig import ShapeKey


class ShapeKeys:
    """The shape keys of a mesh, of which P may change; a parameter is what is added to the value of one of these.

    Attributes:
        count: P.
        names: the names of the P keys.
        bounds: (P, 2) the least and the greatest value of each parameter, for which a key's value is in its range.
        offsets: (P, V, 3) the offsets of the P keys.
    """

    def __init__(
        self,
        keys: Sequence[ShapeKey],
        count: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """count: how many vertices the mesh has, V."""
        self._given = list(keys)
        free = [key for key in keys if key.moves]
        self.count = len(free)
        self.names = [key.name for key in free]
        self.bounds = np.array([(key.low - key.value, key.high - key.value) for key in free]).reshape(-1, 2)
        constant = sum((key.value * key.offsets for key in keys), start=np.zeros((count, 3)))
        self._constant = torch.as_tensor(constant, device=device, dtype=dtype)
        offsets = np.array([key.offsets for key in free]).reshape(-1, count, 3)
        self.offsets = torch.as_tensor(offsets, device=device, dtype=dtype)

    def apply(self, parameters: Tensor, vertices: Tensor) -> Tensor:
        """(V, 3) the vertices (V, 3) plus the offsets of all keys times their values at parameters (P,)."""
        changed = vertices + self._constant
        if not self.count:
            return changed
        return changed + product(parameters[None], self.offsets.flatten(1)).view_as(changed)

    def moved(self, parameters: Tensor) -> list[ShapeKey]:
        """The keys with their values at parameters (P,), clamped to their ranges."""
        change = iter(parameters.detach().double().cpu().tolist())
        return [
            replace(key, value=min(max(key.value + next(change), key.low), key.high)) if key.moves else key
            for key in self._given
        ]
