"""`softras serve`: fits on request, one JSON message per line on stdin and stdout (docs/architecture.md).

The main thread reads requests, a worker thread fits. Whatever libraries print goes to stderr, the log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import __version__
from .checks import whole
from .errors import InputError, shown
from .io.files import write_array, write_json
from .io.poses import save_poses
from .job import (
    MAX_LINE,
    PREVIEW,
    PREVIEW_POSES,
    PROTOCOL,
    RESULT,
    Job,
    check_protocol,
    decode,
    encode,
    finite,
    save_best,
)
from .views import mean_iou

if TYPE_CHECKING:
    from .fitting import FitResult, Progress

CANCEL_SECONDS = 0.35  # a step that takes longer does not hold back the answer to a cancel
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

    def __init__(self, request: dict[str, Any], answers: Answers, previous: threading.Thread | None) -> None:
        self.number = request["id"]
        self.cancelled = threading.Event()
        self.answered = threading.Event()
        self._folder = Path(request["job"])
        self._report = request.get("report")
        self._allow = request.get("allow", [])
        self._answers = answers
        self._previous = previous
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._best: dict[str, Any] = {"vertices": None, "iou": [], "mean_iou": None}
        self._best_score = 0.0
        self.thread = threading.Thread(target=self._work, name=f"fit {self.number}", daemon=True)
        self.thread.start()

    def answer_cancel(self) -> None:
        """Stop the fit; if its step takes too long, answer with the best that is on disk."""
        self.cancelled.set()
        if not self.answered.wait(CANCEL_SECONDS):
            try:
                self._answer_result("cancelled")
            except InputError as error:
                self._answer(_error(self.number, error))

    def _work(self) -> None:
        if self._previous is not None:
            self._previous.join()
        try:
            self._fit()
        except Exception as error:
            if not isinstance(error, InputError):
                traceback.print_exc()
            self._answer(_error(self.number, error))

    def _fit(self) -> None:
        job = Job.load(self._folder, self._allow)
        if job.rig is not None:
            self._keep(job.rig.vertices(), None, [])
        elif job.mesh is not None:
            self._keep(job.mesh.vertices, None, [])
        from .run import FitResult, run  # slow the first time: not before the start is kept

        next_message = 0.0
        for event in run(job, stop=self.cancelled.is_set):
            if isinstance(event, FitResult):
                self._finish(job, event)
                return
            if event.vertices is None and time.monotonic() < next_message:
                continue
            next_message = time.monotonic() + PROGRESS_SECONDS
            self._tell(job, event)
        raise RuntimeError("the fit ended without a result")

    def _tell(self, job: Job, event: Progress) -> None:
        """Send a progress message; what it shows becomes the preview and, if it matches the masks better, the best."""
        iou = _floats(event.iou)
        preview = poses = None
        if event.vertices is not None:
            score = 0.0 if event.iou is None else mean_iou(event.iou, job.views)
            if score > self._best_score:
                self._keep(event.vertices, event.faces, iou, rigs=event.rigs, cameras=event.cameras)
                self._best_score = score
            if event.faces is None:
                preview = PREVIEW
                write_array(self._folder / PREVIEW, event.vertices)
        if event.rigs or event.cameras:
            poses = PREVIEW_POSES
            save_poses(self._folder / PREVIEW_POSES, event.rigs, event.cameras or ())
        if self.answered.is_set():
            return
        self._answers.send(
            {
                "type": "progress",
                "id": self.number,
                "step": int(event.step),
                "steps": int(event.steps),
                "stage": int(event.stage),
                "loss": {name: finite(float(value)) for name, value in event.loss.items()},
                "iou": iou,
                "mean_iou": _mean(iou),
                "elapsed": self._elapsed(),
                "preview": preview,
                "poses": poses,
            }
        )

    def _finish(self, job: Job, result: FitResult) -> None:
        moved: dict[str, Any] = {"rigs": result.rigs, "cameras": result.cameras, "given": job.rig}
        faces = job.new_faces(result.mesh)
        self._keep(result.mesh.vertices, faces, _floats(result.iou), **moved if job.moves else {})
        cancelled = self.cancelled.is_set()
        notes = list(result.notes)
        if self._report and not cancelled:
            from .io.report import write_report

            try:
                write_report(self._report, job.views, job.start, result)
            except InputError as error:  # the fit is worth more than its pictures
                notes.append(f"There is no report: {error}")
        self._answer_result("cancelled" if cancelled else "finished", notes)

    def _keep(self, vertices: np.ndarray, faces: np.ndarray | None, iou: list[float | None], **moved: Any) -> None:
        """Put the best state so far on disk, unless the request is answered: its files are the client's then."""
        with self._lock:
            if self.answered.is_set():
                return
            self._best = {**save_best(self._folder, vertices, faces, **moved), "iou": iou, "mean_iou": _mean(iou)}

    def _answer_result(self, status: str, notes: Sequence[str] = ()) -> None:
        with self._lock:
            if self.answered.is_set():
                return
            result = {"type": "result", "id": self.number, "status": status, **self._best}
            result |= {"elapsed": self._elapsed(), "notes": list(notes)}
            write_json(self._folder / RESULT, result)
            self.answered.set()
        self._answers.send(result)

    def _answer(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self.answered.is_set():
                return
            self.answered.set()
        self._answers.send(message)

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 3)


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
            # A cancelled fit may still finish a long step; the next one waits for it in its own thread.
            previous = self._run.thread if self._run is not None else None
            self._run = _Run({**message, "id": number}, self._answers, previous)
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


def _floats(iou: np.ndarray | None) -> list[float | None]:
    """As in messages: None for a view that is left out."""
    return [] if iou is None else [finite(value) for value in iou]


def _mean(iou: list[float | None]) -> float | None:
    told = [value for value in iou if value is not None]
    return finite(sum(told) / len(told)) if told else None


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
