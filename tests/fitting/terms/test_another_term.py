"""A term of its own takes part in fits of both kinds by one entry of the table."""

from __future__ import annotations

import pytest
from fitting_scenes import ball, views_of

from softras import Mesh, fit
from softras.fitting.terms.posed import Part
from softras.fitting.terms.table import TERMS
from softras.fitting.terms.term import Term

AWAY = 0.1  # sizes of the mesh along x, from the middle of the start


class Away:
    """Residuals: how far the mean of the vertices is from where it should be."""

    def __init__(self, frames, weight):
        self.factor = weight**0.5

    def residuals(self, posed):
        return self.factor * (posed.vertices[:, :1].mean(dim=0) - AWAY)

    def cost(self, posed):
        return 0.5 * float(self.residuals(posed).square().sum())

    def linear(self, posed, motion):
        rows = self.factor * motion.d_vertices[:, 0].mean(dim=0, keepdim=True)
        return self.cost(posed), [Part(rows, self.residuals(posed), None)]


AWAY_TERM = Term(
    {"refine": 10.0, "poses": 3.0},
    loss=lambda rest: lambda drawn: (drawn.vertices[:, 0].mean() - AWAY).square(),
    residuals=Away,
)

STAGE = {"resolution": 96, "steps": 120, "blur": (1.0, 0.4), "rate": (0.02, 0.002), "smoothing": 0.1}


@pytest.mark.parametrize("optimize", ["object", "vertices"])
def test_another_term_is_one_entry_of_the_table(optimize, monkeypatch):
    """One orthographic view along x leaves open how far away the mesh is, so that the term decides it alone."""
    monkeypatch.setitem(TERMS, "away", AWAY_TERM)
    start = ball(2)
    views = views_of(Mesh(0.6 * start.vertices, start.faces), 1, 96, orthographic=True)
    moved = []
    for weights in ({}, {"away": 0.0}):
        result = fit(start, views, optimize=optimize, place="never", schedule=[STAGE], weights=weights)
        assert result.mean_iou > 0.95
        moved.append((result.mesh.vertices - start.vertices)[:, 0].mean() / 2)
    assert moved == [pytest.approx(AWAY, abs=0.01), pytest.approx(0, abs=0.01)]
