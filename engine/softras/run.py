"""A job becomes a fit: the one way the command line and the server start one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .errors import InputError
from .fitting import FitResult, Progress, fit_events
from .job import Job

__all__ = ["FitResult", "Progress", "run"]

_NOT_SETTINGS = {"start", "mesh", "rig", "views", "lock", "stop"}  # arguments of fit_events that a job holds elsewhere


def run(job: Job, stop: Callable[[], bool] | None = None) -> Iterator[Progress | FitResult]:
    """The events of the job's fit; the last one is the result. `stop` returning True ends it with the best so far.

    Raises InputError for a setting that does not exist or does not fit.
    """
    if misplaced := _NOT_SETTINGS & set(job.settings):
        raise InputError(f"'{misplaced.pop()}' cannot be a setting; it has its own place in a job.")
    return fit_events(job.start, job.views, lock=job.lock, stop=stop, **job.settings)
