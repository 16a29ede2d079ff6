"""Writes docs/settings.md from the declarations of the knobs.

python docs/write_settings.py
"""

from __future__ import annotations

import json
from pathlib import Path

from softras.fitting.schedule import RECONSTRUCT, REFINE, Stage
from softras.fitting.settings import Settings
from softras.fitting.terms.table import TERMS
from softras.knobs import knobs

PAGE = Path(__file__).resolve().parent / "settings.md"
HEAD = """# Settings

Every knob of a fit: a keyword argument of `softras.fit`, a key of a job's `settings`, and an option of `softras fit`, such as `--max-seconds` for `max_seconds`, whose `--help` says the same (lists of names may be written with commas there, all else is as in JSON, as in this table). This page is written by `python docs/write_settings.py` from the declarations in `softras/fitting/settings.py` and `schedule.py`. [fitting.md](fitting.md) says how the search uses them.

"""


def table(cls: type) -> str:
    """Name, default, unit and sentence of every knob."""
    rows = ["| name | default | unit | |", "|---|---|---|---|"]
    for one in knobs(cls):
        default = one.default_text if one.default_text in ("", "none") else f"`{one.default_text}`"
        rows.append(f"| `{one.name}` | {default} | {one.unit} | {one.sentence} |")
    return "\n".join(rows) + "\n"


def weights() -> str:
    """The default weight of every term in each kind of fit; none where it takes no part."""
    rows = ["| term | vertices, refine | vertices, reconstruct | all else |", "|---|---|---|---|"]
    for name, term in TERMS.items():
        vertices, poses = term.loss is not None, term.residuals is not None or term.penalty is not None
        part = {"refine": vertices, "reconstruct": vertices, "poses": poses}
        values = [f"{term.weights.get(kind, 0.0):g}" if takes else "" for kind, takes in part.items()]
        rows.append(f"| `{name}` | {' | '.join(values)} |")
    return "\n".join(rows) + "\n"


def stages(schedule: tuple[Stage, ...]) -> str:
    """The values of each stage, one row each."""
    names = [one.name for one in knobs(Stage)]
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for stage in schedule:
        values = [getattr(stage, name) for name in names]
        rows.append(f"| {' | '.join('none' if value is None else json.dumps(value) for value in values)} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """The whole page."""
    return (
        HEAD
        + table(Settings)
        + "\n## Stages\n\n`schedule` is a list of stages of the vertices, each a dictionary with some of these:\n\n"
        + table(Stage)
        + "\nThe stages of `refine`:\n\n"
        + stages(REFINE)
        + "\nOf `reconstruct`:\n\n"
        + stages(RECONSTRUCT)
        + "\n## Weights\n\n`weights` names terms of the objective; [fitting.md](fitting.md) has those of few parameters.\n\n"
        + weights()
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
