"""How a run of a task stands, in the one set of words that every part uses.

`FitResult.status`, result.json, the messages between Blender and the engine, the command line's exit status and
Blender's panel mean the same by the same word. Standard library only.
"""

from __future__ import annotations

from typing import Literal

Status = Literal["running", "finished", "stopped", "out of time", "failed"]

RUNNING: Status = "running"  # it goes on, or its process was killed
FINISHED: Status = "finished"  # it went all its way
STOPPED: Status = "stopped"  # the user ended it, and the result is the best that it had found by then
OUT_OF_TIME: Status = "out of time"  # max_seconds ended it, and the result is the best that it had found by then
FAILED: Status = "failed"  # the engine failed, and Blender took the best that was in the job folder
