"""Tasks other than a fit, asked for by the client that the panel uses."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .conftest import ROOT, part, read_job


def answer(engine: object, number: int, seconds: float = 60) -> dict[str, Any]:
    """The result of a run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in engine.messages():
            if message["id"] == number and message["type"] != "progress":
                assert message["type"] == "result", message
                return message
        time.sleep(0.01)
    raise AssertionError("no answer")


def test_the_client_measures_what_it_fitted(ball: bpy.types.Object, tmp_path: Path) -> None:
    """With the numbers of the fit, to the bit; the log says when it did what."""
    engine = part("prefs").start_engine(bpy.context)
    engine.wait_until_ready()
    bpy.context.scene.softras.seconds = 0.1
    job = read_job(bpy.context.scene).job
    job.save(tmp_path / "fit")
    fitted = answer(engine, engine.run("fit", tmp_path / "fit"))
    job.mesh.vertices = np.load(tmp_path / "fit" / fitted["vertices"])
    job.save(tmp_path / "measure")
    number = engine.run("measure", tmp_path / "measure", report=str(tmp_path / "report"))
    measured = answer(engine, number)
    assert measured["iou"] == fitted["iou"] and measured["mean_iou"] == fitted["mean_iou"]
    assert fitted["status"] == "out of time" and measured["status"] == "finished"
    assert (tmp_path / "report" / "report.html").is_file()
    log = engine.log.read_text()
    assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} INFO softras: request {number}: finished$", log, re.M)


def test_a_task_of_one_file_can_be_asked_for_and_stopped(installed: None, engine_python: str, tmp_path: Path) -> None:
    """The engine's own package, and a Python that adds the task to it."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{engine_python}\n"
        "import runpy, sys\n"
        "sys.path.insert(0, sys.argv[4])\n"  # after -I -c COMMAND
        "sys.argv[1:] = sys.argv[5:]\n"
        f"runpy.run_path({str(ROOT / 'tests' / 'tasks' / 'counting_task.py')!r}, run_name='__main__')\n"
    )
    python.chmod(0o755)
    engine = part("engine_client").Engine(python, part("prefs").package_folder(), tmp_path / "log")
    engine.wait_until_ready()
    (tmp_path / "count.json").write_text('{"to": 30}')
    assert answer(engine, engine.run("count", tmp_path))["counted"] == 30
    (tmp_path / "count.json").write_text('{"to": 100000}')
    number = engine.run("count", tmp_path)
    while not any(message["type"] == "progress" for message in engine.messages()):
        time.sleep(0.01)
    engine.stop(number)
    stopped = answer(engine, number, 5)
    assert stopped["status"] == "stopped" and 0 < stopped["counted"] < 100000
    engine.kill()
