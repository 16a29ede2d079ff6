"""Checks of single values from outside: settings, JSON of files and messages, arguments.

Each function returns the value in its own type, or raises InputError with a sentence that begins with its name.
Standard library and numpy only, since Blender's side uses it too.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from .errors import InputError, shown

LARGEST = 1e15  # The largest number. Its square is still a float32, and no scene, image or weight needs a larger one.
LARGEST_WHOLE = 2**31 - 1  # The largest whole number, since indices and sizes are int32 in the kernels.
LONGEST_NAME = 1000  # A name has at most so many characters; longer text is most likely the content of a file.


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} cannot be {shown(value)}; choose from {', '.join(choices)}.")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False; a word or a number for it is refused."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be true or false, not {shown(value)}.")
    return bool(value)


def text(name: str, value: Any) -> str:
    """A string of at most LONGEST_NAME characters."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, not {shown(value)}.")
    if len(value) > LONGEST_NAME:
        raise InputError(f"{name} must be text of at most {LONGEST_NAME} characters, not {shown(value)}.")
    return value


def whole(name: str, value: Any, least: int | None, most: int = LARGEST_WHOLE) -> int:
    """An integer of any type, numpy's too, from `least` (None for -most) to `most`; True and False are refused."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    low = -most if least is None else least
    if number is None or not low <= number <= most:
        bounds = (
            f" from {low} to {most}"
            if number is not None and number > most
            else ""
            if least is None
            else f" of at least {least}"
        )
        raise InputError(f"{name} must be a whole number{bounds}, not {shown(value)}.")
    return number


def number(name: str, value: Any, low: float = -LARGEST, high: float = LARGEST, *, above: bool = False) -> float:
    """A finite real number of any type with low <= value <= high; with `above`, low < value."""
    kind = "positive number" if above and low == 0 else "number"
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # A whole number with more than 308 digits is no float.
        found = math.inf
    if low <= found <= high and not (above and found == low):
        return found
    if high < LARGEST:
        kind += f" {'above' if above else 'from'} {low:g} {'and at most' if above else 'to'} {high:g}"
    elif abs(found) > LARGEST:
        kind = f"finite {kind} of at most {LARGEST:g}"
    elif low > -LARGEST and not (above and low == 0):
        kind += f" above {low:g}" if above else f" of {low:g} or more"
    raise InputError(f"{name} must be a {kind}, not {shown(value)}.")


def positive(name: str, value: Any, *, zero: bool = False, most: float = LARGEST) -> float:
    """A finite number above 0; with `zero`, 0 is allowed too."""
    return number(name, value, 0.0, most, above=not zero)


def numbers(name: str, value: Any, count: int) -> tuple[float, ...]:
    """A sequence or array of `count` finite numbers."""
    try:
        items = None if isinstance(value, str | bytes | Mapping) else list(value)
    except TypeError:
        items = None
    if items is None or len(items) != count:
        raise InputError(f"{name} must be {count} numbers, not {shown(value)}.")
    return tuple(number(name, item) for item in items)


def array(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """A float64 copy of an array or of nested lists of finite numbers; None in the shape stands for any length."""
    try:
        found = np.array(None if _holds_flag(value) else value)
    except (TypeError, ValueError, RuntimeError, RecursionError):  # Ragged lists, or a tensor that requires a gradient.
        found = np.array(None)
    if found.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold numbers of at most {LARGEST:g}, and nothing else.")
    if found.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(f"{name} must have shape ({wanted}), not {found.shape}.")
    with np.errstate(over="ignore"):  # Numbers of a long double may be too large for float64.
        found = found.astype(np.float64)  # Half precision could not be compared with LARGEST.
    if not (np.abs(found) <= LARGEST).all():
        raise InputError(f"{name} must hold finite numbers of at most {LARGEST:g}, no NaN and no infinite ones.")
    return found


def _holds_flag(value: Any) -> bool:
    """Whether nested lists contain True or False, which numpy would take for numbers."""
    if isinstance(value, list | tuple):
        return any(map(_holds_flag, value))
    return isinstance(value, bool)


def affine(name: str, value: Any) -> np.ndarray:
    """A (4, 4) matrix that has an inverse and whose last row is 0 0 0 1."""
    matrix = array(name, value, (4, 4))
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-9 or not np.linalg.cond(matrix[:3, :3]) <= 1e6:
        raise InputError(f"{name} must be affine and must not be scaled to nothing.")
    return matrix


def indices(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """An int64 copy of an array or of nested lists of whole numbers from 0 to LARGEST_WHOLE."""
    found = array(name, value, shape)
    if (found != np.floor(found)).any() or (found < 0).any() or (found > LARGEST_WHOLE).any():
        raise InputError(f"{name} must be whole numbers, none of them negative.")
    return found.astype(np.int64)


def ends(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """Two numbers from `least` to `most`: a value at the start of a stage, and the value at its end."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{name} must be two positive numbers, for the start and the end, not {shown(value)}.")
    start, end = (number(name, item, least, most) for item in value)
    return start, end


def mapping(name: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """A dictionary whose keys are some of `keys`."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a dictionary with some of {', '.join(keys)}, not {shown(value)}.")
    return {one_of(name, key, keys): item for key, item in value.items()}


def names(name: str, value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    """One of the choices or a list of some; a choice that is named twice is returned once."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Sequence | set):
        raise InputError(f"{name} must be a list of names of {', '.join(choices)}, not {shown(value)}.")
    if not given:
        raise InputError(f"{name} names nothing; choose from {', '.join(choices)}.")
    return tuple(dict.fromkeys(one_of(name, item, choices) for item in given))
