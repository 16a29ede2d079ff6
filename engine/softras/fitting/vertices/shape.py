"""The mesh under way: its topology, its free vertices and its objective."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...deform import FreeVertices, Mirror
from ...geometry.topology import Topology
from ...mesh import Mesh
from ..observed.unit import UnitSpace
from ..schedule import Stage
from ..solvers.smooth_adam import Adam, Preconditioner
from ..terms.free import Rest
from .objective import Objective


class Model:
    """A mesh in unit space, moved by its vertices."""

    def __init__(
        self,
        mesh: Mesh,
        unit: UnitSpace,
        weights: dict[str, float],
        *,
        keep_detail: bool,
        lock: np.ndarray | None,
        mirror: tuple[np.ndarray, np.ndarray] | None,
        device: torch.device,
    ) -> None:
        """mesh: in the world; mirror: partners (V,) and plane normal (3,); the rest as in `Settings`."""
        self.mesh, self.unit, self.device = mesh, unit, device
        vertices = torch.as_tensor(unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
        self.rest = Rest(vertices, Topology(mesh.faces, device), keep_detail=keep_detail)
        self._loose = np.setdiff1d(np.arange(len(mesh.vertices)), mesh.faces)
        self.objective = Objective(self.rest, weights)
        pairs = None if mirror is None else Mirror(*mirror, device=device, dtype=torch.float32)
        self.free = FreeVertices(mesh.vertices, mesh.faces, lock=lock, mirror=pairs, device=device)

    def vertices(self) -> Tensor:
        """(V, 3) in unit space, differentiable to the free vertices' parameters."""
        return self.free.apply(self.rest.vertices)

    def world_vertices(self) -> np.ndarray:
        """(V, 3) float64 in the world; what did not move, and vertices in no face, are as given to the bit."""
        with torch.no_grad():
            moved = (self.vertices() - self.rest.vertices).cpu().numpy().astype(np.float64)
        moved[self._loose] = 0
        return self.mesh.vertices + moved * self.unit.size

    def optimizer(self, stage: Stage, preconditioned: bool) -> Adam:
        """What takes the steps of a stage."""
        strength = (stage.smoothing / self.rest.mean_edge) ** 2 if preconditioned else 0.0
        smooth = Preconditioner(self.free.laplacian, strength, device=self.device, dtype=torch.float32)
        self.free.precondition(smooth.encode, smooth.decode)
        return Adam(self.free.parameters)
