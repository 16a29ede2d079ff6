"""A cow and a tube with bones to fit to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fitting_scenes import views_of
from rig_scenes import POSE, around, bent, shots, tube_rig

from softras import Mesh, View, load_mesh
from softras.rig import Rig

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


@pytest.fixture(scope="session")
def rest() -> Rig:
    return tube_rig()


@pytest.fixture(scope="session")
def posed(rest) -> Rig:
    return bent(rest, POSE)


@pytest.fixture(scope="session")
def views(posed) -> list[View]:
    return shots({0: posed}, around())
