"""The archive: the same bytes for the same tree, valid for Blender, complete; and the engine it brings."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import bpy
import pytest

from .conftest import MODULE, ROOT, part


def test_the_archive_is_reproducible(addon_zip: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "build_addon.py"), "--out", str(tmp_path)], check=True)
    again = tmp_path / addon_zip.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(addon_zip.read_bytes()).digest()


def test_blenders_own_validator_accepts_the_archive(addon_zip: Path) -> None:
    tool = Path(bpy.utils.system_resource("SCRIPTS"), "addons_core", "bl_pkg", "cli", "blender_ext.py")
    done = subprocess.run([sys.executable, str(tool), "validate", str(addon_zip)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_archive_is_complete_and_clean(addon_zip: Path) -> None:
    names = zipfile.ZipFile(addon_zip).namelist()
    assert {"blender_manifest.toml", "__init__.py", "engine/softras/job.py", "engine/softras/server.py"} <= set(names)
    assert {"LICENSE", "engine/LICENSE"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc") or "/." in name]
    built = [path.name for path in (ROOT / "engine" / "softras" / "_native").glob("softras-*")]
    assert built, "build the native libraries first"
    assert {f"engine/softras/_native/{name}" for name in built} <= set(names)


def test_enabling_and_drawing_start_no_process_and_load_no_torch(preferences: bpy.types.AddonPreferences) -> None:
    part("prefs").stop_engine()
    bpy.ops.preferences.addon_disable(module=MODULE)
    bpy.ops.preferences.addon_enable(module=MODULE)
    bpy.context.preferences.addons[MODULE].preferences.python = os.environ["SOFTRAS_PYTHON"]
    assert "torch" not in sys.modules
    assert part("prefs").status() == ("Engine starts with the first fit", "RADIOBUT_OFF")


def test_test_engine_says_what_it_runs_on(
    preferences: bpy.types.AddonPreferences, capfd: pytest.CaptureFixture
) -> None:
    assert bpy.ops.softras.test_engine() == {"FINISHED"}
    said = capfd.readouterr().out
    assert "Engine ready: cpu, native. Softras " in said
    assert "torch 2." in said


def test_disabling_ends_the_engine_and_enabling_works_again(preferences: bpy.types.AddonPreferences) -> None:
    python = preferences.python
    bpy.ops.softras.test_engine()
    pid = part("prefs").start_engine(bpy.context).pid
    bpy.ops.preferences.addon_disable(module=MODULE)
    assert not Path(f"/proc/{pid}").exists()
    assert not hasattr(bpy.types.Scene, "softras")
    bpy.ops.preferences.addon_enable(module=MODULE)
    bpy.context.preferences.addons[MODULE].preferences.python = python
    assert bpy.ops.softras.test_engine() == {"FINISHED"}


def test_the_engine_ends_when_blender_is_killed(addon_zip: Path, engine_python: str, tmp_path: Path) -> None:
    """A Blender that dies without a goodbye leaves no process behind."""
    script = tmp_path / "die.py"
    script.write_text(
        "import bpy, os, signal, sys\n"
        f"archive = {str(addon_zip)!r}\n"
        "bpy.ops.extensions.package_install_files(filepath=archive, repo='user_default', enable_on_install=True)\n"
        f"bpy.context.preferences.addons[{MODULE!r}].preferences.python = {engine_python!r}\n"
        "bpy.ops.softras.test_engine()\n"
        f"prefs = __import__('importlib').import_module('{MODULE}.prefs')\n"
        "print('PID', prefs.start_engine(bpy.context).pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"BLENDER_USER_RESOURCES": str(tmp_path / "resources")}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    pid = int(next(line for line in done.stdout.splitlines() if line.startswith("PID")).split()[1])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
