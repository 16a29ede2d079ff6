"""Keeps the best state of a run in its job folder while the run goes on, so that nothing is lost with the process.

Whenever the process dies, `result.json` names files that belong to one state. For that, files of a state have one of
two names, `best*` and `best_b*`: a new state is written under the name that the last one does not have, and only then
does `result.json` name its files. A run that has ended leaves `best*`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import read_json, remove_partial, write_json
from .job import BEST, BEST_FILES, RESULT, forget_results
from .status import RUNNING, Status


class Stopped(InputError):
    """A run was stopped before there was anything to keep."""

    def __init__(self) -> None:
        super().__init__("stopped before anything was found; nothing was changed.")


@dataclass(frozen=True, eq=False)
class State:
    """What a run would end with if it ended now.

    Attributes:
        fields: what result.json and the answer to the request say of it: JSON values by name.
        files: by the kind of file (see job.BEST_FILES), a function that writes it to the path it is given.
    """

    fields: Mapping[str, Any]
    files: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)


class Keeper:
    """Keeps the state of one run, in a job folder if there is one. Its methods may be called from several threads.

    Attributes:
        state: what the run would end with if it ended now, or None.
        notes: sentences for the user about what could not be written.
        closed: whether the run has its result; nothing is written afterwards.
    """

    def __init__(self, folder: Path | None, start: State | None = None) -> None:
        """A keeper that writes nothing before `begin`.

        Args:
            folder: the job folder; None to keep the state in memory only.
            start: the state with which a run ends that is stopped before it has found anything.
        """
        self.notes: list[str] = []
        self.closed = False
        self._folder, self.state = folder, start
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._begun = False  # whether the results in the folder are those of this run
        self._stem = BEST[1]  # with which the names of the files in result.json begin
        self._names: dict[str, str] = {}  # the names of these files, by kind

    def elapsed(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)

    def begin(self, *, resume: bool = False) -> None:
        """Replace the results of an earlier run in the folder by the start, or go on from these results.

        A task that leaves files calls this before its work, once it knows that it can do it. Raises InputError where
        the folder cannot be written, so that this is known before the work.

        Args:
            resume: whether the start is the state that result.json names, whose files stay until a better one is found.
        """
        with self._lock:
            if self._folder is None or self.closed:
                return
            remove_partial(self._folder)
            if resume:
                found = read_json(self._folder / RESULT)
                self._names = {kind: found[kind] for kind in BEST_FILES if kind in found}
                self._stem = next(stem for stem in BEST if self._names.items() <= _names(stem, BEST_FILES).items())
                self._begun = True
                write_json(self._folder / RESULT, self._said(RUNNING))
            else:
                self._take_folder()

    def keep(self, state: State) -> bool:
        """Replace the last state by this one; returns whether it could be written.

        Raises InputError only if the folder is gone.
        """
        with self._lock:
            what = "What was found last could not be written"
            return not self.closed and self.attempt(what, lambda: self._write(state))

    def close(self, status: Status, notes: Sequence[str] = ()) -> dict[str, Any] | None:
        """The result of the run: how it ended, the state, its files, and the notes for the user.

        For a task that leaves files, it is written to result.json, here and nowhere else. Nothing is written
        afterwards, since the files then belong to whoever waited for them. Returns None if the result was given before.
        Raises Stopped if there is no state.
        """
        with self._lock:
            if self.closed:
                return None
            self.closed = True
            if self.state is None:
                raise Stopped
            if self._folder is not None and self.state.files and not self._begun:
                self._take_folder()
            if self._begun and self._stem != BEST[0]:  # If the disk is full, the files keep the names that they have.
                self.attempt("", lambda: self._write(self.state))
            said = self._said(status, [*notes, *self.notes])
            if self._folder is not None and self._begun:
                folder, other = self._folder, BEST[1 - BEST.index(self._stem)]
                self.attempt("", lambda: write_json(folder / RESULT, said))
                self.attempt("", lambda: forget_results(folder, other))
            return said

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write something that the run can do without; returns whether that worked. Notes a failure once.

        Args:
            what: the beginning of the note; "" for no note.

        Raises InputError only if the folder is gone.
        """
        try:
            write()
        except InputError as error:
            if self._folder is not None and not self._folder.is_dir():
                raise
            if what and not any(note.startswith(what) for note in self.notes):
                self.notes.append(f"{what}: {error}")
            return False
        return True

    def _take_folder(self) -> None:
        assert self._folder is not None
        forget_results(self._folder)
        self._begun = True
        if self.state is not None:
            self._write(self.state)

    def _write(self, state: State | None) -> None:
        """Write the files of a state beside those in the folder, then the result.json that names them."""
        assert state is not None
        last = self.state, self._names, self._stem
        if not self._begun:
            self.state = state
            return
        assert self._folder is not None
        stem = BEST[1 - BEST.index(self._stem)]
        names = _names(stem, state.files)
        for kind, write in state.files.items():
            write(self._folder / names[kind])
        self.state, self._names, self._stem = state, names, stem
        try:
            write_json(self._folder / RESULT, self._said(RUNNING))
        except InputError:
            self.state, self._names, self._stem = last
            raise

    def _said(self, status: Status, notes: Sequence[str] = ()) -> dict[str, Any]:
        """The fields of result.json and of the answer to the request."""
        assert self.state is not None
        said = {"status": status, **self._names, **self.state.fields}
        return said | {"elapsed": self.elapsed(), "notes": list(notes)}


def _names(stem: str, kinds: Iterable[str]) -> dict[str, str]:
    """The names of the files of these kinds, by kind."""
    return {kind: stem + BEST_FILES[kind] for kind in kinds}
