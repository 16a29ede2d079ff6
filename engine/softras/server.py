"""`softras serve`: fits on request, one JSON message per line on stdin and stdout (docs/architecture.md).

The main thread reads requests, a worker thread fits. Whatever libraries print goes to stderr, the log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import __version__
from .checks import whole
from .errors import InputError, shown
from .files import write_array
from .io.poses import save_poses
from .job import MAX_LINE, PREVIEW, PREVIEW_POSES, PROTOCOL, Job, check_protocol, decode, encode, finite
from .keeping import Keeper, ious

if TYPE_CHECKING:
    from .fitting import FitResult, Progress

CANCEL_SECONDS = 0.35  # a step that takes longer does not hold back the answer to a cancel
START_SECONDS = 5.0  # for the start of a job to be read, so that the answer to a cancel has something to name
STUCK_SECONDS = 20.0  # for a cancelled fit to end before the process is given up
STUCK = 3  # exit status then
ALIVE_SECONDS = 2.0  # between two heartbeats
COMPUTED_SECONDS = 0.005  # of processor time between two heartbeats; less is that of a process that waits for something
PROGRESS_SECONDS = 0.05  # shortest time between two progress messages
PARENT_SECONDS = 0.25  # how often to look whether the parent lives


def serve() -> int:
    """Answer requests until stdin ends; returns the exit status."""
    requests, answers = _take_stdio()
    _follow_parent()
    try:
        hello = _hello()
    except InputError as error:
        answers.send(_error(None, error))
        return 2
    answers.send(hello)
    _Server(answers).run(requests)
    os._exit(0)  # at once, whatever a fit is doing


class Answers:
    """The way out: whole lines, from any thread. Where nobody listens any more the process ends."""

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
    """One fit on request. Its request is answered once: by a result or an error, whichever comes first."""

    def __init__(
        self,
        number: Any,
        folder: Path,
        report: str | None,
        allow: list[str],
        answers: Answers,
        previous: _Run | None,
    ) -> None:
        self.number = number
        self.cancelled = threading.Event()
        self.answered = threading.Event()
        self._folder, self._report, self._allow = folder, report, allow
        self._answers = answers
        self._previous = previous
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._started = threading.Event()  # there is a keeper, and it holds the start
        self.thread = threading.Thread(target=self._work, name=f"fit {self.number}", daemon=True)
        self.thread.start()
        threading.Thread(target=self._beat, name=f"heartbeat {self.number}", daemon=True).start()

    def answer_cancel(self) -> None:
        """Stop the fit; if its step takes too long, answer with the best that is on disk."""
        self.cancelled.set()
        if self.answered.wait(CANCEL_SECONDS):
            return
        self._started.wait(START_SECONDS)
        try:
            if self._keeper is None:
                raise InputError("the fit had not begun yet; nothing was changed.")
            self._answer(self._keeper.close("cancelled"))
        except InputError as error:
            self._answer(_error(self.number, error))

    def _beat(self) -> None:
        """Say that the engine works, as long as it does: a process that computes nothing is stuck and says nothing."""
        computed = time.process_time()
        while not self.answered.wait(ALIVE_SECONDS):
            now = time.process_time()
            if now - computed > COMPUTED_SECONDS:
                self._answers.send({"type": "alive", "id": self.number})
            computed = now

    def _work(self) -> None:
        try:
            self._fit()
        except Exception as error:
            if not isinstance(error, InputError):
                traceback.print_exc()
            self._answer(_error(self.number, error))

    def _wait_for_previous(self) -> None:
        """Until the fit that was cancelled before has ended; one that does not is given up with the process."""
        if self._previous is None:
            return
        self._previous.thread.join(STUCK_SECONDS)
        if self._previous.thread.is_alive():
            text = "the fit that was cancelled before does not end; the engine must be started anew."
            self._answer({"type": "error", "id": self.number, "kind": "stuck", "message": text})
            os._exit(STUCK)
        self._previous = None

    def _fit(self) -> None:
        job = Job.load(self._folder, self._allow)
        self._keeper = keeper = Keeper(self._folder, job)
        if keeper.holds:
            self._started.set()
        self._wait_for_previous()
        from .run import FitResult, run  # slow the first time: not before the start is kept

        next_message = 0.0
        for event in run(job, stop=self.cancelled.is_set):
            if isinstance(event, FitResult):
                self._finish(job, event, keeper)
                return
            keeper.take(event)
            if keeper.holds:
                self._started.set()
            if self.answered.is_set() or (event.vertices is None and time.monotonic() < next_message):
                continue
            next_message = time.monotonic() + PROGRESS_SECONDS
            self._tell(event, keeper)
        raise RuntimeError("the fit ended without a result")

    def _tell(self, event: Progress, keeper: Keeper) -> None:
        """Send a progress message; what it shows becomes the preview."""
        files: dict[str, str] = {}

        def write_preview() -> None:
            if event.vertices is not None and event.faces is None:
                write_array(self._folder / PREVIEW, event.vertices, lasting=False)
                files["preview"] = PREVIEW
            if event.rigs or event.cameras:
                save_poses(self._folder / PREVIEW_POSES, event.rigs, event.cameras or (), lasting=False)
                files["poses"] = PREVIEW_POSES

        keeper.attempt("What the fit looks like could not always be shown", write_preview)
        iou = ious(event.iou)
        told = [value for value in iou if value is not None]
        self._send(
            {
                "type": "progress",
                "id": self.number,
                "step": int(event.step),
                "steps": int(event.steps),
                "stage": int(event.stage),
                "loss": {name: finite(float(value)) for name, value in event.loss.items()},
                "iou": iou,
                "mean_iou": sum(told) / len(told) if told else None,
                "elapsed": keeper.elapsed(),
                "preview": files.get("preview"),
                "poses": files.get("poses"),
            }
        )

    def _finish(self, job: Job, result: FitResult, keeper: Keeper) -> None:
        cancelled = self.cancelled.is_set()
        notes = []
        if self._report and not cancelled:
            from .report.pictures import write_report

            try:
                write_report(self._report, job.views, job.start, result)
            except InputError as error:  # the fit is worth more than its pictures
                notes.append(f"There is no report: {error}")
        keeper.keep_result(result)
        self._answer(keeper.close("cancelled" if cancelled else "finished", [*result.notes, *notes]))

    def _send(self, message: dict[str, Any]) -> None:
        """Send what belongs to a request that is not answered yet."""
        with self._lock:
            if not self.answered.is_set():
                self._answers.send(message)

    def _answer(self, message: dict[str, Any] | None) -> None:
        """Answer the request, unless it is; a result without a type is one of the keeper's."""
        if message is None:
            return
        with self._lock:
            if not self.answered.is_set():
                self.answered.set()  # first: the client may send its next request at once
                self._started.set()  # nobody need wait for it any more
                self._answers.send({"type": "result", "id": self.number, **message})


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
                self._answers.send(_error(number, error))

    def _handle(self, message: dict[str, Any], number: Any) -> None:
        busy = self._run is not None and not self._run.answered.is_set()
        if message["type"] == "fit":
            if busy:
                raise InputError("a fit is running; wait for its result or cancel it first.")
            if not isinstance(message.get("job"), str):
                raise InputError("a fit request needs the job's folder.")
            if not isinstance(message.get("report"), str | None):
                raise InputError("the report of a fit request must be a folder.")
            allow = message.get("allow", [])
            if not isinstance(allow, list) or not all(isinstance(folder, str) for folder in allow):
                raise InputError("what a fit request allows must be a list of folders.")
            try:
                os.fsencode(message["job"] + (message.get("report") or "") + "".join(allow))
            except UnicodeEncodeError as error:
                raise InputError("a fit request names a folder with characters that no name has.") from error
            # A cancelled fit may still finish a long step; the next one waits for it in its own thread.
            self._run = _Run(number, Path(message["job"]), message.get("report"), allow, self._answers, self._run)
        elif message["type"] == "cancel":
            # A cancel that comes after the answer has nothing left to do: the client has its result.
            if self._run is not None and busy and message.get("of") == self._run.number:
                self._run.answer_cancel()
        else:
            raise InputError(f"this engine does not know requests of type {shown(message['type'])}.")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream; of one that is too long only the start, which `decode` then refuses."""
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
    """Keep stdin and stdout for the protocol alone; file descriptor 1 becomes stderr for everyone else."""
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout = sys.stderr
    return requests, answers


def _follow_parent() -> None:
    """End with the parent even if another process still holds our stdin open (elsewhere than on Windows)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()
