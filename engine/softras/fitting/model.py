"""The mesh under way: its topology, its variables and its objective."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..deform import FreeVertices, Mirror, Rigid, Variable
from ..mesh import Mesh
from .objective import Objective
from .precondition import Adam, Preconditioner
from .schedule import Stage
from .unit import UnitSpace

DEFAULT_WEIGHTS = {
    "refine": {"iou": 1.0, "squared": 0.2, "bilaplacian": 0.03, "normal_consistency": 1.5, "distortion": 0.035},
    "reconstruct": {"iou": 1.0, "squared": 0.2, "bilaplacian": 0.2},
}


class Model:
    """A mesh in unit space, moved by variables."""

    def __init__(
        self,
        mesh: Mesh,
        unit: UnitSpace,
        variables: tuple[str, ...],
        weights: dict[str, float],
        *,
        keep_detail: bool,
        lock: np.ndarray | None,
        mirror: tuple[np.ndarray, np.ndarray] | None,
        device: torch.device,
    ) -> None:
        """mesh: in the world; mirror: partners (V,) and plane normal (3,); the rest as in `Settings`."""
        self.mesh, self.unit, self.device = mesh, unit, device
        self.rest = torch.as_tensor(unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
        self.faces = torch.as_tensor(mesh.faces, dtype=torch.int64, device=device)
        self._loose = np.setdiff1d(np.arange(len(mesh.vertices)), mesh.faces)
        self.objective = Objective(self.rest, mesh.faces, weights, keep_detail=keep_detail)
        self.variables: list[Variable] = []
        if "vertices" in variables:
            pairs = None if mirror is None else Mirror(*mirror, device=device, dtype=torch.float32)
            self.variables.append(FreeVertices(mesh.vertices, mesh.faces, lock=lock, mirror=pairs, device=device))
        if "rigid" in variables:
            used = self.rest[self.faces.unique()]
            self.variables.append(Rigid((used.amin(dim=0) + used.amax(dim=0)) / 2))

    def vertices(self) -> Tensor:
        """(V, 3) in unit space, differentiable to the variables' parameters."""
        vertices = self.rest
        for variable in self.variables:
            vertices = variable.apply(vertices)
        return vertices

    def world_vertices(self) -> np.ndarray:
        """(V, 3) float64 in the world; what no variable moved, and vertices in no face, are as given to the bit."""
        with torch.no_grad():
            moved = (self.vertices() - self.rest).cpu().numpy().astype(np.float64)
        moved[self._loose] = 0
        return self.mesh.vertices + moved * self.unit.size

    def optimizers(self, stage: Stage, preconditioned: bool) -> list[tuple[Adam, tuple[float, float]]]:
        """For each variable of the stage its step rule, and its rate at the stage's start and end."""
        found = []
        for variable in self.variables:
            if isinstance(variable, FreeVertices):
                strength = (stage.smoothing / self.objective.mean_edge) ** 2 if preconditioned else 0.0
                smooth = Preconditioner(variable.laplacian, strength, device=self.device, dtype=torch.float32)
                variable.precondition(smooth.encode, smooth.decode)
            first, last = stage.rates.get(variable.name, (0.01, 0.001))
            found.append((Adam(variable.parameters(), uniform=variable.step_rule == "uniform"), (first, last)))
        return found
