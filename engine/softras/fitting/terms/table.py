"""All terms by name. Terms are added up in this order, on which the last bits of the sum depend."""

from __future__ import annotations

from . import landmarks, priors, silhouettes, surface
from .term import Term

TERMS: dict[str, Term] = {
    "iou": silhouettes.IOU,
    "squared": silhouettes.SQUARED,
    "laplacian": surface.LAPLACIAN,
    "bilaplacian": surface.BILAPLACIAN,
    "normal_consistency": surface.NORMAL_CONSISTENCY,
    "distortion": surface.DISTORTION,
    "edge_length": surface.EDGE_LENGTH,
    "prior": priors.PRIOR,
    "smoothness": priors.SMOOTHNESS,
    "camera_prior": priors.CAMERA_PRIOR,
    "silhouettes": silhouettes.SILHOUETTES,
    "landmarks": landmarks.LANDMARKS,
}


def default_weights(kind: str) -> dict[str, float]:
    """The default weight of every term in a kind of fit: "refine", "reconstruct" or "poses"."""
    return {name: term.weights.get(kind, 0.0) for name, term in TERMS.items()}
