"""`softras doctor` says which tasks can run on this machine, on which device, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError
from .tasks import TASKS, Task

TORCH = "2.13.0"  # The version of PyTorch with which Softras is tested.


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        part: what was looked at, such as "torch".
        ok: True if it can be used, False if it is missing, None if it is not used and not needed.
        found: what was found.
        advice: what the user can do about it, or "".
    """

    part: str
    ok: bool | None
    found: str
    advice: str = ""


def capabilities() -> dict[str, Any]:
    """The fields of the engine's hello: python, torch, device, backend, why no better one is used, and the tasks.

    `tasks` has, by the name of each task, "" or the sentence that says what it lacks. Raises InputError when PyTorch is
    missing.
    """
    torch = _torch()
    from .raster.native import cpu, cuda

    no_gpu = cuda.problem()
    no_native = "" if cpu.available() else cpu.description()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": "cpu" if no_gpu else "cuda",
        "backend": "cuda" if not no_gpu else "reference" if no_native else "native",
        "reason": "; ".join(filter(None, (no_native, no_gpu))),
        "tasks": {name: problem(task) for name, task in TASKS.items()},
    }


def problem(task: Task) -> str:
    """The sentence that says which packages a task lacks and how to install them; "" where it can run."""
    try:
        if "torch" in task.needs:
            _torch()
    except InputError as error:
        return str(error)
    missing = [name for name in task.needs if name != "torch" and _version(name) is None]
    return f"{' and '.join(missing)} missing in {sys.executable}; {_install(*missing)}." if missing else ""


def require(task: Task) -> None:
    """Raises InputError when a package that the task needs is missing."""
    if sentence := problem(task):
        raise InputError(sentence)


def findings() -> list[Finding]:
    """All findings, in the order of the report."""
    result = [
        Finding("softras", True, f"{__version__} in {Path(__file__).parent}"),
        Finding("python", True, f"{platform.python_version()} at {sys.executable}"),
        Finding("system", True, f"{platform.system()} {platform.machine()}, {_threads()} threads"),
    ]
    needed = dict.fromkeys(name for task in TASKS.values() for name in task.needs if name != "torch")
    result += map(_package, needed)
    try:
        torch = _torch()
    except InputError as error:
        return [*result, Finding("torch", False, "missing", str(error))]
    result.append(Finding("torch", True, torch.__version__))
    return [*result, _native(), _cuda(torch)]


def report() -> int:
    """Print the findings and which tasks can run. Returns the exit status: 0 if all can run, else 2."""
    for finding in findings():
        mark = {True: "ok", False: "MISSING", None: "-"}[finding.ok]
        print(f"{finding.part:12} {mark:8} {finding.found}")
        if finding.advice:
            print(f"{'':21} {finding.advice}")
    problems = {name: problem(task) for name, task in TASKS.items()}
    for name, sentence in problems.items():
        print(f"softras {name} cannot run: {sentence}" if sentence else f"softras {name} can run on this machine.")
    return 2 if any(problems.values()) else 0


def _torch() -> Any:
    try:
        import torch
    except Exception as error:  # A damaged installation of torch raises OSError, ImportError and others.
        advice = _install(f"torch=={TORCH}")
        if importlib.util.find_spec("torch") is None:
            raise InputError(f"PyTorch is not installed in {sys.executable}; {advice}.") from error
        raise InputError(f"PyTorch in {sys.executable} does not load ({error}); {advice}.") from error
    return torch


def _package(name: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, False, "missing", _install(name) + ".")
    return Finding(name, True, version)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _install(*packages: str) -> str:
    return f"install with '{sys.executable} -m pip install {' '.join(packages)}'"


def _native() -> Finding:
    from .raster.native import cpu

    if cpu.available():
        return Finding("native", True, f"{cpu.library_path()}, instruction set {cpu.description()}")
    advice = "fits run on the slow reference in PyTorch; 'pip install .' in a checkout builds the library."
    return Finding("native", None, f"not used: {cpu.description()}", advice)


def _cuda(torch: Any) -> Finding:
    from .raster.native import cuda

    problem = cuda.problem()
    name = f"{torch.cuda.get_device_name(torch.cuda.current_device())}: " if torch.cuda.is_available() else ""
    return Finding("cuda", None if problem else True, name + (f"not used: {problem}" if problem else "used"))


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
