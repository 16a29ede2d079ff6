"""Operators of `torch.ops.softras` with named tuples for parameters.

PyTorch's operators and autograd functions take tensors and numbers one after another, up to twenty of them. An
`Operator` is the one place where the two forms meet: its function names its parameters, some of them tuples such as
`Scene`, and the flat list that PyTorch sees is made of the tuples' fields, in their order.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import arguments


class Operator:
    """A function registered as an operator of PyTorch, with what its derivatives need: see `operator`."""

    def __init__(self, name: str, function: Callable) -> None:
        hints = typing.get_type_hints(function)
        returned = hints.pop("return")
        self._slices: list[tuple[Callable | None, int, int]] = []
        self.names: list[str] = []
        types: list[Any] = []
        for parameter, kind in hints.items():
            fields = typing.get_type_hints(kind) if _is_tuple(kind) else {parameter: kind}
            self._slices.append((kind if _is_tuple(kind) else None, len(types), len(types) + len(fields)))
            self.names += fields
            types += [_list_of(x) if _is_tuple(x) else x for x in fields.values()]

        self._tensors = [i for i, kind in enumerate(types) if kind in (Tensor, Tensor | None)]
        self._others = [i for i in range(len(types)) if i not in self._tensors]

        def flat(*inputs: Any) -> Any:
            return function(*self.packed(inputs))

        parameters = [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
            for name, kind in zip(self.names, types, strict=True)
        ]
        vars(flat)["__signature__"] = inspect.Signature(parameters, return_annotation=returned)
        self._registered = torch.library.custom_op(name, flat, mutates_args=())

    def __call__(self, *parameters: Any) -> Any:
        """The operator's result, through PyTorch's dispatcher."""
        return self._registered(*[list(x) if isinstance(x, tuple) else x for x in self.flat(*parameters)])

    def flat(self, *parameters: Any) -> list[Any]:
        """The parameters as PyTorch takes them: tuples field by field."""
        found: list[Any] = []
        for (kind, _, _), value in zip(self._slices, parameters, strict=True):
            found += value if kind else (value,)
        return found

    def packed(self, inputs: Sequence[Any]) -> list[Any]:
        """The parameters from the flat list, or from a list of something else for each of its items."""
        return [kind(*inputs[start:end]) if kind else inputs[start] for kind, start, end in self._slices]

    def gradients(self, **gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """What an autograd function's backward pass returns: a gradient, or None, for each item of the flat list."""
        found = tuple(gradients.pop(name, None) for name in self.names)
        assert not gradients, f"no inputs: {', '.join(gradients)}"
        return found

    def save(self, ctx: Any, inputs: Sequence[Any], *outputs: Tensor) -> None:
        """Keep the flat list, and tensors that the operator gave, for its backward pass."""
        ctx.others = [inputs[i] for i in self._others]
        ctx.save_for_backward(*[inputs[i] for i in self._tensors], *outputs)

    def saved(self, ctx: Any) -> tuple[list[Any], Sequence[Tensor]]:
        """The parameters that `save` has kept, and the outputs."""
        tensors, inputs = ctx.saved_tensors, [None] * len(self.names)
        for i, x in zip(self._tensors, tensors, strict=False):
            inputs[i] = x
        for i, x in zip(self._others, ctx.others, strict=True):
            inputs[i] = x
        return self.packed(inputs), tensors[len(self._tensors) :]

    def fake(self, function: Callable) -> Callable:
        """Decorator of the function that gives outputs of the right shapes without any numbers."""
        self._registered.register_fake(lambda *inputs: function(*self.packed(inputs)))
        return function

    def differentiate(self, backward: Callable, save: Callable | None = None) -> None:
        """Register the backward pass, and what keeps the flat list for it."""
        self._registered.register_autograd(backward, setup_context=save)


def operator(name: str) -> Callable[[Callable], Operator]:
    """Decorator: register a function, all of whose parameters and results have types, as an operator."""
    return lambda function: Operator(name, function)


def dispatches(tensor: Tensor) -> bool:
    """Whether torch's dispatcher must see the operator: in a compiler or tracer, or for tensors that are not plain.

    It takes 100 to 500 microseconds a call, so that all other calls go past it.
    """
    return arguments.traced() or type(tensor) not in (Tensor, torch.nn.Parameter)


def _is_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple)


def _list_of(kind: Any) -> Any:
    """The type by which PyTorch takes a named tuple of numbers of one type."""
    (number,) = set(typing.get_type_hints(kind).values())
    return {float: Sequence[float], int: Sequence[int]}[number]
