"""The engine process dies, talks garbage or is stopped while Blender waits for it."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
import pytest

from .conftest import is_smaller, local_positions, optimize, part, positions, radius, snapshot


def run_until(fit: object, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Step the fit until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        fit.step()
        time.sleep(0.01)


def kept(fit: object) -> dict[str, object]:
    """What the engine has put into the job's folder."""
    path = fit._job.folder / "result.json"
    return json.loads(path.read_text()) if path.is_file() else {"step": 0}


def engine_pid() -> int:
    return part("prefs").start_engine(bpy.context).pid


@pytest.mark.parametrize("result", ["SHAPE_KEY", "MESH", "OBJECT"])
def test_engine_killed_in_the_middle(ball: bpy.types.Object, result: str) -> None:
    """The best that it had found is in the scene, one sentence says so, one undo takes it back, the next fit works."""
    settings = bpy.context.scene.softras
    settings.seconds = 0
    if result == "OBJECT":
        optimize("object")
        ball.location.x = 0.3
    else:
        settings.result = result
    bpy.context.view_layer.update()
    name, before = ball.name, positions(ball)
    bpy.ops.ed.undo_push(message="before")
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: kept(fit)["step"] > 0)
    os.kill(engine_pid(), signal.SIGKILL)
    with pytest.raises(
        part("engine_client").EngineError, match="the engine stopped unexpectedly; the log is .* is kept"
    ):
        fit.wait()
    assert part("session").current is None and fit.finished and fit.result["status"] == "failed"
    assert np.abs(positions(ball) - before).max() > 1e-3
    assert settings.views[0].iou == pytest.approx(fit.result["iou"][0], abs=1e-6)
    assert not fit._job.folder.exists()
    bpy.ops.ed.undo_push(message="fit")  # the user interface does this for the operator
    bpy.ops.ed.undo()
    np.testing.assert_allclose(positions(bpy.data.objects[name]), before, atol=1e-6)
    bpy.context.scene.softras.seconds = 1.5
    assert bpy.ops.softras.fit() == {"FINISHED"}


def test_engine_killed_before_it_found_anything(
    ball: bpy.types.Object, preferences: bpy.types.AddonPreferences
) -> None:
    """The scene is as before."""
    part("prefs").stop_engine()
    before, scene_before = positions(ball), snapshot(bpy.context.scene)
    fit = part("session").FitSession(bpy.context)
    os.kill(engine_pid(), signal.SIGKILL)
    with pytest.raises(part("engine_client").EngineError, match="the engine did not start"):
        run_until(fit, lambda: False)
    assert part("session").current is None
    np.testing.assert_array_equal(positions(ball), before)
    assert snapshot(bpy.context.scene) == scene_before


def test_a_script_hears_of_an_engine_that_died_and_has_its_best(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.seconds = 0
    session = part("session")

    def kill() -> None:
        while session.current is None or kept(session.current)["step"] == 0:
            time.sleep(0.01)
        os.kill(session.current._job.engine.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RuntimeError, match="the engine stopped unexpectedly"[1:]):
        bpy.ops.softras.fit()
    thread.join()
    assert radius(ball) < 0.65 - 1e-3


def start_idle_engine() -> int:
    part("prefs").start_engine(bpy.context).wait_until_ready()
    return engine_pid()


def test_an_engine_that_died_since_the_last_fit_is_replaced(ball: bpy.types.Object) -> None:
    pid = start_idle_engine()
    os.kill(pid, signal.SIGKILL)
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert is_smaller(ball) and engine_pid() != pid


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_engine_that_can_no_longer_be_asked_is_replaced(ball: bpy.types.Object) -> None:
    """Its end is not heard of yet: here, because it stands still."""
    pid = start_idle_engine()
    os.kill(pid, signal.SIGSTOP)
    part("prefs")._engine._process.stdin.close()
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert is_smaller(ball) and engine_pid() != pid


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_stopped_engine_is_noticed_and_ended(ball: bpy.types.Object) -> None:
    """One that stood still before the fit is replaced; one that stands still in its middle leaves its best."""
    pid = start_idle_engine()
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert is_smaller(ball) and engine_pid() != pid
    assert time.monotonic() - started < 60

    ball.shape_key_clear()  # a ball that matches already would be fitted too soon
    bpy.context.view_layer.update()
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: kept(fit)["step"] > 0)
    pid = engine_pid()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(part("engine_client").EngineError, match="said nothing for 8 seconds and was ended.* is kept"):
        fit.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert fit.finished


def test_a_blender_that_was_busy_elsewhere_does_not_end_its_engine(ball: bpy.types.Object) -> None:
    """Time in which nobody looked is no silence of the engine."""
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: kept(fit)["step"] > 0)
    pid = engine_pid()
    os.kill(pid, signal.SIGSTOP)
    fit.step()
    time.sleep(part("engine_client").SILENT_SECONDS + 2)
    fit.step()
    os.kill(pid, signal.SIGCONT)
    step = fit.progress["step"]
    run_until(fit, lambda: fit.progress["step"] > step)
    fit.revert()
    assert engine_pid() == pid


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("result", ["SHAPE_KEY", "MESH"])
def test_revert_is_exact(ball: bpy.types.Object, result: str, shared: bool) -> None:
    """Coordinates to the last bit, keys, their values and the active one."""
    bpy.context.scene.softras.result = result
    bpy.context.scene.softras.seconds = 0
    ball.shape_key_add(name="Basis")
    ball.shape_key_add(name="Softras").value = 0.25
    ball.shape_key_add(name="Mine").points[3].co.x += 0.125
    ball.active_shape_key_index = 2
    if shared:
        bpy.context.scene.collection.objects.link(bpy.data.objects.new("Twin", ball.data))
    bpy.context.view_layer.update()

    def state() -> tuple[object, ...]:
        keys = ball.data.shape_keys.key_blocks
        points = [np.array([point.co for point in key.points]).tobytes() for key in keys]
        values = [(key.name, key.value, key.mute, key.slider_max, key.vertex_group) for key in keys]
        return ball.data.name, ball.active_shape_key_index, points, values, local_positions(ball).tobytes()

    before, scene_before = state(), snapshot(bpy.context.scene)
    start = positions(ball)
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: np.abs(positions(ball) - start).max() > 1e-3)
    fit.revert()
    assert state() == before
    assert snapshot(bpy.context.scene) == scene_before


def test_keeping_the_best_so_far_takes_no_long_wait(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: bool(fit.iou) and fit.iou[0] > 0.7)
    fit.ask_to_stop()
    run_until(fit, lambda: fit.finished, 5)
    assert fit.result["status"] == "stopped" and fit.summary.endswith("; stopped.")
    assert radius(ball) < 0.6


def test_a_fit_right_after_a_reverted_one(ball: bpy.types.Object) -> None:
    """The late answer to the first is not taken for the second's."""
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: fit.fraction > 0)
    fit.revert()
    bpy.context.scene.softras.seconds = 3
    assert bpy.ops.softras.fit() == {"FINISHED"}
    assert is_smaller(ball)


def test_shape_keys_cleared_in_the_middle(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: fit.fraction > 0)
    ball.shape_key_clear()
    with pytest.raises(ValueError, match="'Icosphere' was edited while it was being fitted"):
        run_until(fit, lambda: fit.finished)
    bpy.context.scene.softras.seconds = 3
    assert bpy.ops.softras.fit() == {"FINISHED"}


def test_object_deleted_in_the_middle(ball: bpy.types.Object) -> None:
    bpy.context.scene.softras.seconds = 0
    fit = part("session").FitSession(bpy.context)
    run_until(fit, lambda: fit.fraction > 0)
    bpy.data.objects.remove(ball)
    with pytest.raises(ValueError, match="'Icosphere' was deleted while it was being fitted"):
        run_until(fit, lambda: False)
    assert part("session").current is None


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("echo hello", "something that is not a Softras message"),
        ("head -c 3000000 /dev/zero", "something that is not a Softras message"),
        ('echo \'{"type": "hello", "protocol": 99}\'; sleep 9', "another version of the protocol"),
        ("echo sorry >&2; exit 3", "the engine did not start: sorry; the log is"),
    ],
)
def test_garbage_from_the_engine(
    ball: bpy.types.Object, preferences: bpy.types.AddonPreferences, tmp_path: Path, output: str, message: str
) -> None:
    """A program that is not our engine stands where its Python should."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{output}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    preferences.python = str(program)
    before = snapshot(bpy.context.scene)
    with pytest.raises(RuntimeError, match=message[1:]) as caught:
        bpy.ops.softras.fit()
    assert len(str(caught.value).strip().splitlines()) == 1
    assert snapshot(bpy.context.scene) == before


def test_the_log_lies_in_a_folder_of_its_own_and_follows_no_link(
    preferences: bpy.types.AddonPreferences, tmp_path: Path
) -> None:
    part("prefs").stop_engine()
    engine = part("prefs").start_engine(bpy.context)
    assert engine.log == part("prefs").log_path() and engine.log.is_file()
    assert stat.S_IMODE(engine.log.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(engine.log.stat().st_mode) == 0o600
    victim, link = tmp_path / "victim", tmp_path / "log"
    victim.write_text("precious")
    link.symlink_to(victim)
    other = part("engine_client").Engine(engine.python, part("prefs").package_folder(), link)
    other.kill()
    assert victim.read_text() == "precious" and not link.is_symlink()
