"""`softras fit`: a job folder or a mesh and views, every setting as an option, and a table of the IoU per view."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, one_line
from ..files import check_writable
from ..fitting.settings import Settings
from ..job import Job, finite
from ..knobs import knobs
from ..log import LOG
from ..views import mean_iou
from .command import Command, add_inputs, check_inputs, given_mesh, given_views
from .fit_state import FitDocument, resumed

if TYPE_CHECKING:
    from ..fitting.progress import FitResult
    from .task import Result, Task


class FitCommand(Command):
    """The command of the task `fit`."""

    description = (
        "Fit a mesh to the masks of a views folder (with a cameras.json), or run a job folder. "
        "Without a start mesh a new one is made: the mode is reconstruct then, whatever its default."
    )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the inputs, the outputs and the settings."""
        add_inputs(parser, mesh="the mesh to start from; its topology is kept")
        parser.add_argument(
            "--resume",
            action="store_true",
            help="go on from the best state in the job folder; else it is removed first",
        )
        parser.add_argument("--out", metavar="FILE", help="where to write the fitted mesh (.obj .ply .stl .off .glb)")
        parser.add_argument("--out-views", metavar="DIR", help="where to write the views with the fitted cameras")
        settings = parser.add_argument_group(
            "settings", "As in a job's settings: names, numbers, or JSON. Several names stand with commas between them."
        )
        for one in knobs(Settings):
            option = f"--{one.name.replace('_', '-')}"
            settings.add_argument(option, metavar="VALUE", help=one.text.replace("%", "%%"))
        settings.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="any of these settings, by its name"
        )

    def read(self, task: Task, options: argparse.Namespace) -> FitDocument:
        """The job with the settings of the options, from its start or from the best state in its folder."""
        from ..io.meshes import check_target

        job = _job(options)
        if options.out:
            check_target(options.out, job.mesh, like=_source(options))
            check_writable(Path(options.out).absolute().parent)
        if options.job:
            check_writable(Path(options.job))
        if options.out_views:
            check_writable(Path(options.out_views))
        if not options.resume:
            return FitDocument(job)
        job, earlier = resumed(job, Path(options.job))
        if earlier is None:
            LOG.warning("there is no result to go on from; the fit begins anew.")
        else:
            mean = finite(mean_iou(earlier.iou))
            measured = "" if mean is None else f", mean IoU {mean:.4f}"
            LOG.warning("goes on from the best state of step %d%s.", earlier.step, measured)
        return FitDocument(job, earlier)

    def write(self, document: FitDocument, result: Result, options: argparse.Namespace) -> list[str]:
        """Write the mesh and the views."""
        from ..io.meshes import save_mesh
        from ..io.views import save_views

        found: FitResult = result.value
        failed: list[str] = []
        if options.out:
            _attempt(failed, lambda: save_mesh(options.out, found.mesh, like=_source(options)))
        if options.out_views:
            _attempt(failed, lambda: save_views(options.out_views, found.fitted_views(document.job.views)))
        return failed

    def show(self, document: FitDocument, result: Result, said: dict[str, Any], options: argparse.Namespace) -> None:
        """Print a table of the IoU per view, the notes, how the fit ended, and what was written."""
        found: FitResult = result.value
        views = document.job.views
        width = max(4, *(len(view.name) for view in views))
        print(f"{'view':{width}}  IoU")
        for view, iou in zip(views, found.iou, strict=True):
            print(f"{one_line(view.name):{width}}  {'left out' if math.isnan(iou) else f'{iou:.4f}'}")
        print(f"{'mean':{width}}  {found.mean_iou:.4f}")
        for note in found.notes:
            print(note)
        size = f"{len(found.mesh.vertices)} vertices, {len(found.mesh.faces)} triangles"
        print(f"{size}, {said['elapsed']:.1f} s, {found.status}")
        if options.out:
            print(f"mesh: {options.out}")
        if options.out_views:
            print(f"views: {options.out_views}")
        if options.report:
            print(f"report: {Path(options.report) / 'report.html'}")


def _attempt(failed: list[str], write: Callable[[], object]) -> None:
    """Write one of the outputs; what fails is said at the end, after the others are written."""
    try:
        write()
    except InputError as error:
        failed.append(str(error))


def _job(options: argparse.Namespace) -> Job:
    settings = _settings(options)
    if options.resume and not options.job:
        raise InputError("only a job folder keeps what was found; give one with --resume.")
    check_inputs(options)
    if options.job:
        job = Job.load(options.job, options.allow)
        job.settings.update(settings)
        return job
    if not (options.out or options.out_views):
        raise InputError("there is nowhere to put the fitted mesh; name a file with --out FILE.")
    mesh = given_mesh(options)
    if mesh is None and settings.get("mode") == "refine":
        raise InputError("there is no mesh to refine; name one with --mesh FILE or use --mode reconstruct.")
    settings.setdefault("mode", "reconstruct" if mesh is None else "refine")
    return Job(given_views(options), mesh, settings=settings)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of settings. Raises InputError for a value that its setting does not take."""
    declared = {one.name: one for one in knobs(Settings)}
    given = {name: getattr(options, name) for name in declared if getattr(options, name) is not None}
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} needs the form NAME=VALUE.")
        given[name.strip().replace("-", "_")] = value
    settings = {name: _value(text) for name, text in given.items()}
    for name, value in settings.items():
        if name in declared:  # else the fit says that there is no such setting
            if isinstance(declared[name].default, tuple) and isinstance(value, str):
                settings[name] = value = [part.strip() for part in value.split(",")]
            declared[name].check(name, value)  # now, not after all masks are read
    return settings


def _value(text: str) -> Any:
    """The value that a text stands for: JSON, a number as Python writes it, or the text itself."""
    for read in (json.loads, int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return text


def _source(options: argparse.Namespace) -> str | None:
    """The OBJ whose texture coordinates and polygons the fitted mesh keeps."""
    return None if options.mode == "reconstruct" else options.mesh
