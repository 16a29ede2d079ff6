"""What the engine says of itself goes through one logger and one handler, to stderr.

The engine process's stderr is the log that Blender opens, so each line there begins with its time; on the command line
a sentence begins with "softras:" alone. What libraries print passes by unchanged. Standard library only.
"""

from __future__ import annotations

import logging
import re
import warnings

LOG = logging.getLogger("softras")
_ROUTINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ")


def log_to_stderr(*, times: bool) -> None:
    """Send the log and Python's warnings to stderr; times: as a log with times, which tells of each request too."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{'%(asctime)s %(levelname)s ' if times else ''}%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    LOG.setLevel(logging.INFO if times else logging.WARNING)
    # The message of a warning is a sentence for the user; where in the source it was raised is not.
    warnings.showwarning = lambda message, *where: LOG.warning("%s", message)


def is_routine(line: str) -> bool:
    """Whether a line of a log with times tells of work, and so not of what ended the process."""
    return _ROUTINE.match(line) is not None
