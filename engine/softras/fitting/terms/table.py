"""All terms by name. They are added up in this order, which decides the last bits of their sum."""

from __future__ import annotations

from . import silhouettes, surface
from .term import Term

TERMS: dict[str, Term] = {
    "iou": silhouettes.IOU,
    "squared": silhouettes.SQUARED,
    "laplacian": surface.LAPLACIAN,
    "bilaplacian": surface.BILAPLACIAN,
    "normal_consistency": surface.NORMAL_CONSISTENCY,
    "distortion": surface.DISTORTION,
    "edge_length": surface.EDGE_LENGTH,
}
