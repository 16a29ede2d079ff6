"""Knobs: settings that are declared once, each with its default, its check, its unit and one sentence.

A frozen dataclass declares its fields by `knob`. From these come the checks of what a user gives (`checked`), the
command line's `--help`, the page docs/settings.md and the test that no knob is without effect.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from .errors import InputError, shown

T = TypeVar("T")
Check = Callable[[str, Any], Any]  # from the name and the given value to the value in its own type, or an InputError


@dataclass(frozen=True)
class Knob:
    """One setting.

    Attributes:
        name: the name of the field.
        default: the default value; `dataclasses.MISSING` for a knob that must be given.
        check: returns the value in its own type, or raises InputError.
        unit: the unit of a number, such as "seconds"; empty where there is none.
        sentence: what the setting does.
    """

    name: str
    default: Any
    check: Check
    unit: str
    sentence: str

    @property
    def default_text(self) -> str:
        """The default as JSON has it, "none" for nothing, and an empty text where a value must be given."""
        if self.default is MISSING:
            return ""
        return "none" if self.default in (None, (), {}) else json.dumps(self.default)

    @property
    def text(self) -> str:
        """The sentence, the unit and the default."""
        if self.default_text in ("", "none"):
            unit = f" In {self.unit}." if self.unit else ""
            return self.sentence + unit + (" Default: none." if self.default_text else "")
        return f"{self.sentence} Default: {self.default_text}{' ' if self.unit else ''}{self.unit}."


def knob(check: Check, sentence: str, *, unit: str = "", **default: Any) -> Any:
    """A field of a dataclass of settings; `default` or `default_factory` as in `dataclasses.field`."""
    return field(**default, metadata={"check": check, "sentence": sentence, "unit": unit})


def or_none(check: Check) -> Check:
    """A check that lets None through."""
    return lambda name, value: None if value is None else check(name, value)


def knobs(cls: type) -> list[Knob]:
    """All knobs of a class, in the order in which they are declared."""
    found = []
    for declared in fields(cls):
        default = declared.default if declared.default_factory is MISSING else declared.default_factory()
        found.append(Knob(declared.name, default, *(declared.metadata[part] for part in ("check", "unit", "sentence"))))
    return found


def checked(cls: type[T], values: Mapping[str, Any], of: str = "") -> T:
    """An instance made of checked values; what is not given takes its default, which is checked too.

    Args:
        values: by name; the names are known to be knobs of the class.
        of: what the knobs belong to, as in " of a stage"; it follows the knob's name in messages.

    Raises:
        InputError: the first value that its knob does not take.
    """
    taken = {}
    for one in knobs(cls):
        value = values.get(one.name, one.default)
        taken[one.name] = one.check(one.name + of, value)
    return cls(**taken)


def refuse_unknown(cls: type, values: Mapping[Any, Any], what: str, has: str) -> None:
    """Raises InputError for the first name that is no knob: "`what` NAME; `has` all names"."""
    known = sorted(one.name for one in knobs(cls))
    for name in values:
        if name not in known:
            raise InputError(f"{what} {shown(name)}; {has} {', '.join(known)}.")


def described(cls: type) -> str:
    """One paragraph for each knob, as a docstring lists attributes: name, unit, sentence and default."""
    lines = []
    for one in knobs(cls):
        text = textwrap.wrap(f"{one.name}: {one.text}", 108, subsequent_indent="    ")
        lines += [f"        {line}" for line in text]
    return "\n".join(lines)
