"""What a fit can change."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor


class Variable(Protocol):
    """A named block of parameters that moves vertices.

    The fitting loop knows nothing else about free vertices, rigid transforms, rigs or shape keys.

    Attributes:
        name: what the artist calls it; also the key of its rate in a stage.
        step_rule: "uniform" divides a step by the largest gradient of the block (for blocks of like parameters,
            such as vertices), "adam" treats every parameter by itself.
    """

    name: str
    step_rule: Literal["uniform", "adam"]

    def parameters(self) -> list[Tensor]:
        """The leaf tensors to optimize."""
        ...

    def apply(self, vertices: Tensor) -> Tensor:
        """(V, 3) vertices moved by the present parameters, differentiable to them."""
        ...
