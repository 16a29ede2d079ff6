"""Fit a mesh to silhouettes."""

from .fit import fit, fit_events
from .progress import FitResult, Progress

__all__ = ["FitResult", "Progress", "fit", "fit_events"]
