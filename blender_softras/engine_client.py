"""Starts, talks to and stops the engine process. Knows nothing of Blender.

One JSON object per line on the process's stdin and stdout; its stderr goes to a log file. A thread reads
stdout into a queue, so that no call here waits for the engine.
"""

from __future__ import annotations

import itertools
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from .engine.softras import InputError, job
from .engine.softras.errors import one_line
from .engine.softras.files import open_new
from .engine.softras.log import is_routine

# All in seconds.
HELLO_SECONDS = 60.0  # An engine may take this long to start: a first import of torch from a slow disk takes a while.
SILENT_SECONDS = 8.0  # An engine that works says so every 2 seconds; one that is silent for this long is ended.
END_SECONDS = 2.0  # A process that was killed may take this long to be gone.
LONGEST_LOOK = 1.0  # Of the time between two looks, this much counts as waiting; in more, this process was busy itself.

# Run by the engine's Python: isolated (-I) from the user's site-packages and environment, so the package's
# place is given as an argument. Old Pythons must understand this line to refuse it in plain words.
_START = (
    "import sys\n"
    "v = sys.version_info[:2]\n"
    "if v < (3, 11): sys.exit('it is Python %d.%d, but Softras needs 3.11 or newer' % v)\n"
    "sys.path.insert(0, sys.argv[1])\n"
    "from softras.cli import main\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


class EngineError(RuntimeError):
    """The engine process cannot be used; the message is one sentence that says what to do about it."""


def command(python: str | Path, package_folder: Path, *arguments: str) -> list[str]:
    """The command line that runs `softras ARGUMENTS` from `package_folder` with the interpreter `python`."""
    return [str(python), "-I", "-c", _START, str(package_folder), *arguments]


def environment() -> dict[str, str]:
    """This process's environment without what would make another Python load Blender's modules or libraries."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "DYLD_"))}


class Engine:
    """One engine process, from its start to its end.

    Attributes:
        hello: the engine's first message (versions, device, backend, reason) once it came, else None.
        failure: why the process cannot be used any more, in words without a full stop, else None.
    """

    def __init__(self, python: str | Path, package_folder: Path, log: Path) -> None:
        """Start the process; returns at once. Raises EngineError when there is nothing to start."""
        self.python = str(python)
        self.log = Path(log)
        self.hello: dict[str, Any] | None = None
        self.failure: str | None = None
        self._ids = itertools.count(1)
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._open: set[int] = set()  # runs that were asked for and are not answered
        self._stopped: set[int] = set()  # those of them that were asked to stop
        self._looked = time.monotonic()
        self._silent = 0.0  # seconds of waiting since the engine's last message
        self._unanswered = 0.0  # seconds of waiting for the answer to a stop
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            stderr = open_new(self.log)
        except OSError as error:
            raise EngineError(f"the engine's log {self.log} cannot be written ({error.strerror}).") from error
        try:
            with stderr:
                self._process = subprocess.Popen(
                    command(python, package_folder, "serve"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=environment(),
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            raise EngineError(
                f"the engine's Python '{python}' cannot be started ({error.strerror}); "
                "choose another in Preferences > Add-ons > Softras."
            ) from error
        threading.Thread(target=self._read, name="softras-engine", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(job.MAX_LINE + 1):
            self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """False once the process ended or misbehaved; start a new Engine then."""
        return self.failure is None

    def run(self, task: str, folder: Path, **fields: Any) -> int:
        """Ask for a task to be run on a job folder; returns the id that every message about the run carries.

        fields: `report` and `allow`, as docs/architecture.md has them. Raises EngineError where the process is gone.
        """
        number = self._send("run", task=task, job=str(folder), **fields)
        self._open.add(number)
        self._looked, self._silent = time.monotonic(), 0.0
        return number

    def stop(self, number: int) -> None:
        """Ask a run for its result so far, which arrives among the messages. Raises EngineError like `run`."""
        self._send("stop", of=number)
        self._stopped.add(number)
        self._unanswered = 0.0

    def _send(self, kind: str, **fields: Any) -> int:
        """Send one request; returns its id."""
        number = next(self._ids)
        line = job.encode({"type": kind, "id": number, "protocol": job.PROTOCOL, **fields})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._fail("the engine stopped unexpectedly") from None
        return number

    def messages(self) -> list[dict[str, Any]]:
        """What arrived since the last call, oldest first, without waiting; `hello` and heartbeats are kept apart.

        Raises EngineError when the process ended, is silent for too long, or does not speak the protocol. Messages
        that came before that are returned first. A silent process is ended; it may be stopped, or stuck in a step.
        """
        if self.failure:
            raise self._error()
        # A computer that slept, or a Blender that was busy elsewhere, heard nothing, whatever the engine said.
        now = time.monotonic()
        waited, self._looked = min(now - self._looked, LONGEST_LOOK), now
        self._silent += waited
        self._unanswered += waited
        arrived: list[dict[str, Any]] = []
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            try:
                arrived += self._understand(line)
            except EngineError:
                if arrived:  # the failure is kept and raised by the next call
                    return arrived
                raise
        if self.hello is None and self._silent > HELLO_SECONDS:
            raise self._fail(f"the engine did not answer within {HELLO_SECONDS:.0f} seconds of its start")
        if self.hello is not None and not arrived:
            if self._open and self._silent > SILENT_SECONDS:
                raise self._fail(f"the engine said nothing for {SILENT_SECONDS:.0f} seconds and was ended", ended=True)
            if self._stopped & self._open and self._unanswered > SILENT_SECONDS:
                raise self._fail(
                    f"the engine did not stop within {SILENT_SECONDS:.0f} seconds and was ended", ended=True
                )
        return arrived

    def _understand(self, line: bytes | None) -> list[dict[str, Any]]:
        if line is None:
            raise self._fail("the engine did not start" if self.hello is None else "the engine stopped unexpectedly")
        try:
            message = job.decode(line)
        except InputError:
            raise self._fail("the engine's Python answered with something that is not a Softras message") from None
        # Another process's words, which are shown as they come.
        if "message" in message:
            message["message"] = one_line(str(message["message"]))
        if isinstance(message.get("notes"), list):
            message["notes"] = [one_line(str(note)) for note in message["notes"]]
        self._silent = 0.0
        if self.hello is not None:
            if message["type"] in ("result", "error"):
                self._open.discard(message.get("id"))
            return [] if message["type"] == "alive" else [message]
        if message["type"] != "hello":
            raise self._fail(str(message.get("message", "the engine did not introduce itself")).rstrip("."))
        if message.get("protocol") != job.PROTOCOL:
            raise self._fail("the engine speaks another version of the protocol than this extension")
        self.hello = message
        return []

    def wait_until_ready(self) -> None:
        """Block until the engine said hello; for scripts, never for the user interface. Raises EngineError."""
        while self.hello is None:
            self.messages()
            time.sleep(0.02)

    def _fail(self, what: str, *, ended: bool = False) -> EngineError:
        """End the process and keep the one sentence that tells the user why; ended: by us, so its log does not."""
        self.kill()
        last = "" if ended else self._last_words()
        self.failure = f"{what}{': ' if last else ''}{last}"
        return self._error()

    def _error(self) -> EngineError:
        return EngineError(f"{self.failure}; the log is {self.log}.")

    def _last_words(self) -> str:
        """What the process wrote last into its log, apart from what it writes of its work."""
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        told = (line.strip() for line in reversed(lines) if line.strip() and not is_routine(line))
        return next((one_line(line.rstrip(".")) for line in told), "")

    def kill(self) -> None:
        """End the process now. Safe to call twice."""
        if self._process.poll() is None:
            self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # it hangs in the system, on a network disk for instance, and ends when that lets go
        self.failure = self.failure or "the engine was stopped"
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass  # unsent bytes for a process that is gone
