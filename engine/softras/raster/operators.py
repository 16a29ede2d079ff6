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
    """A function of named tuples, registered as an operator of PyTorch. The decorator `operator` makes one.

    names: of the items of the flat list, in their order.
    """

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
        """Call the operator through PyTorch's dispatcher."""
        return self._registered(*[list(x) if isinstance(x, tuple) else x for x in self.flat(*parameters)])

    def flat(self, *parameters: Any) -> list[Any]:
        """The flat list of the parameters: of a tuple its fields, one after another."""
        found: list[Any] = []
        for (kind, _, _), value in zip(self._slices, parameters, strict=True):
            found += value if kind else (value,)
        return found

    def packed(self, inputs: Sequence[Any]) -> list[Any]:
        """The parameters from a flat list, or from any list with one item for each of the flat list, such as flags."""
        return [kind(*inputs[start:end]) if kind else inputs[start] for kind, start, end in self._slices]

    def gradients(self, **gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """The flat list that a backward pass returns: the gradients by name, None for all other items."""
        found = tuple(gradients.pop(name, None) for name in self.names)
        assert not gradients, f"no inputs: {', '.join(gradients)}"
        return found

    def save(self, ctx: Any, inputs: Sequence[Any], *outputs: Tensor) -> None:
        """Keep the flat list, and some of the operator's outputs, for its backward pass."""
        ctx.others = [inputs[i] for i in self._others]
        ctx.save_for_backward(*[inputs[i] for i in self._tensors], *outputs)

    def saved(self, ctx: Any) -> tuple[list[Any], Sequence[Tensor]]:
        """The parameters and the outputs that `save` has kept."""
        tensors, inputs = ctx.saved_tensors, [None] * len(self.names)
        for i, x in zip(self._tensors, tensors, strict=False):
            inputs[i] = x
        for i, x in zip(self._others, ctx.others, strict=True):
            inputs[i] = x
        return self.packed(inputs), tensors[len(self._tensors) :]

    def fake(self, function: Callable) -> Callable:
        """Decorator: register a function of the same parameters that returns outputs of the right shapes only."""
        self._registered.register_fake(lambda *inputs: function(*self.packed(inputs)))
        return function

    def differentiate(self, backward: Callable, save: Callable | None = None) -> None:
        """Register the backward pass and the function that calls `save` for it."""
        self._registered.register_autograd(backward, setup_context=save)


def operator(name: str) -> Callable[[Callable], Operator]:
    """Decorator: register a function, whose parameters and results must all have types, as an operator."""
    return lambda function: Operator(name, function)


def dispatches(tensor: Tensor) -> bool:
    """Whether a call must go through PyTorch's dispatcher: under a compiler or tracer, and for subclasses of tensors.

    The dispatcher takes 100 to 500 microseconds a call, so all other calls bypass it.
    """
    return arguments.traced() or type(tensor) not in (Tensor, torch.nn.Parameter)


def _is_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple)


def _list_of(kind: Any) -> Any:
    """The type of list as which PyTorch takes a named tuple of numbers."""
    (number,) = set(typing.get_type_hints(kind).values())
    return {float: Sequence[float], int: Sequence[int]}[number]
