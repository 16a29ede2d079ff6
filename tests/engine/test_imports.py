"""What importing costs, and what it must not pull in."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import softras as package
from softras.doctor import TORCH
from softras.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]


def modules_after(code: str) -> set[str]:
    """The top-level modules loaded once a fresh interpreter has run the code."""
    script = code + "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import softras",
        "import softras.job",
        "import softras.cli",
        "import softras.server",
        "import softras.fitting.settings",
        "from softras import camera_to_blender, camera_to_opencv, camera_to_opengl, camera_to_pytorch3d",
        "from softras import camera_from_softras_look_at as look_at; look_at((0, 0, -3), 64)",
    ],
)
def test_importing_loads_neither_torch_nor_scipy(code: str) -> None:
    assert modules_after(code).isdisjoint({"torch", "scipy", "trimesh", "PIL"})


def test_the_job_document_works_under_another_package_name() -> None:
    """Inside Blender the engine's folder is a subpackage of the extension."""
    folder = Path(package.__file__).parents[1]
    code = (
        "import sys, types\n"
        "for name in ('bl_ext', 'bl_ext.engine'):\n"
        f"    m = types.ModuleType(name); m.__path__ = [{str(folder)!r}]; sys.modules[name] = m\n"
        "import bl_ext.engine.softras.job as job\n"
        "assert job.Job.__module__ == 'bl_ext.engine.softras.job'\n"
        "assert 'softras' not in sys.modules"
    )
    assert "torch" not in modules_after(code)


def test_the_extension_and_the_engine_have_one_version() -> None:
    manifest = tomllib.loads((ROOT / "blender_softras" / "blender_manifest.toml").read_text())
    assert manifest["version"] == package.__version__


def test_the_version_of_torch_that_is_tested_is_the_one_that_users_are_told_to_install() -> None:
    assert f"torch=={TORCH}\n" in (ROOT / "tests" / "constraints.txt").read_text()
    assert set(re.findall(r"torch==([\d.]+\d)", (ROOT / "README.md").read_text())) == {TORCH}


def test_what_is_installed_with_the_engine_is_what_its_tasks_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {re.match(r"[\w-]+", dependency)[0] for dependency in project["dependencies"]}
    assert installed == {name for task in TASKS.values() for name in task.needs}


def test_type_checkers_are_told_of_the_types() -> None:
    assert (Path(package.__file__).parent / "py.typed").is_file()


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^::: softras\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(set(package.__all__) - {"__version__"})


def test_every_public_name_exists() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' OpenMP reports in other words")
@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait_unless_the_user_says_otherwise(given: dict, found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true", **given}
    done = subprocess.run(
        [sys.executable, "-c", "import softras, torch"], env=environment, capture_output=True, text=True, check=True
    )
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr
