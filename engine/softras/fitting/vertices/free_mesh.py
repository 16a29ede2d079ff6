"""The mesh of a fit of free vertices while the fit goes on, and its objective."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...deform import FreeVertices, Mirror, ShownMesh, Sides
from ...geometry.topology import Topology
from ...mesh import Mesh
from ..schedule import Stage
from ..solvers.smooth_adam import Adam, Preconditioner
from ..terms.free import Rest
from .objective import Objective
from .prepared import Prepared, shown_of
from .remesh import remesh


class FreeMesh:
    """A mesh whose vertices move.

    Attributes:
        begun: the mesh before its vertices moved, in the world, with its lock and symmetry.
        rest: the same mesh in unit space.
        objective: what is minimized.
    """

    def __init__(self, begun: Prepared, weights: dict[str, float], device: torch.device) -> None:
        """weights: the weight of each term, by its name."""
        self.begun, self._weights, self._device = begun, weights, device
        mesh = begun.mesh
        vertices = torch.as_tensor(begun.unit.to_unit(mesh.vertices), dtype=torch.float32, device=device)
        self.rest = Rest(vertices, Topology(mesh.faces, device), keep_detail=begun.is_given)
        self._loose = np.setdiff1d(np.arange(len(mesh.vertices)), mesh.faces)
        self.objective = Objective(self.rest, weights)
        mirror = None if begun.mirror is None else Mirror(*begun.mirror, device=device, dtype=torch.float32)
        cage, unit, sides = begun.cage, begun.unit, None
        self._shown: ShownMesh | None = None
        if cage is not None:
            self._shown = ShownMesh(cage, unit.centre, unit.size, device=device)
            sides = Sides(cage.planes, mesh.vertices, device=device, dtype=torch.float32, size=unit.size)
        self._free = FreeVertices(mesh.vertices, mesh.faces, lock=begun.lock, mirror=mirror, sides=sides, device=device)

    def vertices(self) -> Tensor:
        """(V, 3) vertices in unit space, differentiable to the parameters that the optimizer changes."""
        return self._free.apply(self.rest.vertices)

    def seen(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """(S, 3) vertices and (F, 3) faces of what is seen of the mesh with (V, 3) vertices; differentiable."""
        if self._shown is None:
            return vertices, self.rest.faces
        return self._shown(vertices), self._shown.faces

    def seen_in_world(self, mesh: Mesh) -> Mesh:
        """What is seen of the mesh, which is in the world."""
        return shown_of(mesh, self.begun.cage)

    def world(self) -> Mesh:
        """The mesh in the world, in float64.

        Vertices that did not move and vertices in no face are those of `begun.mesh` to the bit.
        """
        with torch.no_grad():
            moved = (self.vertices() - self.rest.vertices).cpu().numpy().astype(np.float64)
        moved[self._loose] = 0
        return Mesh(self.begun.mesh.vertices + moved * self.begun.unit.size, self.begun.mesh.faces)

    def remeshed(self, edge: float) -> FreeMesh:
        """The same shape, made of even triangles with edges of a length in unit space."""
        unit, mesh = self.begun.unit, self.world()
        vertices, faces = remesh(unit.to_unit(mesh.vertices), mesh.faces, edge)
        begun = replace(self.begun, mesh=Mesh(unit.to_world(vertices), faces))
        return FreeMesh(begun, self._weights, self._device)

    def optimizer(self, stage: Stage, preconditioned: bool) -> Adam:
        """A new optimizer of the vertices, smoothing its steps as the stage asks if it is to be preconditioned."""
        strength = (stage.smoothing / self.rest.mean_edge) ** 2 if preconditioned else 0.0
        smooth = Preconditioner(self._free.laplacian, strength, device=self._device, dtype=torch.float32)
        self._free.precondition(smooth.encode, smooth.decode)
        return Adam(self._free.parameters)
