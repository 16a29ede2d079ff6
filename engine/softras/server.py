"""`softras serve` runs tasks on request, by one JSON message per line on stdin and stdout (docs/architecture.md).

The main thread reads the requests, and each run has a thread of its own. What libraries print goes to stderr, which is
the log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import __version__
from .checks import whole
from .errors import InputError, one_line, shown
from .job import MAX_LINE, PREVIEWS, PROTOCOL, check_protocol, decode, encode
from .keeping import Keeper, Stopped
from .log import LOG, log_to_stderr
from .run import read, run, write_report
from .status import STOPPED
from .tasks import TASKS, Context, Result, Task, Update

# All in seconds.
STOP_SECONDS = 0.35  # A stopped run may take this long to end by itself; then it is answered with what it has kept.
START_SECONDS = 5.0  # A stop is answered only after the job was read, if that takes no longer than this.
STUCK_SECONDS = 20.0  # A stopped run that still works after this time makes the process end with the status STUCK.
ALIVE_SECONDS = 2.0  # The time between two heartbeats.
COMPUTED_SECONDS = 0.005  # A process that used less processor time between two heartbeats only waits, and is silent.
PROGRESS_SECONDS = 0.05  # The shortest time between two progress messages that bring no preview.
PARENT_SECONDS = 0.25  # The time between two checks whether the parent process lives.

STUCK = 3  # The exit status of a process that was given up.


def serve() -> int:
    """Answer requests until stdin ends; returns the exit status."""
    log_to_stderr(times=True)
    requests, answers = _take_stdio()
    _follow_parent()
    try:
        hello = _hello()
    except InputError as error:
        LOG.error("%s", error)
        answers.send(_error(None, error))
        return 2
    LOG.info("Softras %s on %s (%s), process %d", __version__, hello["device"], hello["backend"], os.getpid())
    answers.send(hello)
    _Server(answers).run(requests)
    os._exit(0)  # The process ends at once, even during a run.


class Answers:
    """Writes messages, as whole lines and from any thread. The process ends where nobody reads them any more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        line = encode(message)
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except OSError:
            os._exit(0)


class _Run:
    """One run on request, in a thread of its own. The request is answered once, by a result or by an error."""

    def __init__(self, number: int, task: Task, request: _Request, answers: Answers, previous: _Run | None) -> None:
        self.number, self.task = number, task
        self.answered = threading.Event()
        self._stopped = threading.Event()
        self._request = request
        self._answers = answers
        self._previous = previous
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._started = threading.Event()  # set once there is a keeper, or an answer
        LOG.info("request %d: %s of %s", number, task.name, one_line(str(request.folder)))
        self.thread = threading.Thread(target=self._work, name=f"{task.name} {number}", daemon=True)
        self.thread.start()
        threading.Thread(target=self._beat, name=f"heartbeat {number}", daemon=True).start()

    def stop(self) -> None:
        """Ask the run to end; if its present step takes too long, answer with the best that was kept."""
        self._stopped.set()
        if self.answered.wait(STOP_SECONDS):
            return
        self._started.wait(START_SECONDS)
        self._answer_with_what_is_kept()

    def _answer_with_what_is_kept(self) -> None:
        try:
            if self._keeper is None:
                raise Stopped
            self._answer(self._keeper.close(STOPPED))
        except InputError as error:
            self._answer(_error(self.number, error))

    def _beat(self) -> None:
        """Send heartbeats while the process computes, so that silence tells the client that it is stuck."""
        computed = time.process_time()
        while not self.answered.wait(ALIVE_SECONDS):
            now = time.process_time()
            if now - computed > COMPUTED_SECONDS:
                self._answers.send({"type": "alive", "id": self.number})
            computed = now

    def _work(self) -> None:
        try:
            self._run()
        except Stopped:
            self._answer_with_what_is_kept()
        except Exception as error:
            if not isinstance(error, InputError):
                LOG.exception("request %d failed", self.number)
            self._answer(_error(self.number, error))

    def _wait_for_previous(self) -> None:
        """Wait until the stopped run before this one has ended; if it does not, end the process."""
        if self._previous is None:
            return
        self._previous.thread.join(STUCK_SECONDS)
        if self._previous.thread.is_alive():
            text = f"the {self._previous.task.name} that was stopped before does not end; start the engine anew."
            self._answer({"type": "error", "id": self.number, "kind": "stuck", "message": text})
            os._exit(STUCK)
        self._previous = None

    def _run(self) -> None:
        document = read(self.task, lambda: self.task.read(self._request.folder, self._request.allow))
        self._keeper = keeper = Keeper(self._request.folder, self.task.start(document))
        self._started.set()
        self._wait_for_previous()
        next_message = 0.0
        for event in run(self.task, document, Context(keeper, self._stopped.is_set)):
            if isinstance(event, Result):
                notes = list(event.notes)
                if self._request.report is not None and not self._stopped.is_set():
                    notes += write_report(self.task, self._request.report, document, event)
                self._answer(keeper.close(event.status, notes))
            elif not self.answered.is_set() and (any(event.files.values()) or time.monotonic() >= next_message):
                next_message = time.monotonic() + PROGRESS_SECONDS
                self._tell(event, keeper)

    def _tell(self, update: Update, keeper: Keeper) -> None:
        """Write the previews of an update, then send a progress message that names their files."""
        names: dict[str, str | None] = dict.fromkeys(update.files)

        def write_files() -> None:
            for kind, write in update.files.items():
                if write is not None:
                    write(self._request.folder / PREVIEWS[kind])
                    names[kind] = PREVIEWS[kind]

        keeper.attempt("What was found on the way could not always be shown", write_files)
        fields = {"step": update.step, "steps": update.steps, **update.fields, "elapsed": keeper.elapsed(), **names}
        with self._lock:
            if not self.answered.is_set():
                self._answers.send({"type": "progress", "id": self.number, **fields})

    def _answer(self, message: dict[str, Any] | None) -> None:
        """Answer the request, unless it is answered. A message without a type is a result, as the keeper returns it."""
        if message is None:  # The keeper has given the result to another thread, which answers.
            return
        with self._lock:
            if not self.answered.is_set():
                # Before the message is sent, since the client may send its next request at once.
                self.answered.set()
                self._started.set()  # A stop need not wait for the keeper any more.
                LOG.info("request %d: %s", self.number, message.get("status") or message.get("message"))
                self._answers.send({"type": "result", "id": self.number, **message})


class _Request:
    """The folders in a request for a run. Raises InputError where one is missing or wrong.

    Attributes:
        folder: the job's folder.
        report: the folder for the pictures, or None.
        allow: folders in which images may lie, beside the job's own.
    """

    def __init__(self, task: Task, message: dict[str, Any]) -> None:
        job, report, allow = message.get("job"), message.get("report"), message.get("allow", [])
        if not isinstance(job, str):
            raise InputError(f"a request to run '{task.name}' needs the job's folder.")
        if not isinstance(report, str | None):
            raise InputError("the report of a request must be a folder.")
        if report and task.report is None:
            raise InputError(f"the task '{task.name}' writes no report; leave it out of the request.")
        if not isinstance(allow, list) or not all(isinstance(folder, str) for folder in allow):
            raise InputError("what a request allows must be a list of folders.")
        try:
            os.fsencode(job + (report or "") + "".join(allow))
        except UnicodeEncodeError as error:
            raise InputError("a request names a folder with characters that no name has.") from error
        self.folder, self.allow = Path(job), allow
        self.report = Path(report) if report else None


class _Server:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._run: _Run | None = None

    def run(self, requests: BinaryIO) -> None:
        """Answer every line until the end of the stream."""
        for line in _lines(requests):
            number = None
            try:
                message = decode(line)
                number = whole("the id of a request", message.get("id"), 0)
                check_protocol(message.get("protocol"))
                self._handle(message, number)
            except InputError as error:
                LOG.warning("a request was refused: %s", error)
                self._answers.send(_error(number, error))

    def _handle(self, message: dict[str, Any], number: int) -> None:
        busy = self._run is not None and not self._run.answered.is_set()
        if message["type"] == "run":
            if self._run is not None and busy:
                raise InputError(f"a {self._run.task.name} is running; wait for its result or stop it first.")
            name = message.get("task")
            task = TASKS.get(name) if isinstance(name, str) else None
            if task is None:
                raise InputError(f"this engine has no task {shown(name)}; it has {', '.join(TASKS)}.")
            # A stopped run may still finish a long step; the next one waits for it in its own thread.
            self._run = _Run(number, task, _Request(task, message), self._answers, self._run)
        elif message["type"] == "stop":
            # A stop that comes after the answer has no effect: the client has its result.
            if self._run is not None and busy and message.get("of") == self._run.number:
                self._run.stop()
        else:
            raise InputError(f"this engine does not know requests of type {shown(message['type'])}.")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream. Of a line that is too long, only the beginning is returned, which `decode` refuses."""
    while line := stream.readline(MAX_LINE + 1):
        start = line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE + 1)
        yield start


def _error(number: Any, error: Exception) -> dict[str, Any]:
    if isinstance(error, InputError):
        return {"type": "error", "id": number, "kind": "input", "message": str(error)}
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        text = "the engine ran out of memory; use smaller images, fewer views or a mesh with fewer faces."
        return {"type": "error", "id": number, "kind": "input", "message": text}
    text = f"the engine met an error it did not expect ({type(error).__name__}); its log has the details."
    return {"type": "error", "id": number, "kind": "internal", "message": text}


def _hello() -> dict[str, Any]:
    from .doctor import capabilities

    found = capabilities()
    return {"type": "hello", "protocol": PROTOCOL, "softras": __version__, **found}


def _take_stdio() -> tuple[BinaryIO, Answers]:
    """Reserve stdin and stdout for the protocol: for all other code, stdout becomes stderr and stdin is empty."""
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout = sys.stderr
    return requests, answers


def _follow_parent() -> None:
    """End this process with its parent, even if another process keeps our stdin open. On Windows it has no effect."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()
