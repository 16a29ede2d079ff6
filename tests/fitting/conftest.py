"""A cow to fit to: small rendered masks of spot, and starts away from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fitting_scenes import views_of

from softras import Mesh, View, load_mesh

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """Data sets that may not be redistributed; tests that need them skip without."""
    folder = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set SOFTRAS_DATA")
    return folder


@pytest.fixture(scope="session")
def cow() -> Mesh:
    return load_mesh(ROOT / "examples" / "data" / "spot" / "spot.obj")


@pytest.fixture(scope="session")
def cow_views(cow: Mesh) -> list[View]:
    return views_of(cow, 6, 128)
