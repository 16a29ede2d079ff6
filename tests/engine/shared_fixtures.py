"""What the tests of several rooms share: the example data, a small scene made by hand, and the command line.

The conftest.py of a room names the fixtures that its tests ask for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from softras import Camera, Mesh, View, load_mesh

ROOT = Path(__file__).resolve().parents[2]
SPOT = ROOT / "examples" / "data" / "spot"


@pytest.fixture(scope="session")
def spot() -> Path:
    """The example data set: twelve views of a cow, its mesh and a start."""
    return SPOT


@pytest.fixture(scope="session")
def cow() -> Mesh:
    """The mesh of the example data set."""
    return load_mesh(SPOT / "spot.obj")


@pytest.fixture(scope="session")
def data() -> Path:
    """Data sets that may not be redistributed; tests that need them skip without."""
    folder = Path(os.environ.get("SOFTRAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set SOFTRAS_DATA")
    return folder


@pytest.fixture
def cube() -> Mesh:
    """A cube of side 1 around the origin."""
    vertices = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(vertices, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]))


@pytest.fixture
def square_views() -> list[View]:
    """Three orthographic views along the axes of a box of 0.8 x 0.8 x 0.8, 48 x 40 pixels."""
    mask = np.zeros((40, 48), np.float32)
    mask[12:28, 16:32] = 1
    views = []
    for name, axes in (("along y", (0, 2, 1)), ("along x", (1, 2, 0)), ("along z", (0, 1, 2))):
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3] = np.eye(3)[list(axes)] * np.array([[1], [-1], [1]])
        if np.linalg.det(world_to_camera[:3, :3]) < 0:
            world_to_camera[2] *= -1
        world_to_camera[2, 3] = 4
        K = np.array([[20.0, 0, 24], [0, 20, 20], [0, 0, 1]])
        views.append(View(name, Camera(K, world_to_camera, 48, 40, orthographic=True), mask))
    return views


@pytest.fixture
def softras():
    """Run the command line in a process of its own: softras("fit", ...) -> CompletedProcess with text."""

    def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "softras", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)

    return run


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A real interpreter that has numpy and the engine's source but no PyTorch."""
    import venv

    import softras as package

    venv.create(tmp_path / "bare", symlinks=os.name != "nt")
    site = next((tmp_path / "bare").glob("**/site-packages"))
    for found in Path(np.__file__).parents[1].glob("numpy*"):
        (site / found.name).symlink_to(found)
    (site / "softras").symlink_to(Path(package.__file__).parent)
    return tmp_path / "bare" / "bin" / "python"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB of its own; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def setting_options():
    """Settings as options of the command line."""

    def options(settings: dict) -> list[str]:
        return [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]

    return options
