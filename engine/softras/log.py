"""The log: one logger whose one handler writes to stderr.

The stderr of the engine process is the log file that Blender can open, so each line of it begins with the time; on the
command line a line begins with "softras:". What libraries print is not changed. Standard library only.
"""

from __future__ import annotations

import logging
import re
import warnings

LOG = logging.getLogger("softras")
_ROUTINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ")


def log_to_stderr(*, times: bool) -> None:
    """Send the log and Python's warnings to stderr; times: whether lines have times, and requests are logged too."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{'%(asctime)s %(levelname)s ' if times else ''}%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    LOG.setLevel(logging.INFO if times else logging.WARNING)
    # The message of a warning is for the user; the line of the source that raised it is not.
    warnings.showwarning = lambda message, *where: LOG.warning("%s", message)


def is_routine(line: str) -> bool:
    """Whether a line of a log with times is an ordinary one, not one that says why the process ended."""
    return _ROUTINE.match(line) is not None
