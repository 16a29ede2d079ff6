"""A cow and a tube with bones to fit to."""

from __future__ import annotations

import pytest
from fitting_scenes import views_of
from rig_scenes import POSE, around, bent, shots, tube_rig
from shared_fixtures import cow, data

from softras import Mesh, View
from softras.rig import Rig


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
