"""Documents of nested lists and objects with odd values somewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

GONE = object()  # in place of a value: the key is taken out
ODD: list[Any] = [
    *(GONE, None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1e-300, 1e-20, 1e15, -1e15, 1e16, 1e30, 1e200, 1e308),
    *(float("nan"), float("inf"), float("-inf"), 2**31, 2**40, 2**63, -(2**63), 10**30, int("9" * 400)),
    *("", "x", "1", "a" * 1000, "b" * 5000, "\x00", "\x1b[31m\n", "\ud800", "..", "/", "../../etc/passwd", "é", "nan"),
    *([], {}, [[]], [0], [1, 2], [0] * 3, [0] * 16, [[0] * 3] * 3, [[0] * 4] * 4, [1e15] * 3, [True] * 3, {"x": 1}),
    *(["x"], [None], [["vertices"]], ["vertices", "object"], "object", "reconstruct", "cuda"),
]
odd = st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=5))


def paths(document: Any, before: tuple = ()) -> Iterator[tuple]:
    """Where a document of nested lists and objects has values."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items if isinstance(document, dict | list) else ():
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*before, key))


def changed(document: dict, edits: list[tuple[tuple, Any]]) -> dict:
    """The document with other values at some places."""
    document = copy.deepcopy(document)
    for path, value in edits:
        at: Any = document
        try:
            for key in path[:-1]:
                at = at[key]
            if value is GONE:
                del at[path[-1]]
            else:
                at[path[-1]] = copy.deepcopy(value)  # later edits must not reach into ODD
        except (KeyError, IndexError, TypeError):
            pass  # an earlier edit took the place away
    return document


def edits_of(document: dict, more: tuple[tuple, ...] = ()) -> st.SearchStrategy:
    """One to three edits; `more` are places that the document has not, but may have."""
    return st.lists(st.tuples(st.sampled_from([*paths(document), *more]), odd), min_size=1, max_size=3)
