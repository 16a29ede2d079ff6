"""What can be asked of the engine: the table of tasks. Importing it loads no torch."""

from __future__ import annotations

from . import fit, measure
from .task import Context, Result, State, Task, Update

__all__ = ["TASKS", "Context", "Result", "State", "Task", "Update"]

TASKS: dict[str, Task] = {task.name: task for task in (fit.TASK, measure.TASK)}
