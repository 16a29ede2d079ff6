"""A run: from a task and its document to a result, in the same way for the command line and the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .doctor import require
from .errors import InputError
from .keeping import Stopped
from .status import STOPPED
from .tasks import Context, Result, Task, Update


def read(task: Task, reading: Callable[[], Any]) -> Any:
    """The document that `reading` returns. Raises InputError that names the package if one is missing for it."""
    try:
        return reading()
    except ImportError:
        require(task)
        raise


def run(task: Task, document: Any, context: Context) -> Iterator[Update | Result]:
    """The events of a run. The last one is the result, whose state the keeper then holds.

    Raises Stopped if the run was stopped before there was anything to keep, and InputError for what cannot be done.
    """
    require(task)
    if context.stopped():
        raise Stopped
    for event in task.run(document, context):
        if isinstance(event, Result):
            context.keeper.keep(event.state)
            yield event
            return
        yield event
    if not context.stopped():
        raise RuntimeError(f"the task '{task.name}' ended without a result")
    if context.keeper.state is None:
        raise Stopped
    yield Result(context.keeper.state, STOPPED)


def write_report(task: Task, folder: Path, document: Any, result: Result) -> list[str]:
    """Write the pictures of a result. If that fails it returns a note, since the result is worth more than pictures."""
    assert task.report is not None
    try:
        task.report(folder, document, result.value)
    except InputError as error:
        return [f"There is no report: {error}"]
    return []
