"""The command `softras`: fit, doctor, serve."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import __version__
from .errors import InputError, one_line

if TYPE_CHECKING:
    from .fitting import FitResult, Progress
    from .job import Job
    from .keeping import State

OK, INTERNAL, BAD_INPUT = 0, 1, 2
SIGNALLED = 128  # and the signal's number: 130 after Ctrl-C, 143 after SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 2 for bad input, 130 or 143 after Ctrl-C or SIGTERM, 1 for a bug."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: names of files are printed, whatever their bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    warnings.formatwarning = lambda message, *where: f"softras: {message}\n"  # a sentence, no place in the source
    try:
        return _run(options)
    except InputError as error:
        print(f"softras: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("softras: interrupted.", file=sys.stderr)
        return SIGNALLED + signal.SIGINT
    except _Stopped as stopped:
        print("softras: interrupted.", file=sys.stderr)
        return SIGNALLED + stopped.number
    except BrokenPipeError:  # the reader of our output has gone; so is the wish for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except Exception as error:
        traceback.print_exc()
        print(f"softras: an error that should not happen ({type(error).__name__}); please report it.", file=sys.stderr)
        return INTERNAL


def _run(options: argparse.Namespace) -> int:
    try:
        return options.run(options)
    except ImportError:
        from .doctor import require

        require()  # says what is missing
        raise


class _Stopped(Exception):
    """The command was asked to end before there was anything to keep."""

    def __init__(self, number: int) -> None:
        self.number = number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="softras", description="Fit a mesh to silhouettes in photographs.")
    parser.add_argument("--version", action="version", version=f"softras {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser(
        "fit",
        help="fit a mesh to the masks of a views folder",
        description="Fit a mesh to the masks of a views folder (with a cameras.json), or run a job folder. "
        "Without a start mesh a new one is made.",
    )
    fit.add_argument("job", nargs="?", metavar="JOB", help="a job folder, in place of --mesh and --views")
    fit.add_argument(
        "--resume", action="store_true", help="go on from the best state in the job folder; else it is removed first"
    )
    fit.add_argument("--mesh", metavar="FILE", help="the mesh to start from; its topology is kept")
    fit.add_argument("--views", metavar="FOLDER", help="folder with a cameras.json and masks")
    fit.add_argument("--mask-channel", metavar="NAME", help="where masks are: auto, alpha, grey, red, green, blue")
    fit.add_argument("--mask-threshold", type=float, metavar="T", help="0..1: above it is object, else background")
    fit.add_argument("--mask-invert", action="store_true", default=None, help="black is object, white is background")
    fit.add_argument("--mask-label", metavar="N", help="the object's value in maps of labels, or its colour: #ff0000")
    fit.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="DIR",
        help="read images that the views, the job or the mesh name there",
    )
    fit.add_argument("--out", metavar="FILE", help="where to write the fitted mesh (.obj .ply .stl .off .glb)")
    fit.add_argument("--out-views", metavar="DIR", help="where to write the views with the fitted cameras")
    fit.add_argument("--mode", choices=("refine", "reconstruct"), help="default: refine with a mesh, else reconstruct")
    fit.add_argument(
        "--optimize", metavar="WHAT", help="of vertices (default), object, pose, shape_keys, cameras; with commas"
    )
    fit.add_argument("--report", metavar="DIR", help="write a report with pictures (report.html) there")
    fit.add_argument("--seed", type=int, metavar="N", help="start of the random numbers (default 0)")
    fit.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default auto)")
    fit.add_argument("--max-seconds", type=float, metavar="S", help="stop after this time with the best so far")
    fit.add_argument("--symmetry", choices=("x", "y", "z"), help="keep mirror symmetry across this axis")
    fit.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting of softras.fit"
    )
    fit.set_defaults(run=_fit)

    doctor = commands.add_parser("doctor", help="say what runs where and why")
    doctor.set_defaults(run=_doctor)
    serve = commands.add_parser("serve", help="answer fit requests on stdin and stdout (used by Blender)")
    serve.set_defaults(run=_serve)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import report

    return report()


def _serve(options: argparse.Namespace) -> int:
    from .server import serve

    return serve()


def _fit(options: argparse.Namespace) -> int:
    with _interrupt_stops() as stopped:
        return _fit_until(stopped, options)


def _fit_until(stopped: list[int], options: argparse.Namespace) -> int:
    from .io.meshes import check_target, save_mesh
    from .keeping import Keeper

    started = time.monotonic()
    job = _job(options)
    # What would fail at the end fails now, before the work.
    if options.out:
        check_target(options.out, job.mesh, like=_source(options))
        _check_writable(Path(options.out).absolute().parent)
    if options.job:
        _check_writable(Path(options.job))
    for folder in (options.report, options.out_views):
        if folder:
            _check_writable(Path(folder))

    from .run import FitResult, run

    if stopped:
        raise _Stopped(stopped[0])
    job, before = _resumed(job, options)
    events = run(job, stop=lambda: bool(stopped))  # refuses what it cannot do before an earlier result is removed
    keeper = Keeper(Path(options.job), job, before) if options.job else None
    progress = _ProgressBar(sys.stderr)
    result: FitResult | None = None
    for event in events:
        if isinstance(event, FitResult):
            result = event
            continue
        if keeper is not None:
            keeper.take(event)
        progress.show(event)
    progress.end()
    if result is None:
        raise RuntimeError("the fit ended without a result")
    missing: list[str] = []  # what was asked for and could not be written
    if keeper is not None:
        result = keeper.keep_result(result)
        kept = keeper.close("cancelled" if stopped else "finished", result.notes)
        missing += () if kept is None else kept["notes"][len(result.notes) :]
    if options.out:
        _attempt(missing, lambda: save_mesh(options.out, result.mesh, like=_source(options)))
    if options.out_views:
        from .io.views import save_views

        _attempt(missing, lambda: save_views(options.out_views, result.fitted_views(job.views)))
    notes: list[str] = []
    if options.report:
        from .report.pictures import write_report

        _attempt(notes, lambda: write_report(options.report, job.views, job.start, result))
    _print_result(job, result, options, time.monotonic() - started)
    for note in notes:  # the fit is worth more than its pictures
        print(f"softras: there is no report: {note}", file=sys.stderr)
    for sentence in missing:
        print(f"softras: {sentence}", file=sys.stderr)
    if stopped:
        return SIGNALLED + stopped[0]
    return BAD_INPUT if missing else OK


def _attempt(missing: list[str], write: Callable[[], object]) -> None:
    """Write one of the outputs; what fails is said at the end, after the others are written."""
    try:
        write()
    except InputError as error:
        missing.append(str(error))


def _resumed(job: Job, options: argparse.Namespace) -> tuple[Job, State | None]:
    """The job, or with --resume the job that goes on from the best state in its folder; says so."""
    if not options.resume:
        return job, None
    from .keeping import resumed

    job, before = resumed(job, Path(options.job))
    if before is None:
        print("softras: there is no result to go on from; the fit begins anew.", file=sys.stderr)
    else:
        told = [value for value in before.iou if value is not None]
        mean = f", mean IoU {sum(told) / len(told):.4f}" if told else ""
        print(f"softras: goes on from the best state of step {before.step}{mean}.", file=sys.stderr)
    return job, before


def _job(options: argparse.Namespace) -> Job:
    from .io.meshes import load_mesh
    from .io.views import load_views
    from .job import Job

    settings, reading = _settings(options), _reading(options)
    if options.resume and not options.job:
        raise InputError("only a job folder keeps what was found; give one with --resume.")
    if options.job:
        if options.mesh or options.views:
            raise InputError("give either a job folder or --mesh and --views, not both.")
        if reading:
            raise InputError("the masks of a job folder are read already; leave the --mask options out.")
        job = Job.load(options.job, options.allow)
        job.settings.update(settings)
        return job
    if not options.views:
        raise InputError("there are no views; name their folder with --views FOLDER.")
    if not (options.out or options.out_views):
        raise InputError("there is nowhere to put the fitted mesh; name a file with --out FILE.")
    mesh = load_mesh(options.mesh, options.allow) if options.mesh else None
    if mesh is None and settings.get("mode") == "refine":
        raise InputError("there is no mesh to refine; name one with --mesh FILE or use --mode reconstruct.")
    settings.setdefault("mode", "reconstruct" if mesh is None else "refine")
    return Job(load_views(options.views, **reading, allow=options.allow), mesh, settings=settings)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("mode", "seed", "device", "max_seconds", "symmetry")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.optimize:
        settings["optimize"] = [name.strip() for name in options.optimize.split(",")]
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} needs the form NAME=VALUE.")
        try:
            settings[name.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            settings[name.strip().replace("-", "_")] = value
    return settings


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How masks are read, as far as it is given."""
    names = ("mask_channel", "mask_threshold", "mask_invert", "mask_label")
    reading = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if (label := reading.get("mask_label", "")).isdecimal():
        reading["mask_label"] = int(label)
    return reading


def _source(options: argparse.Namespace) -> str | None:
    """The OBJ whose texture coordinates and polygons the fitted mesh keeps."""
    return None if options.mode == "reconstruct" else options.mesh


def _check_writable(folder: Path) -> None:
    from .files import make_folder, remove, write_bytes

    make_folder(folder)
    probe = ".softras-probe"
    write_bytes(folder / probe, b"")
    remove(folder, probe)


@contextmanager
def _interrupt_stops() -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM fills the list with its number, and the fit ends with its best; the second one ends
    the command. A signal that is ignored stays ignored, as of a command in the background of a script.

    Python's own handler raises wherever the program is, and libraries that are being imported may swallow that.
    """
    stopped: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        for again, handler in before.items():
            signal.signal(again, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _ProgressBar:
    """One live line on a terminal, a line every tenth of the way elsewhere."""

    WIDTH = 24

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._started = time.monotonic()
        self._next = 0.0
        self._iou: float | None = None

    def show(self, event: Progress) -> None:
        done = event.step / max(event.steps, 1)
        for note in event.notes:
            print(f"{self._clear()}note: {note}", file=self._stream, flush=True)
        if event.iou is not None:
            told = [float(value) for value in event.iou if not math.isnan(value)]
            self._iou = sum(told) / len(told) if told else None
        now = time.monotonic()
        if (now if self._live else done) < self._next:
            return
        self._next = now + 0.1 if self._live else (int(done * 10) + 1) / 10
        loss = sum(float(value) for value in event.loss.values())
        iou = "" if self._iou is None else f"  mean IoU {self._iou:.4f}"
        text = f"{done:4.0%}  step {event.step}/{event.steps}  loss {loss:.4f}{iou}  {now - self._started:.1f} s"
        if self._live:
            filled = round(done * self.WIDTH)
            bar = "█" * filled + "·" * (self.WIDTH - filled)
            print(f"\r{bar} {text}\x1b[K", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def _clear(self) -> str:
        """What makes room for a line."""
        return "\r\x1b[K" if self._live else ""

    def end(self) -> None:
        if self._live:
            print(file=self._stream)


def _print_result(job: Job, result: FitResult, options: argparse.Namespace, seconds: float) -> None:
    width = max(4, *(len(view.name) for view in job.views))
    print(f"{'view':{width}}  IoU")
    for view, iou in zip(job.views, result.iou, strict=True):
        print(f"{one_line(view.name):{width}}  {'left out' if math.isnan(iou) else f'{iou:.4f}'}")
    print(f"{'mean':{width}}  {result.mean_iou:.4f}")
    for note in result.notes:
        print(note)
    mesh = result.mesh
    print(f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, {seconds:.1f} s")
    if options.out:
        print(f"mesh: {options.out}")
    if options.out_views:
        print(f"views: {options.out_views}")
    if options.report:
        print(f"report: {Path(options.report) / 'report.html'}")
