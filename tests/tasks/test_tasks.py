"""The seam of tasks: a task that one file adds runs by every way in which the engine is asked for something."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_server import Client

COUNTING = Path(__file__).parent / "counting_task.py"
COMMAND = (sys.executable, str(COUNTING))


@pytest.fixture
def engine() -> Iterator[Client]:
    client = Client((*COMMAND, "serve"))
    assert client.next()["tasks"]["count"] == ""
    yield client
    client.process.kill()
    client.process.wait()


def counting_job(folder: Path, to: int) -> Path:
    folder.mkdir()
    (folder / "count.json").write_text(json.dumps({"to": to}))
    return folder


def test_a_task_in_one_file_is_one_of_the_engine_process(engine: Client, tmp_path: Path) -> None:
    job = counting_job(tmp_path / "job", 20)
    engine.send({"type": "run", "id": 5, "task": "count", "job": str(job)})
    messages = [engine.next()]
    while messages[-1]["type"] == "progress":
        messages.append(engine.next())
    *progress, result = messages
    assert result.pop("elapsed") > 0.1
    assert result == {"type": "result", "id": 5, "status": "finished", "counted": 20, "notes": []}
    assert progress and all(message["steps"] == 20 and message["id"] == 5 for message in progress)
    assert list(job.iterdir()) == [job / "count.json"], "a task without files leaves its job as it was"


def test_it_can_be_stopped_and_no_other_task_runs_meanwhile(engine: Client, tmp_path: Path) -> None:
    job = counting_job(tmp_path / "job", 100_000)
    engine.send({"type": "run", "id": 1, "task": "count", "job": str(job)})
    engine.until("progress")
    engine.send({"type": "run", "id": 2, "task": "fit", "job": str(job)})
    while (message := engine.next())["type"] == "progress":
        pass
    assert (message["type"], message["id"]) == ("error", 2) and "a count is running" in message["message"]
    engine.send({"type": "stop", "id": 3, "of": 1})
    result = engine.until("result", 5)
    assert (result["id"], result["status"]) == (1, "stopped") and 0 < result["counted"] < 100_000
    engine.send({"type": "run", "id": 4, "task": "count", "job": str(tmp_path)})
    error = engine.next()
    assert (error["type"], error["id"], error["kind"]) == ("error", 4, "internal"), "its document cannot be read"
    deadline = time.monotonic() + 10
    while b"FileNotFoundError" not in engine.log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert re.search(rb" ERROR softras: request 4 failed\nTraceback", engine.log)
    engine.send({"type": "run", "id": 5, "task": "count", "job": str(job), "report": str(tmp_path / "report")})
    assert "the task 'count' writes no report; leave it out" in engine.next()["message"]


def test_it_is_a_command(tmp_path: Path) -> None:
    job = counting_job(tmp_path / "job", 20)
    done = subprocess.run([*COMMAND, "count", job], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["counted"], said["notes"]) == ("finished", 20, [])
    assert "100%  step 20/20  counted 20" in done.stderr
    helped = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True).stdout
    assert "count to the number in count.json" in helped and "measure" in helped


def test_ctrl_c_stops_the_command_with_what_it_has(tmp_path: Path) -> None:
    command = [*COMMAND, "count", str(counting_job(tmp_path / "job", 100_000))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "step" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert json.loads(stdout)["status"] == "stopped"


LACKING = """
import sys
import time
from softras.cli import main
from softras.tasks import TASKS, Result, State, Task
def run(document, context):
    yield Result(State({}))
TASKS["dream"] = Task("dream", "dream", lambda folder, allow: None, run, needs=("numpy", "softras-dreams"))
sys.exit(main())
"""


def test_what_a_task_needs_is_said_and_the_others_run(tmp_path: Path) -> None:
    """By the doctor, by the command, and by the engine process at its start and when it is asked."""
    command = [sys.executable, "-c", LACKING]
    sentence = (
        f"softras-dreams missing in {sys.executable}; install with '{sys.executable} -m pip install softras-dreams'."
    )
    done = subprocess.run([*command, "doctor"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"softras dream cannot run: {sentence}\n" in done.stdout
    assert "softras fit can run on this machine.\n" in done.stdout and "\nsoftras-dreams MISSING" in done.stdout
    done = subprocess.run([*command, "dream", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"softras: {sentence}\n")
    client = Client((*command, "serve"))
    hello = client.next()
    assert (hello["tasks"]["fit"], hello["tasks"]["dream"]) == ("", sentence)
    client.send({"type": "run", "id": 1, "task": "dream", "job": str(tmp_path)})
    assert client.next() == {"type": "error", "id": 1, "kind": "input", "message": sentence}
    client.process.kill()
    client.process.wait()
