"""The ways without a window: the command and the demonstration script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from .conftest import ROOT, disc_image, is_smaller, part


@pytest.fixture
def blend(ball: bpy.types.Object, tmp_path: Path) -> Path:
    """A saved file that is ready to fit, its images packed."""
    for item in bpy.context.scene.softras.views:
        item.mask.pack()
    ball.modifiers.new("Smooth", "SMOOTH").factor = 0
    path = tmp_path / "ball.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def test_command(blend: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "fitted.blend"
    report = tmp_path / "report"
    assert part("ops.command").main([str(blend), "--output", str(output), "--report", str(report)]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^IoU [01]\.", said, re.MULTILINE)) == 3
    assert re.search(r"^softras_fit: Fitted 'Icosphere' to 3 views, mean IoU [01]\.", said, re.MULTILINE)
    assert re.search(r"^softras_fit: The mesh was .*scaled by", said, re.MULTILINE)  # what the artist should know
    assert "modifiers; the fit is of the mesh without them" not in said
    assert (report / "report.html").is_file()
    bpy.ops.wm.open_mainfile(filepath=str(output))
    assert is_smaller(bpy.data.objects["Icosphere"])
    assert bpy.context.scene.softras.views[0].iou > 0.7
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert bpy.data.objects["Icosphere"].data.shape_keys is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{blend}", "--object", "Nobody"], "no mesh object 'Nobody'"),
        (["{blend}.missing"], "there is no file"),
        (["{blend}", "--output", "/nowhere/x.blend"], "its folder does not exist"),
    ],
)
def test_command_refuses(blend: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    assert part("ops.command").main([text.format(blend=blend) for text in arguments]) == 2
    assert message in capsys.readouterr().out


def test_command_hands_on_what_is_wrong_with_the_views(blend: Path, capsys: pytest.CaptureFixture) -> None:
    for view in bpy.context.scene.softras.views:
        view.mask = disc_image("Nothing", radius=0)
        view.mask.pack()
    bpy.ops.wm.save_mainfile()
    assert part("ops.command").main([str(blend)]) == 2
    assert "the mask of view 'Camera 0' is empty" in capsys.readouterr().out
    bpy.context.scene.softras.views.clear()
    bpy.ops.wm.save_mainfile()
    assert part("ops.command").main([str(blend)]) == 2
    assert "softras_fit: There are no views; add a camera" in capsys.readouterr().out


def test_command_tells_a_broken_engine_from_bad_input(
    blend: Path, preferences: bpy.types.AddonPreferences, capsys: pytest.CaptureFixture
) -> None:
    assert part("ops.command").main([str(blend), "--engine-python", "/bin/true"]) == 1
    assert "softras_fit: the engine did not start" in capsys.readouterr().out


def test_demonstration(addon_zip: Path, engine_python: str, tmp_path: Path) -> None:
    """The README's first command: install, fit the cow, leave the results."""
    script = [sys.executable, str(ROOT / "examples" / "demo_blender.py"), "--zip", str(addon_zip), "--seconds", "10"]
    environment = {name: value for name, value in os.environ.items() if name != "BLENDER_USER_RESOURCES"}
    arguments = ["--engine-python", engine_python, "--out", str(tmp_path)]
    done = subprocess.run(script + arguments, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    mean = next(line for line in done.stdout.splitlines() if line.endswith("  mean"))
    assert float(mean.split()[1]) > 0.9
    for name in ("fitted.blend", "fitted.obj", "report/report.html"):
        assert (tmp_path / name).stat().st_size > 1000
    start = (ROOT / "examples" / "data" / "spot" / "start.obj").read_text()
    fitted = (tmp_path / "fitted.obj").read_text()
    assert len(fitted.split("\nv ")) == len(("\n" + start).split("\nv "))
