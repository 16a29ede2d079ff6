"""What the operators need to be transformed by torch.func (grad, vjp, jacrev, vmap, jvp) and by forward-mode autograd.

A transform hands wrapped tensors to what it transforms. An autograd function of the kind below unwraps them; it costs
50 microseconds more than one that cannot, which is why plain calls do not go through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def active(*gradients: Tensor | None) -> bool:
    """Whether a transform is at work; on a backward pass's gradients also the older one of `is_grads_batched`."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "torch.compile cannot trace transforms of softras's operators; leave out fullgraph=True."
            )
        return True
    return any(x is not None and torch._C._functorch.is_legacy_batchedtensor(x) for x in gradients)


def batched(*tensors: Any) -> bool:
    """Whether torch.func.vmap is over any of them, so that there is no one value to look at."""
    return torch._C._are_functorch_transforms_active() and any(_unwrapped(x) is None for x in tensors if x is not None)


def refuse_vmap(what: str, *tensors: Any) -> None:
    """Raise ValueError if vmap is over any of them, for functions that must look at values."""
    if batched(*tensors):
        raise ValueError(f"torch.func.vmap is not possible over {what}: give all views to one call, or use a loop.")


def refuse(what: str) -> None:
    """Raise ValueError inside any transform of torch.func."""
    if torch._C._are_functorch_transforms_active():
        raise ValueError(f"{what} is not possible inside the transforms of torch.func: do it outside of them.")


def constant(what: str, tensor: Any) -> Any:
    """The plain tensor in it, or whatever else it is; ValueError if vmap is over it."""
    refuse_vmap(what, tensor)
    return _unwrapped(tensor)


def outside() -> Any:
    """A context in which plain tensors stay plain whatever transform is at work, for constants that are kept."""
    return torch._C._DisableFuncTorch()


def _unwrapped(x: Any) -> Any:
    """What grad, jvp and the like have wrapped; None if vmap is among them."""
    functorch = torch._C._functorch
    while isinstance(x, Tensor) and functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return None
        x = functorch.get_unwrapped(x)
    return x


class Transformable(torch.autograd.Function):
    """An autograd function whose `vmap` calls it for one element of the batch after the other: the bits of a loop.

    Subclasses have a `forward` without a context, which returns a tuple, and `setup_context`.
    """

    @classmethod
    @torch.compiler.disable
    def vmap(cls, info: Any, in_dims: tuple, *inputs: Any) -> tuple:
        """Called by torch with the size of the batch, and where each input has its dimension, if it has."""
        count = max(
            1, info.batch_size
        )  # of an empty batch one element of ones, or indices of 0, says what shapes there are

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
    """The derivative of an operator, which has none of its own."""

    operator: str

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Nothing is kept for derivatives that there are not."""

    @classmethod
    def backward(cls, ctx: Any, *gradients: Any) -> NoReturn:
        """Refused."""
        refuse_twice(cls.operator)(ctx)

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Any) -> NoReturn:
        """Refused."""
        refuse_twice(cls.operator)(ctx)


def refuse_twice(operator: str) -> Callable[..., NoReturn]:
    """The backward pass of an operator's gradients."""

    def refuse(ctx: Any, *gradients: Any) -> NoReturn:
        raise RuntimeError(f"{operator} can be differentiated once, not twice: its gradients have no gradients.")

    return refuse


def refuse_forward_mode(operator: str) -> NoReturn:
    """Raise RuntimeError for an operator without a forward mode."""
    raise RuntimeError(
        f"{operator} has no forward mode (torch.func.jvp, jacfwd): use reverse mode (grad, vjp, jacrev), "
        "or softras.silhouettes, which has both."
    )
