"""blender --enable-event-simulate -P drive.py -- OUT: work the panel like an artist, with mouse and keyboard.

A generator is stepped by a timer: each `yield SECONDS` lets Blender handle the events and draw. Buttons are found
without knowing the layout: hover, and ask Blender which operator is under the mouse. Every wait has a condition.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from make_scene import make_arm, make_scene

OUT = Path(sys.argv[-1])
Steps = Generator[float, None, None]
EXTENSION = "bl_ext.user_default.softras"
results: list[tuple[bool, str]] = []


def part(name: str):
    """A module of the extension."""
    return importlib.import_module(f"{EXTENSION}.{name}")


def kept_step() -> int:
    """The step of the best state that the running fit has in its folder; 0 is the start."""
    path = part("session").current._job.folder / "result.json"
    return json.loads(path.read_text())["step"] if path.is_file() else 0


def check(condition: bool, label: str) -> None:
    """Count and print one expectation."""
    results.append((bool(condition), label))
    print("ok" if condition else "FAILED", label, flush=True)


def window() -> bpy.types.Window:
    return bpy.context.window_manager.windows[0]


def viewport(kind: str) -> tuple[bpy.types.Area, bpy.types.Region]:
    """The 3D viewport and its region of that kind."""
    area = next(area for area in window().screen.areas if area.type == "VIEW_3D")
    return area, next(region for region in area.regions if region.type == kind)


def centre() -> tuple[int, int]:
    region = viewport("WINDOW")[1]
    return region.x + region.width // 3, region.y + region.height // 2


def move(x: int, y: int) -> None:
    window().event_simulate(type="MOUSEMOVE", value="NOTHING", x=x, y=y)


def click(x: int, y: int) -> Steps:
    """Go there, let Blender see it, and click."""
    move(x, y)
    yield 0.15
    for value in ("PRESS", "RELEASE"):
        window().event_simulate(type="LEFTMOUSE", value=value, x=x, y=y)
    yield 0.15


def key(name: str, **modifiers: bool) -> None:
    for value in ("PRESS", "RELEASE"):
        x, y = centre()
        window().event_simulate(type=name, value=value, x=x, y=y, **modifiers)


def picture(name: str) -> None:
    """A grab of the screen; Blender's own screenshots are black under software OpenGL."""
    subprocess.run(["import", "-window", "root", str(OUT / f"{name}.png")], check=True)


def until(condition: Callable[[], bool], label: str, seconds: float = 90) -> Steps:
    """Wait for the condition and count it as an expectation."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        yield 0.05
    if not condition():
        picture(f"failed_{len(results)}")
    check(condition(), label)


def click_tab(name: str) -> Steps:
    """Click down the sidebar's tabs until the one of that name is open."""
    yield 0.4
    region = viewport("UI")[1]
    for y in range(region.y + region.height - 10, region.y, -20):
        yield from click(region.x + region.width - 14, y)
        if region.active_panel_category == name:
            return


def command_under_mouse() -> str:
    """The operator of the button that Blender highlights, as Python; empty without one."""
    area, region = viewport("UI")
    manager = bpy.context.window_manager
    manager.clipboard = ""
    with bpy.context.temp_override(window=window(), area=area, region=region):
        if bpy.ops.ui.copy_python_command_button.poll():
            bpy.ops.ui.copy_python_command_button()
    return manager.clipboard


def find_button(operator: str) -> Generator[float, None, tuple[int, int]]:
    """Where in the sidebar the button of an operator is, from top to bottom; the visit ends where there is none."""
    region = viewport("UI")[1]
    move(*centre())
    yield 0.3
    for y in range(region.y + region.height - 8, region.y, -8):
        x = region.x + region.width // 2
        move(x, y)
        yield 0.03
        if operator in command_under_mouse():
            yield 0.4  # the highlight may lag behind the mouse
            if operator in command_under_mouse():
                check(True, f"the button {operator} is found")
                return x, y - 6
    raise LookupError(f"no button {operator} in the sidebar")


def shown(target: bpy.types.Object) -> np.ndarray:
    """(V, 3) what is seen of the object."""
    evaluated = target.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    flat = np.empty(len(evaluated.vertices) * 3, dtype=np.float32)
    evaluated.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def running() -> bool:
    return part("session").current is not None


def mean_iou() -> float:
    return float(np.mean([item.iou for item in bpy.context.scene.softras.views]))


def pose_steps() -> Steps:
    """A pose is fitted by a click, reverted, fitted again and undone in one step; then every part of the panel."""
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    bpy.context.scene.softras.views.clear()
    make_arm(OUT)
    bpy.ops.ed.undo_push(message="Post made")

    def turn() -> np.ndarray:
        return np.array(bpy.data.objects["Bones"].pose.bones["Upper"].rotation_quaternion)

    rest, bent = np.array([1.0, 0, 0, 0]), np.array([1, 0.3, 0, 0.25]) / np.linalg.norm([1, 0.3, 0, 0.25])

    def is_bent() -> bool:
        return bool(abs(turn() @ bent) / np.linalg.norm(turn()) > 0.999)

    fit_button = yield from find_button("softras.fit")
    yield from click(*fit_button)
    yield from until(running, "a click on Fit with Pose ticked starts a fit")
    yield from until(lambda: not np.array_equal(turn(), rest), "the bone turns while it is fitted")
    engine = part("prefs").start_engine(bpy.context).pid
    os.kill(engine, signal.SIGSTOP)  # so small a fit may end before the key is pressed
    key("ESC")
    yield from until(lambda: not running(), "Esc ends it")
    os.kill(engine, signal.SIGCONT)
    check(np.array_equal(turn(), rest), "and puts the pose back exactly")
    yield from click(*fit_button)
    yield from until(running, "the next click fits again")
    yield from until(lambda: not running(), "to the end", 120)
    check(is_bent(), f"the armature is posed as the masks show it (mean IoU {mean_iou():.3f})")
    yield 0.5
    picture("9_posed")
    move(*centre())
    yield 0.1
    key("Z", ctrl=True)
    yield from until(lambda: np.array_equal(turn(), rest), "one Ctrl-Z undoes the pose")
    check(len(bpy.context.scene.softras.views) == 3, "and nothing more")
    key("Z", ctrl=True, shift=True)
    yield from until(is_bent, "Ctrl-Shift-Z brings it back")
    key("Z", ctrl=True)
    yield from until(lambda: np.array_equal(turn(), rest), "Ctrl-Z again")

    # A sequence of two frames that show the same; the second is shown while it is fitted.
    settings = bpy.context.scene.softras
    for number, item in enumerate(settings.views):
        shutil.copy(OUT / f"post{number}_0001.png", OUT / f"post{number}_0002.png")
        item.mask.source = "SEQUENCE"
    settings.sequence, settings.frame_last = True, 2
    bpy.context.scene.frame_set(2)
    bpy.ops.ed.undo_push(message="Sequence made")
    fit_button = yield from find_button("softras.fit")
    yield from click(*fit_button)
    yield from until(running, "a click fits the sequence")
    yield from until(lambda: not np.array_equal(turn(), rest), "the bone turns")
    yield from until(lambda: not running(), "to the end", 120)
    check(bpy.context.scene.frame_current == 2 and is_bent(), "the current frame is still the current one, and posed")
    check(len(bpy.data.actions) == 1, "there is an action")
    bpy.context.scene.frame_set(1)
    check(is_bent(), "with the pose of the other frame")
    yield 0.3
    key("Z", ctrl=True)
    yield from until(lambda: not bpy.data.actions, "one Ctrl-Z undoes it")
    settings = bpy.context.scene.softras
    settings.optimize.object = settings.optimize.cameras = True
    settings.views[0].landmarks.add().vertex = 7
    bpy.data.objects["Bones"].lock_scale = True, True, True
    viewport("UI")[1].tag_redraw()
    yield 0.8
    picture("10_every_part")


def steps() -> Steps:
    """The whole visit."""
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    name = make_scene().name
    scene = bpy.context.scene
    scene.softras.seconds = 0
    bpy.ops.ed.undo_push(message="Scene made")

    def target() -> bpy.types.Object:
        return bpy.data.objects[name]  # undo makes new ones

    start = shown(target())

    def moved() -> bool:
        return bool(np.abs(shown(target()) - start).max() > 1e-3)

    move(*centre())
    yield 0.2
    bpy.context.preferences.view.smooth_view = 0
    area, region = viewport("WINDOW")
    with bpy.context.temp_override(window=window(), area=area, region=region):
        bpy.ops.view3d.view_selected()
    key("N")
    yield from until(lambda: viewport("UI")[1].width > 10, "the N key opens the sidebar")
    yield from click_tab("Softras")
    check(viewport("UI")[1].active_panel_category == "Softras", "a click opens the Softras tab")
    yield 0.6
    picture("1_ready")

    fit_button = yield from find_button("softras.fit")

    bpy.ops.softras.test_engine()
    check("starting" in part("prefs").status()[0], "Test Engine does not wait")
    yield from until(lambda: part("prefs").status()[0].startswith("Engine ready"), "the engine gets ready")

    # Fit, watch, revert.
    yield from click(*fit_button)
    yield from until(running, "a click on Fit starts a fit")
    yield from until(moved, "the mesh moves while it is fitted")
    first = shown(target())
    yield from until(lambda: bool(np.abs(shown(target()) - first).max() > 1e-4), "and moves on")
    yield 0.5
    picture("2_running")
    key("ESC")
    yield from until(lambda: not running(), "Esc ends the fit")
    check(target().data.shape_keys is None and np.array_equal(shown(target()), start), "Esc puts the mesh back exactly")
    yield 0.3
    picture("3_reverted")

    # Fit, keep the best so far.
    yield from click(*fit_button)
    yield from until(lambda: running() and moved(), "the next click fits again")
    yield from until(lambda: min(part("session").current.iou or [0]) > 0.88, "the fit improves", 120)
    key("RET")
    asked = time.monotonic()
    yield from until(lambda: not running(), "Enter ends the fit")
    seconds = time.monotonic() - asked
    check(seconds < 5, f"soon ({seconds:.2f} s)")  # half a second of it is the engine's; the rest is software drawing
    keys = target().data.shape_keys
    check(keys is not None and "Softras" in keys.key_blocks and moved(), "Enter keeps the best as a shape key")
    check(mean_iou() > 0.88, f"each view has its IoU (mean {mean_iou():.3f})")
    yield 0.5
    picture("4_kept")

    # Look through a camera: the mesh lies on the photograph. The scene's own camera stays.
    camera = bpy.context.scene.camera
    area, region = viewport("WINDOW")
    with bpy.context.temp_override(window=window(), area=area, region=region):
        bpy.ops.softras.look_through(index=2)
    yield 0.5
    check(area.spaces.active.region_3d.view_perspective == "CAMERA", "the viewport looks through the view's camera")
    check(bpy.context.scene.camera == camera, "the scene's camera stays")
    picture("5_look_through")

    # Undo, redo.
    kept = shown(target())
    move(*centre())
    yield 0.1
    key("Z", ctrl=True)
    yield from until(lambda: target().data.shape_keys is None, "one Ctrl-Z undoes the fit")
    check(len(bpy.context.scene.softras.views) == 12 and not moved(), "and nothing more")
    key("Z", ctrl=True, shift=True)
    yield from until(lambda: target().data.shape_keys is not None, "Ctrl-Shift-Z brings it back")
    check(np.abs(shown(target()) - kept).max() < 1e-6, "as it was")
    key("Z", ctrl=True)
    yield from until(lambda: target().data.shape_keys is None, "Ctrl-Z again")

    # The view can be turned while a fit runs; other keys wait.
    yield from click(*fit_button)
    yield from until(lambda: running() and moved(), "a fit after an undo")
    key("X")
    key("DEL")
    yield 0.3
    check(name in bpy.data.objects and running(), "keys that would edit do nothing meanwhile")

    # The engine dies.
    yield from until(lambda: kept_step() > 0, "something better than the start is kept")
    os.kill(part("prefs").start_engine(bpy.context).pid, signal.SIGKILL)
    yield from until(lambda: not running(), "a killed engine ends the fit")
    check(moved(), "the best that it had found is kept")
    check("stopped unexpectedly" in part("prefs").status()[0], "the panel says what happened")
    yield 0.5
    picture("6_engine_killed")
    key("ESC")  # the error's popup, if it is open
    yield 0.2
    key("Z", ctrl=True)
    yield from until(lambda: target().data.shape_keys is None and not moved(), "one Ctrl-Z takes it back")
    fit_button = yield from find_button("softras.fit")
    yield from click(*fit_button)
    yield from until(running, "the next click fits again")
    yield from until(moved, "with a new engine")
    key("ESC")
    yield from until(lambda: not running(), "and ends")

    # The extension is disabled, and another file opened, in the middle of a fit.
    python = part("prefs").get(bpy.context).python
    fit_button = yield from find_button("softras.fit")  # where it is now that the panel shows no error
    yield from click(*fit_button)
    yield from until(lambda: running() and moved(), "a fit to be interrupted")
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    yield 0.5
    check(not moved() and target().data.shape_keys is None, "disabling the extension puts the mesh back")
    bpy.ops.preferences.addon_enable(module=EXTENSION)
    part("prefs").get(bpy.context).python = python  # Blender forgets the preferences of what is disabled
    yield from until(lambda: bool(bpy.ops.softras.fit.poll()), "and it can be enabled again")
    fit_button = yield from find_button("softras.fit")
    scene_file = OUT / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(scene_file), copy=True)
    yield from click(*fit_button)
    yield from until(lambda: running() and moved(), "a fit before another file is opened")
    bpy.ops.wm.open_mainfile(filepath=str(scene_file))
    yield 1.0
    check(not running() and not moved(), "opening a file ends the fit")
    fit_button = yield from find_button("softras.fit")
    yield from click(*fit_button)
    yield from until(lambda: running() and moved(), "and fits")
    key("ESC")
    yield from until(lambda: not running(), "and ends again")

    # The reason for a grey button.
    for item in bpy.context.scene.softras.views:
        item.enabled = False
    viewport("UI")[1].tag_redraw()
    yield 0.5
    check(not bpy.ops.softras.fit.poll(), "without views the button is grey")
    picture("7_no_views")

    yield from pose_steps()

    bpy.ops.softras.open_preferences()
    yield 1.5
    picture("8_preferences")

    (OUT / "engine.pid").write_text(str(part("prefs").start_engine(bpy.context).pid))


def tick() -> float | None:
    """One step; at the end quit as a user does, with the exit status in the results."""
    try:
        return next(visit)
    except StopIteration:
        pass
    except Exception:
        traceback.print_exc()
        results.append((False, "the visit ended early"))
    failed = sum(not good for good, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    if failed:
        sys.stdout.flush()
        os._exit(1)
    bpy.ops.wm.quit_blender()
    return None


visit = steps()
bpy.app.timers.register(tick, first_interval=1.0, persistent=True)
