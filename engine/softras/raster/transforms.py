"""Support for the transforms of torch.func (grad, vjp, jacrev, vmap, jvp) and for forward-mode autograd.

A transform calls the function that it transforms with wrapped tensors. An autograd function of the kind below is called
with the tensors inside. That costs 50 microseconds a call, so calls outside of transforms use a simpler autograd
function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def active(*gradients: Tensor | None) -> bool:
    """Whether a transform of torch.func, or forward-mode autograd, is at work.

    gradients: those that come into a backward pass, which `torch.autograd.grad(is_grads_batched=True)` wraps too.
    """
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "torch.compile cannot trace transforms of softras's operators; leave out fullgraph=True."
            )
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(x is not None and is_batched(x) for x in gradients)


def batched(*tensors: Any) -> bool:
    """Whether torch.func.vmap maps over any of the tensors, which then have no single value to read."""
    return torch._C._are_functorch_transforms_active() and any(_unwrapped(x) is None for x in tensors if x is not None)


def refuse_vmap(what: str, *tensors: Any) -> None:
    """Raise ValueError if vmap maps over any of the tensors, for functions that must read values."""
    if batched(*tensors):
        raise ValueError(f"torch.func.vmap is not possible over {what}: give all views to one call, or use a loop.")


def refuse(what: str) -> None:
    """Raise ValueError inside any transform of torch.func."""
    if torch._C._are_functorch_transforms_active():
        raise ValueError(f"{what} is not possible inside the transforms of torch.func: do it outside of them.")


def constant(what: str, tensor: Any) -> Any:
    """The plain tensor inside a wrapped one; anything else as it is. Raises ValueError if vmap maps over it."""
    refuse_vmap(what, tensor)
    return _unwrapped(tensor)


def outside() -> Any:
    """A context in which new tensors are not wrapped by the transform at work, for constants that outlive it."""
    return torch._C._DisableFuncTorch()


def _unwrapped(x: Any) -> Any:
    """The plain tensor inside the wrappers of grad, jvp and the like; None if one of the wrappers is vmap's."""
    functorch = torch._C._functorch
    while isinstance(x, Tensor) and functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return None
        x = functorch.get_unwrapped(x)
    return x


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which torch.compile calls and does not trace.

    `torch.compiler.disable` does that, but loads PyTorch's compiler, which takes a second. So it is left for the first
    call, which only transforms make.
    """
    called: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not called:
            called.append(torch.compiler.disable(function))
        return called[0](*arguments)

    return call


class Transformable(torch.autograd.Function):
    """An autograd function that vmap calls for one element of the batch after another, with the bits of a loop.

    Subclasses have a `forward` without a context, which returns a tuple, and `setup_context`.
    """

    @classmethod
    @untraced
    def vmap(cls, info: Any, in_dims: tuple, *inputs: Any) -> tuple:
        """Called by PyTorch. in_dims: for each input, which of its dimensions is the batch; None where none is."""
        # An empty batch is rendered for one element of ones, and of indices 0, to learn the shapes of the outputs.
        count = max(1, info.batch_size)

        def element(x: Any, dim: Any, number: int) -> Any:
            if not isinstance(x, Tensor) or dim is None:
                return x
            if info.batch_size:
                return x.select(dim, number)
            return x.new_full(x.movedim(dim, 0).shape[1:], x.is_floating_point())

        elements = [
            cls.apply(*[element(x, dim, number) for x, dim in zip(inputs, in_dims, strict=True)])
            for number in range(count)
        ]
        outputs = tuple(torch.stack(column)[: info.batch_size] for column in zip(*elements, strict=True))
        return outputs, (0,) * len(outputs)


class Derivative(Transformable):
    """An autograd function that computes the derivative of an operator and cannot be differentiated itself.

    operator: its public name, for messages.
    """

    operator: str

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Keep nothing, since there are no derivatives."""

    @classmethod
    def backward(cls, ctx: Any, *gradients: Any) -> NoReturn:
        """Refuse to be differentiated."""
        refuse_twice(cls.operator)(ctx)

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Any) -> NoReturn:
        """Refuse to be differentiated."""
        refuse_twice(cls.operator)(ctx)


def derivative_of(operator: str, render_backward: Callable[..., Any]) -> type[Derivative]:
    """The gradients of an operator as an autograd function, for callers that transform or differentiate them again.

    Args:
        operator: its public name, for messages.
        render_backward: the operator that computes the gradients (`operators.Operator`).
    """

    def forward(*inputs: Any) -> Any:
        return render_backward(*render_backward.packed(inputs))  # type: ignore[attr-defined]

    return type("Gradients", (Derivative,), {"operator": operator, "forward": staticmethod(forward)})


def refuse_twice(operator: str) -> Callable[..., NoReturn]:
    """A backward pass for the gradients of an operator: it refuses."""

    def refuse(ctx: Any, *gradients: Any) -> NoReturn:
        raise RuntimeError(f"{operator} can be differentiated once, not twice: its gradients have no gradients.")

    return refuse


def refuse_forward_mode(operator: str) -> NoReturn:
    """Raise RuntimeError for an operator without a forward mode."""
    raise RuntimeError(
        f"{operator} has no forward mode (torch.func.jvp, jacfwd): use reverse mode (grad, vjp, jacrev), "
        "or softras.silhouettes, which has both."
    )
