"""What a fit tells while it runs and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..mesh import Mesh


@dataclass(frozen=True)
class Progress:
    """A moment of a fit.

    Attributes:
        step: steps done, of `steps` over all stages (a stage may end early).
        stage: index of the stage.
        loss: each term times its weight, by name; their sum is what was minimized at that moment.
        elapsed: seconds since the start.
        iou: (N,) of the vertices in this event against all views, of large images against every few pixels; None when
            not measured at this moment.
        vertices: (V, 3) world points, or None when this event brings none.
        faces: (F, 3) of those vertices where the fit makes its own mesh, else None.
    """

    step: int
    steps: int
    stage: int
    loss: dict[str, float]
    elapsed: float
    iou: np.ndarray | None = None
    vertices: np.ndarray | None = None
    faces: np.ndarray | None = None


@dataclass(frozen=True)
class FitResult:
    """The best state of a fit.

    Attributes:
        mesh: the fitted mesh; after a refinement with the faces and the vertex order it came with.
        iou: (N,) intersection over union with each view's mask, by `evaluate`.
        history: the progress events without their vertices.
        status: "finished", "stopped" (by the caller) or "out of time".
        elapsed: seconds.
        notes: sentences the user should read, such as that the mesh was moved onto the masks.
    """

    mesh: Mesh
    iou: np.ndarray
    history: list[Progress]
    status: str
    elapsed: float
    notes: list[str] = field(default_factory=list)

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the views."""
        return float(np.mean(self.iou))
