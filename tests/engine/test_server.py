"""`softras serve`, as a real process: it answers, it can be stopped, and it never outlives who started it."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_fits import ENDLESS, QUICK, QUICK_NEW

from softras import load_mesh, load_views
from softras.job import PROTOCOL, Job

SERVE = (sys.executable, "-m", "softras", "serve")


class Client:
    """An engine process and its messages, read by a thread."""

    def __init__(self, command: tuple[str, ...] = SERVE, **options: Any) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **options)
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.log = b""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_log, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)

    def _read_log(self) -> None:
        for line in self.process.stderr:
            self.log += line

    def send(self, message: dict[str, Any] | bytes) -> None:
        data = message if isinstance(message, bytes) else json.dumps({"protocol": PROTOCOL, **message}).encode() + b"\n"
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def fit(self, number: int, folder: Path) -> None:
        self.send({"type": "run", "id": number, "task": "fit", "job": str(folder)})

    def next(self, seconds: float = 30) -> dict[str, Any]:
        """The next message that is no heartbeat."""
        deadline = time.monotonic() + seconds
        while True:
            message = json.loads(self.lines.get(timeout=max(0.01, deadline - time.monotonic())))
            if message["type"] != "alive":
                return message

    def until(self, kind: str, seconds: float = 60) -> dict[str, Any]:
        """The next message of a type; those before it are dropped."""
        deadline = time.monotonic() + seconds
        while (message := self.next(max(0.01, deadline - time.monotonic())))["type"] != kind:
            assert message["type"] != "error", message
        return message

    def ended_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@pytest.fixture
def engine() -> Iterator[Client]:
    client = Client()
    assert client.next()["type"] == "hello"
    yield client
    client.process.kill()
    client.process.wait()


def save_job(folder: Path, spot: Path, **settings: Any) -> Path:
    Job(load_views(spot)[:4], load_mesh(spot / "start.obj"), settings=settings).save(folder)
    return folder


@pytest.fixture
def job(tmp_path: Path, spot: Path) -> Path:
    """A fit of a few seconds."""
    return save_job(tmp_path / "job", spot, **QUICK)


@pytest.fixture
def long_job(tmp_path: Path, spot: Path) -> Path:
    """A fit that nobody waits for."""
    return save_job(tmp_path / "long", spot, **ENDLESS)


def best(folder: Path) -> np.ndarray:
    return np.load(folder / "best.npy", allow_pickle=False)


def test_hello_says_what_runs_and_why() -> None:
    client = Client()
    hello = client.next()
    client.process.kill()
    assert {"type", "protocol", "softras", "python", "torch", "device", "backend", "reason", "tasks"} == set(hello)
    assert hello["protocol"] == 2 and hello["device"] in ("cpu", "cuda")
    assert hello["python"] == ".".join(map(str, sys.version_info[:3]))
    assert hello["reason"] or hello["device"] == "cuda"
    assert hello["tasks"]["fit"] == "", "it lacks nothing"


def test_a_fit_reports_progress_and_ends_with_a_better_mesh(engine: Client, job: Path) -> None:
    start = np.load(job / "vertices.npy")
    engine.fit(7, job)
    messages = [engine.next()]
    while messages[-1]["type"] == "progress":
        messages.append(engine.next())
    *progress, result = messages
    assert result["type"] == "result" and result["status"] == "finished"
    assert all(message["id"] == 7 for message in messages)
    assert len(progress) > 3
    assert all(0 <= message["step"] <= message["steps"] for message in progress)
    assert np.isfinite([value for message in progress for value in message["loss"].values()]).all()
    assert progress[-1]["loss"]
    assert any(message["preview"] == "preview.npy" for message in progress)
    assert np.load(job / "preview.npy").shape == start.shape
    assert len(result["iou"]) == 4 and result["mean_iou"] == pytest.approx(np.mean(result["iou"]))
    assert result["mean_iou"] > 0.85
    assert result["vertices"] == "best.npy" and best(job).shape == start.shape
    assert np.abs(best(job) - start).max() > 0.01
    kept = json.loads((job / "result.json").read_text())
    assert {"type": "result", "id": 7, **kept} == result
    assert not list(job.rglob("*.part"))


def test_a_stop_is_answered_soon_with_the_best_so_far(engine: Client, long_job: Path) -> None:
    for number in (1, 11, 21):
        engine.fit(number, long_job)
        before = engine.until("progress")
        time.sleep(0.3 * (number // 10))
        engine.send({"type": "stop", "id": number + 1, "of": number})
        result = engine.until("result", 5)
        assert (result["id"], result["status"]) == (number, "stopped")
        assert before["id"] == number
        assert np.isfinite(best(long_job)).all() and best(long_job).shape == (2930, 3)
    assert result["mean_iou"] is not None and result["mean_iou"] > 0.6


def test_a_stop_before_the_first_step_keeps_the_start(engine: Client, long_job: Path) -> None:
    engine.fit(1, long_job)
    engine.send({"type": "stop", "id": 2, "of": 1})
    result = engine.until("result", 5)
    assert (result["id"], result["status"], result["vertices"]) == (1, "stopped", "best.npy")
    assert best(long_job).shape == (2930, 3)


def test_after_a_stop_the_next_fit_has_its_own_answers(engine: Client, long_job: Path, job: Path) -> None:
    engine.fit(1, long_job)
    engine.until("progress")
    engine.send({"type": "stop", "id": 2, "of": 1})
    engine.until("result")
    engine.fit(3, job)
    message = {"type": ""}
    while message["type"] != "result":
        message = engine.next()
        assert message["id"] == 3
    assert message["status"] == "finished"


def test_a_stop_that_comes_too_late_changes_nothing(engine: Client, job: Path) -> None:
    engine.fit(1, job)
    engine.until("result")
    engine.send({"type": "stop", "id": 2, "of": 1})
    engine.send({"type": "stop", "id": 3, "of": 99})
    engine.fit(4, job)
    result = engine.until("result")
    assert (result["id"], result["status"]) == (4, "finished")


def test_a_second_fit_is_refused_while_one_runs(engine: Client, long_job: Path, job: Path) -> None:
    engine.fit(1, long_job)
    engine.until("progress")
    engine.fit(2, job)
    while (message := engine.next())["type"] == "progress":
        assert message["id"] == 1
    assert (message["type"], message["id"], message["kind"]) == ("error", 2, "input")
    assert "a fit is running" in message["message"]
    assert engine.until("progress")["id"] == 1


GARBAGE = [
    b"garbage\n",
    b"\xff\xfe\x00\n",
    b"\n",
    b"[]\n",
    b'{"type": 7}\n',
    b"{" * 3_000_000 + b"\n",
    b'{"type": "run", "id": 5}\n',
    b'{"type": "run", "id": 5, "protocol": 1, "task": "fit", "job": "x"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "fit"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "job": "/nowhere"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "dance", "job": "/nowhere"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": ["fit"], "job": "/nowhere"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "fit", "job": "x", "report": 7}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "fit", "job": "/nowhere"}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "fit", "job": "\\u0000"}\n',
    b'{"type": "dance", "id": 5, "protocol": 2}\n',
    b'{"type": "run", "id": 5, "protocol": 2, "task": "fit", "job": "\\ud800"}\n',
    *(
        b'{"type": "run", "id": %b, "protocol": 2, "task": "fit", "job": "/nowhere"}\n' % number
        for number in (b"NaN", b"[5]", b"{}", b"true", b"1e999", b"0.5", b"9" * 101, b'"' + b"x" * 101 + b'"')
    ),
]


def test_garbage_is_answered_and_the_engine_goes_on(engine: Client, job: Path) -> None:
    for line in GARBAGE:
        engine.send(line)
        error = engine.next()
        assert (error["type"], error["kind"]) == ("error", "input"), line[:80]
        assert error["id"] == (5 if b'"id": 5' in line else None)
        assert error["message"].endswith(".") and "\n" not in error["message"]
    engine.fit(6, job)
    assert engine.until("result")["id"] == 6


def test_each_request_is_answered_once(engine: Client, long_job: Path, job: Path) -> None:
    """Stops before the start, twice, of what does not run; each fit has one answer."""
    for number in range(1, 4):
        engine.fit(number, long_job)
        for _ in range(number % 3 + 1):
            engine.send({"type": "stop", "id": 100 + number, "of": number})
        engine.send({"type": "stop", "id": 200, "of": [number]})
        result = engine.until("result")
        assert (result["id"], result["status"], result["vertices"]) == (number, "stopped", "best.npy")
    engine.fit(99, job)
    assert engine.until("result")["id"] == 99


@pytest.mark.parametrize("end", [b'{"type": "fi', b"garbage", b"{" * 2_000_000, b'{"type": "dance", "protocol": 2}'])
def test_stdin_that_ends_in_the_middle_of_a_line(engine: Client, end: bytes) -> None:
    engine.send(end)
    engine.process.stdin.close()
    assert engine.next()["type"] == "error"
    assert engine.ended_within(10) and engine.process.returncode == 0


HANGING = """
import sys, time
from dataclasses import replace
from softras.cli import main
from softras.tasks import TASKS
fit = TASKS["fit"]
def hang(document, context):
    yield next(fit.run(document, context))
    time.sleep(1000)  # as a library that waits for something
TASKS["fit"] = replace(fit, run=hang)
sys.exit(main(["serve"]))
"""


def test_a_fit_that_hangs_has_no_heartbeat_and_is_given_up_with_its_process(long_job: Path) -> None:
    client = Client((sys.executable, "-c", HANGING))
    client.until("hello")
    client.fit(1, long_job)
    client.until("progress")
    deadline = time.monotonic() + 30
    with pytest.raises(queue.Empty):  # at last there are none
        while time.monotonic() < deadline:
            assert json.loads(client.lines.get(timeout=5))["type"] == "alive"
    client.send({"type": "stop", "id": 2, "of": 1})
    assert client.until("result")["status"] == "stopped"
    client.fit(3, long_job)
    error = client.next(60)
    assert (error["type"], error["id"], error["kind"]) == ("error", 3, "stuck")
    assert "start the engine anew." in error["message"]
    assert client.ended_within(10) and client.process.returncode == 3


TALKING = """
import sys, threading, time
from dataclasses import replace
import softras.run
from softras.cli import main
really = softras.run.run
def run(task, document, context):
    for event in really(task, document, replace(context, stopped=lambda: False)):
        yield event
        if context.stopped():
            break
    end = time.monotonic() + 1.5  # as a step that takes long, longer than a cancel waits
    while time.monotonic() < end:
        time.sleep(0.02)
        yield event
    raise RuntimeError("too late to be told")
softras.run.run = run
sys.exit(main(["serve"]))
"""


def test_nothing_is_said_of_a_fit_that_is_answered(long_job: Path) -> None:
    """Neither how it goes on nor how it fails."""
    client = Client((sys.executable, "-c", TALKING))
    client.until("hello")
    client.fit(1, long_job)
    client.until("progress")
    client.send({"type": "stop", "id": 2, "of": 1})
    assert client.until("result")["status"] == "stopped"
    with pytest.raises(queue.Empty):
        client.next(4)
    assert b"too late to be told" in client.log, "it went on and failed"
    client.process.stdin.close()
    assert client.ended_within(5)


def test_a_fit_that_works_has_a_heartbeat(engine: Client, long_job: Path) -> None:
    engine.fit(1, long_job)
    deadline = time.monotonic() + 60
    while (message := json.loads(engine.lines.get(timeout=60)))["type"] != "alive":
        assert message["type"] == "progress" and time.monotonic() < deadline
    assert message["id"] == 1
    engine.send({"type": "stop", "id": 2, "of": 1})
    engine.until("result")
    with pytest.raises(queue.Empty):
        engine.lines.get(timeout=5)  # nothing to say between fits


def test_wrong_settings_are_the_users_error(engine: Client, tmp_path: Path, spot: Path) -> None:
    wrong = [{"mode": "magic"}, {"speed": 3}, {"mesh": 1}, {"schedule": 5}, {"batch": "many"}, {"seed": "x"}]
    for number, settings in enumerate(wrong):
        engine.fit(number, save_job(tmp_path / "job", spot, **settings))
        error = engine.next()
        assert (error["type"], error["id"], error["kind"]) == ("error", number, "input"), (settings, error)


@pytest.mark.parametrize("running", [False, True])
def test_the_end_of_stdin_ends_the_engine_at_once(engine: Client, long_job: Path, running: bool) -> None:
    if running:
        engine.fit(1, long_job)
        engine.until("progress")
    engine.process.stdin.close()
    assert engine.ended_within(0.5)
    assert engine.process.returncode == 0
    if running:
        assert best(long_job).shape == (2930, 3)


PARENT = """
import subprocess, sys, time
engine = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
engine.stdout.readline()
sibling = subprocess.Popen(["sleep", "60"], close_fds=False, stdin=engine.stdin) if sys.argv[1] == "held" else None
engine.stdin.write(sys.stdin.buffer.readline()); engine.stdin.flush()
engine.stdout.readline()
print(engine.pid, sibling.pid if sibling else 0, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("pipe", ["closed", "held"])
@pytest.mark.parametrize("busy", [True, False])
def test_the_engine_dies_with_a_killed_parent(long_job: Path, pipe: str, busy: bool) -> None:
    """Also when another child of the parent holds the engine's stdin open, and when it has nothing to say."""
    kind = "run" if busy else "nothing"
    request = json.dumps({"type": kind, "id": 1, "protocol": PROTOCOL, "task": "fit", "job": str(long_job)})
    command = [sys.executable, "-c", PARENT, pipe, *SERVE]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    parent.stdin.write(request.encode() + b"\n")
    parent.stdin.flush()
    engine, sibling = map(int, parent.stdout.readline().split())
    assert running(engine)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while running(engine) and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = running(engine)
    if sibling:
        os.kill(sibling, signal.SIGKILL)
    assert not alive, "the engine outlived its parent"


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_libraries_print_goes_to_the_log(job: Path) -> None:
    noise = (
        "import os, sys, threading, time\n"
        "from softras.cli import main\n"
        "def noisy():\n"
        "    while True:\n"
        "        print('a library says hello'); os.write(1, b'so does C\\n'); time.sleep(0.002)\n"
        "def later():\n"
        "    time.sleep(0.3); noisy()\n"
        "threading.Thread(target=later, daemon=True).start()\n"
        "sys.exit(main(['serve']))\n"
    )
    client = Client((sys.executable, "-c", noise))
    assert client.next()["type"] == "hello"
    client.fit(1, job)
    assert client.until("result")["status"] == "finished"
    client.process.stdin.close()
    assert client.ended_within(1)
    assert b"a library says hello" in client.log and b"so does C" in client.log
    # Not from the beginning of a line: a library's line and its end are written one after the other.
    when = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO softras: request 1: "
    assert re.search(when + b"fit of " + os.fsencode(job), client.log)
    assert re.search(when + b"finished", client.log)


def test_an_interpreter_without_pytorch_says_so(bare_python: Path) -> None:
    client = Client((str(bare_python), "-m", "softras", "serve"))
    error = client.next()
    assert (error["type"], error["id"], error["kind"]) == ("error", None, "input")
    assert error["message"].startswith("PyTorch is not installed in") and "pip install torch==" in error["message"]
    assert client.ended_within(2) and client.process.returncode == 2


def test_a_full_disk_is_one_sentence_and_the_engine_goes_on(
    engine: Client, small_disk: Path, spot: Path, job: Path
) -> None:
    folder = save_job(small_disk / "job", spot, **ENDLESS)
    filler = small_disk / "filler"
    with pytest.raises(OSError), open(filler, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    engine.fit(1, folder)
    while (message := engine.next())["type"] == "progress":
        pass
    assert (message["type"], message["id"], message["kind"]) == ("error", 1, "input")
    assert "cannot write" in message["message"] and "the disk is full; free some space" in message["message"]
    assert not list(folder.rglob("*.part"))
    engine.fit(2, job)
    assert engine.until("result")["id"] == 2


def test_a_job_folder_that_vanishes_is_one_sentence(engine: Client, long_job: Path) -> None:
    engine.fit(1, long_job)
    engine.until("progress")
    long_job.rename(long_job.with_name("moved"))
    while (message := engine.next())["type"] == "progress":
        pass
    assert (message["type"], message["kind"]) == ("error", "input")
    assert "cannot write" in message["message"]


def test_a_reconstruction_names_its_faces(engine: Client, tmp_path: Path, spot: Path) -> None:
    Job(load_views(spot), settings=QUICK_NEW).save(tmp_path / "new")
    engine.fit(1, tmp_path / "new")
    result = engine.until("result")
    faces = np.load(tmp_path / "new" / result["faces"])
    assert faces.max() < len(best(tmp_path / "new")) and result["mean_iou"] > 0.9
