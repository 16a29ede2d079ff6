"""How the command line asks for a task and shows its result: `softras NAME JOB`, and JSON, unless a task says more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..mesh import Mesh
    from ..views import View
    from .task import Result, Task


class Command:
    """The command of a task that reads a job folder and prints its result as JSON. A subclass says what differs."""

    description: str | None = None  # the first paragraph of `softras NAME --help`, where the summary does not do

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes, beside --report."""
        parser.add_argument("job", metavar="JOB", help="a job folder")
        add_allow(parser)

    def read(self, task: Task, options: argparse.Namespace) -> Any:
        """The document. What would fail at the end of the work fails here, before it. Raises InputError."""
        return task.read(Path(options.job), options.allow)

    def folder(self, options: argparse.Namespace) -> Path | None:
        """The job folder that is to keep what is found, or None without one."""
        return None if options.job is None else Path(options.job)

    def write(self, document: Any, result: Result, options: argparse.Namespace) -> Sequence[str]:
        """Write what the options ask for, apart from the report; returns a sentence for each output that failed."""
        return ()

    def show(self, document: Any, result: Result, said: dict[str, Any], options: argparse.Namespace) -> None:
        """Print the result; said: what the server would answer."""
        print(json.dumps(said, indent=1, allow_nan=False))


def add_allow(parser: argparse.ArgumentParser) -> None:
    """The option that widens where images may lie."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="DIR",
        help="read images that the views, the job or the mesh name there",
    )


def add_inputs(parser: argparse.ArgumentParser, *, mesh: str) -> None:
    """What stands for a job folder: a mesh, with its help, and a folder of views."""
    parser.add_argument("job", nargs="?", metavar="JOB", help="a job folder, in place of --mesh and --views")
    parser.add_argument("--mesh", metavar="FILE", help=mesh)
    parser.add_argument("--views", metavar="FOLDER", help="folder with a cameras.json and masks")
    parser.add_argument("--mask-channel", metavar="NAME", help="where masks are: auto, alpha, grey, red, green, blue")
    parser.add_argument("--mask-threshold", type=float, metavar="T", help="0..1: above it is object, else background")
    parser.add_argument("--mask-invert", action="store_true", default=None, help="black is object, white is background")
    parser.add_argument(
        "--mask-label", metavar="N", help="the object's value in maps of labels, or its colour: #ff0000"
    )
    add_allow(parser)


def check_inputs(options: argparse.Namespace) -> None:
    """Raises InputError unless there is either a job folder or a folder of views."""
    if not options.job:
        if not options.views:
            raise InputError("there are no views; name their folder with --views FOLDER.")
        return
    if options.mesh or options.views:
        raise InputError("give either a job folder or --mesh and --views, not both.")
    if _reading(options):
        raise InputError("the masks of a job folder are read already; leave the --mask options out.")


def given_mesh(options: argparse.Namespace) -> Mesh | None:
    """The mesh of --mesh."""
    from ..io.meshes import load_mesh

    return load_mesh(options.mesh, options.allow) if options.mesh else None


def given_views(options: argparse.Namespace) -> list[View]:
    """The views of --views, their masks read as the options say."""
    from ..io.views import load_views

    return load_views(options.views, **_reading(options), allow=options.allow)


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How masks are read, as far as the options say."""
    names = ("mask_channel", "mask_threshold", "mask_invert", "mask_label")
    reading = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if (label := reading.get("mask_label", "")).isdecimal():
        reading["mask_label"] = int(label)
    return reading
