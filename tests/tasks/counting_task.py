"""A task in one file: `python counting_task.py count JOB`, or `serve` to have it in an engine process."""

import json
import sys
import time

from softras.cli import main
from softras.tasks import TASKS, Result, State, Task, Update


def read(folder, allow):
    return json.loads((folder / "count.json").read_text())["to"]


def run(to, context):
    for number in range(to):
        if context.stopped():
            return
        time.sleep(0.01)
        context.keeper.keep(State({"counted": number + 1}))
        yield Update(number + 1, to, text=f"counted {number + 1}")
    yield Result(State({"counted": to}))


TASKS["count"] = Task("count", "count to the number in count.json", read, run)
if __name__ == "__main__":
    sys.exit(main())
