"""What every task has: the document it reads, what it tells while it runs, and its one result.

A task is one file beside this one, and one line in the table TASKS. The server, Blender's client, the command line and
the doctor are written once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..keeping import Keeper, State
from ..status import FINISHED, Status
from .command import Command


@dataclass(frozen=True)
class Context:
    """What a run is given to work with.

    Attributes:
        keeper: keeps what was found so far, so that a run that is stopped or killed leaves it.
        stopped: whether the user wants the run to end now. A run asks this every few tenths of a second.
    """

    keeper: Keeper
    stopped: Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Update:
    """What a run tells on its way.

    Attributes:
        step: steps done, of `steps`.
        steps: all of them.
        text: how it goes, in a few words, for the progress bar.
        notes: sentences for the user that were not told before.
        fields: what else a progress message says: JSON values by name.
        files: what there is to look at: a function that writes it to the path it is given, or None where this update
            brings nothing new, by the kind of file (see job.PREVIEWS).
    """

    step: int
    steps: int
    text: str = ""
    notes: Sequence[str] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], object] | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Result:
    """What a run ends with.

    Attributes:
        state: what result.json and the answer to the request say.
        status: how the run ended.
        notes: sentences for the user.
        value: the same for Python, which the task's command and its report know how to show.
    """

    state: State
    status: Status = FINISHED
    notes: Sequence[str] = ()
    value: Any = None


@dataclass(frozen=True)
class Task:
    """Something that can be asked of the engine.

    Attributes:
        name: what a request and the command line call it.
        summary: what it does, for `softras --help`.
        read: the document in a job folder. The second argument names further folders that images may lie in. Raises
            InputError.
        run: does the work: a generator of updates and, last, one Result. It may end without one once
            `context.stopped()` is true. What takes long to import is imported in here. Raises InputError.
        start: of a document: what a run ends with that is stopped before its work has begun; None for nothing.
        report: writes pictures into a folder, from the document and the value of the result; None where there are none.
        needs: the distribution packages that must be installed, as pip calls them.
        command: how the command line asks for it and shows its result, where that is not a job folder and JSON.
    """

    name: str
    summary: str
    read: Callable[[Path, Sequence[Path | str]], Any]
    run: Callable[[Any, Context], Iterator[Update | Result]]
    start: Callable[[Any], State | None] = lambda document: None
    report: Callable[[Path, Any, Any], object] | None = None
    needs: tuple[str, ...] = ()
    command: Command = field(default_factory=Command)
