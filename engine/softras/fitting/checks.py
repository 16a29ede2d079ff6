"""Single values of settings and stages, checked: each function returns the value or raises InputError."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from ..errors import InputError


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} cannot be {value!r}; choose from {', '.join(choices)}.")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False, no word or number for it."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {value!r}.")
    return value


def whole(name: str, value: Any, least: int | None) -> int:
    """An integer of any type, numpy's too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise InputError(f"{name} must be a whole number{bound}, not {value!r}.")
    return number


def positive(name: str, value: Any, *, zero: bool = False) -> float:
    """A finite number above 0, or 0 itself where that is allowed."""
    if not (isinstance(value, Real) and math.isfinite(value) and (float(value) > 0 or (zero and value == 0))):
        raise InputError(f"{name} must be a {'number of 0 or more' if zero else 'positive number'}, not {value!r}.")
    return float(value)


def ends(name: str, value: Any) -> tuple[float, float]:
    """The positive numbers at the start and the end of a stage; between them is a geometric series."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{name} must be two positive numbers, for the start and the end, not {value!r}.")
    return positive(name, value[0]), positive(name, value[1])


def mapping(name: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """A dictionary with some of the keys."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a dictionary with some of {', '.join(keys)}, not {value!r}.")
    return {one_of(name, key, keys): item for key, item in value.items()}


def names(name: str, value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    """One name or several, none twice."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Sequence | set):
        raise InputError(f"{name} must be a list of names of {', '.join(choices)}, not {value!r}.")
    if not given:
        raise InputError(f"{name} names nothing; choose from {', '.join(choices)}.")
    return tuple(dict.fromkeys(one_of(name, item, choices) for item in given))
