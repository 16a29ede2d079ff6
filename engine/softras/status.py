"""The words for how a run of a task stands or ended.

`FitResult.status`, result.json, the messages between Blender and the engine, the command line and Blender's panel use
the same words. Standard library only.
"""

from __future__ import annotations

from typing import Literal

Status = Literal["running", "finished", "stopped", "out of time", "failed"]

RUNNING: Status = "running"  # The run goes on, or its process was killed.
FINISHED: Status = "finished"  # The run did all its work.
STOPPED: Status = "stopped"  # The user ended it; the result is the best that it had found by then.
OUT_OF_TIME: Status = "out of time"  # max_seconds ended it; the result is the best that it had found by then.
FAILED: Status = "failed"  # The engine failed, and Blender took the best state from the job folder.
