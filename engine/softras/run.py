"""A job becomes a fit: the one way the command line and the server start one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

from .errors import InputError
from .fitting import FitResult, Progress, fit_events
from .job import Job

__all__ = ["FitResult", "Progress", "run"]

_FROM_JOB = ("mesh", "views", "lock", "stop")


def run(job: Job, stop: Callable[[], bool] | None = None) -> Iterator[Progress | FitResult]:
    """The events of the job's fit; the last one is the result. `stop` returning True ends it with the best so far.

    Raises InputError for a setting that does not exist or does not fit.
    """
    known = [name for name in inspect.signature(fit_events).parameters if name not in _FROM_JOB]
    unknown = sorted(set(job.settings) - set(known))
    if unknown:
        raise InputError(f"there is no setting '{unknown[0]}'; choose from {', '.join(known)}.")
    return fit_events(job.mesh, job.views, lock=job.lock, stop=stop, **job.settings)
