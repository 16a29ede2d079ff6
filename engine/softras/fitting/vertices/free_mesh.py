"""The mesh of a fit under way: its free vertices, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...deform import FreeVertices, Mirror
from ...geometry.topology import Topology
from ...mesh import Mesh
from ..schedule import Stage
from ..solvers.smooth_adam import Adam, Preconditioner
from ..terms.free import Rest
from .objective import Objective
from .prepared import Prepared
from .remesh import remesh


class FreeMesh:
    """A mesh in unit space, moved by its vertices.

    Attributes:
        begun: the mesh it begins with, in the world, and what goes with that.
        rest: the same in unit space.
        objective: what the vertices cost.
    """

    def __init__(self, begun: Prepared, weights: dict[str, float], device: torch.device) -> None:
        """weights: of the terms, by name."""
        self.begun, self._weights, self._device = begun, weights, device
        mesh = begun.mesh
        vertices = torch.as_tensor(begun.unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
        self.rest = Rest(vertices, Topology(mesh.faces, device), keep_detail=begun.is_given)
        self._loose = np.setdiff1d(np.arange(len(mesh.vertices)), mesh.faces)
        self.objective = Objective(self.rest, weights)
        mirror = None if begun.mirror is None else Mirror(*begun.mirror, device=device, dtype=torch.float32)
        self._free = FreeVertices(mesh.vertices, mesh.faces, lock=begun.lock, mirror=mirror, device=device)

    def vertices(self) -> Tensor:
        """(V, 3) in unit space, differentiable to the free vertices' parameters."""
        return self._free.apply(self.rest.vertices)

    def world(self) -> Mesh:
        """The mesh in the world, float64; what did not move, and vertices in no face, are as given to the bit."""
        with torch.no_grad():
            moved = (self.vertices() - self.rest.vertices).cpu().numpy().astype(np.float64)
        moved[self._loose] = 0
        return Mesh(self.begun.mesh.vertices + moved * self.begun.unit.size, self.begun.mesh.faces)

    def remeshed(self, edge: float) -> FreeMesh:
        """The same shape in even triangles with sides of a length, in unit space."""
        unit, mesh = self.begun.unit, self.world()
        vertices, faces = remesh(unit.to_unit(mesh.vertices), mesh.faces, edge)
        begun = replace(self.begun, mesh=Mesh(unit.to_world(vertices), faces))
        return FreeMesh(begun, self._weights, self._device)

    def optimizer(self, stage: Stage, preconditioned: bool) -> Adam:
        """What takes the steps of a stage."""
        strength = (stage.smoothing / self.rest.mean_edge) ** 2 if preconditioned else 0.0
        smooth = Preconditioner(self._free.laplacian, strength, device=self._device, dtype=torch.float32)
        self._free.precondition(smooth.encode, smooth.decode)
        return Adam(self._free.parameters)
