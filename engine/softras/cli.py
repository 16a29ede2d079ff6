"""The command `softras`: one command for each task, doctor, and serve."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from . import __version__
from .errors import InputError
from .files import check_writable
from .keeping import Keeper, Stopped
from .log import LOG, log_to_stderr
from .progress_bar import ProgressBar
from .run import read, run, write_report
from .status import STOPPED
from .tasks import TASKS, Context, Result, Task

OK, INTERNAL, BAD_INPUT = 0, 1, 2  # exit statuses
SIGNALLED = 128  # A command that a signal ended exits with this plus the signal's number: 130 after Ctrl-C.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: the run finished or was out of time; 130 or 143: it was stopped by Ctrl-C or SIGTERM; 2: the input cannot be
    used, or something cannot be written; 1: a bug.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # Names of files may have bytes that are no characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    log_to_stderr(times=False)
    try:
        return options.run(options)
    except InputError as error:
        LOG.error("%s", error)
        return BAD_INPUT
    except KeyboardInterrupt:
        LOG.error("stopped.")
        return SIGNALLED + signal.SIGINT
    except BrokenPipeError:  # Nobody reads the output any more, as after `softras ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except Exception as error:
        LOG.exception("an error that should not happen (%s); please report it.", type(error).__name__)
        return INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="softras", description="Fit a mesh to silhouettes in photographs.")
    parser.add_argument("--version", action="version", version=f"softras {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for task in TASKS.values():
        description = task.command.description or f"{task.summary[:1].upper()}{task.summary[1:]}."
        command = commands.add_parser(task.name, help=task.summary, description=description)
        task.command.add_options(command)
        if task.report is not None:
            command.add_argument("--report", metavar="DIR", help="write a report with pictures (report.html) there")
        command.set_defaults(run=partial(_run, task), report=None)
    doctor = commands.add_parser("doctor", help="say what runs where and why")
    doctor.set_defaults(run=_doctor)
    serve = commands.add_parser("serve", help="answer requests on stdin and stdout (used by Blender)")
    serve.set_defaults(run=_serve)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import report

    return report()


def _serve(options: argparse.Namespace) -> int:
    from .server import serve

    return serve()


def _run(task: Task, options: argparse.Namespace) -> int:
    """Run a task as its options say, and write its outputs."""
    with _signals_stop() as signals:
        try:
            return _run_until(signals, task, options)
        except Stopped as error:
            LOG.error("%s", error)
            return SIGNALLED + signals[0]


def _run_until(signals: list[int], task: Task, options: argparse.Namespace) -> int:
    document = read(task, lambda: task.command.read(task, options))
    if options.report:
        check_writable(Path(options.report))
    keeper = Keeper(task.command.folder(options), task.start(document))
    progress = ProgressBar(sys.stderr)
    result: Result | None = None
    for event in run(task, document, Context(keeper, lambda: bool(signals))):
        if isinstance(event, Result):
            result = event
        else:
            progress.show(event)
    progress.end()
    assert result is not None
    said = keeper.close(result.status, result.notes)
    assert said is not None
    failed = [*keeper.notes, *task.command.write(document, result, options)]
    unseen = write_report(task, Path(options.report), document, result) if options.report else []
    task.command.show(document, result, said, options)
    for sentence in (*unseen, *failed):
        LOG.error("%s", sentence)
    if result.status == STOPPED:
        return SIGNALLED + signals[0]
    return BAD_INPUT if failed else OK


@contextmanager
def _signals_stop() -> Iterator[list[int]]:
    """A list to which the first Ctrl-C or SIGTERM adds its number, so that the run ends with the best it has found.

    A second signal ends the command. A signal that is ignored, as by a script's background command, stays ignored.
    Python's own handler would not do: it raises an exception wherever the program is, and a library that is being
    imported may swallow that.
    """
    signals: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def stop(number: int, frame: object) -> None:
        signals.append(number)
        for again, handler in handlers.items():
            signal.signal(again, handler)

    for number in handlers:
        signal.signal(number, stop)
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
