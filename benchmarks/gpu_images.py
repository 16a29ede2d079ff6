"""Images of the scenes of gpu_check.py: vertex colours or a UV texture, three channels, beside the silhouette."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch

import softras


class Pictures:
    """A scene with something to see: its vertices, faces, size, cameras and upstream gradient are `case`'s."""

    def __init__(self, case: Any, look: Literal["colours", "texture"], sigma: float) -> None:
        generator = torch.Generator().manual_seed(0)

        def rand(*shape: int) -> torch.Tensor:
            values = torch.rand(*shape, generator=generator, dtype=torch.float64)
            return values.to(case.vertices).requires_grad_()

        self.case, self.sigma = case, sigma
        self.colours = rand(len(case.vertices), 3 if look == "colours" else 2)
        self.texture = rand(32 * 16, 32 * 16, 3) if look == "texture" else None

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Alpha and the image."""
        case = self.case
        chain = None if self.texture is None else softras.mip_chain(self.texture)
        scene = {
            **case.tensors,
            "near": 1.0,
            "far": 100.0,
            "sigma": self.sigma,
            "height": case.size,
            "width": case.size,
        }
        return softras.images(case.vertices, case.faces, attributes=self.colours, texture=chain, **scene)[:2]

    def both(self) -> list[torch.Tensor]:
        """The same, and the gradients of vertices and of the colours or the texture."""
        got, case = self.forward(), self.case
        upstream = [case.upstream, case.upstream[:, None].expand_as(got[1])]
        leaves = [case.vertices, self.colours if self.texture is None else self.texture]
        return [*(x.detach() for x in got), *torch.autograd.grad(got, leaves, upstream)]


def time_pictures(clock: Any, case: Any, sigma: float) -> dict[str, Any]:
    """Milliseconds of forward and forward + backward by gpu_check's clock, as called and on the device alone; bytes."""
    row: dict[str, Any] = {"faces": len(case.faces), "size": case.size, "views": len(case.cameras)}
    tasks = {"silhouette": case, **{look: Pictures(case, look, sigma) for look in ("colours", "texture")}}
    for name, task in tasks.items():
        row[name] = [clock.called(task.forward), clock.called(task.both)]
        row[f"{name}, device"] = [clock.replayed(task.forward), clock.replayed(task.both)]
        row[f"{name}, bytes"] = clock.memory(task.both)
    return row


def differences(got: list[torch.Tensor], expected: list[torch.Tensor]) -> Iterator[tuple[str, float]]:
    """Of what `Pictures.both` gives, the largest of each, relative to the largest number."""
    for name, a, b in zip(("alpha", "image", "gradient", "gradient of colours"), got, expected, strict=True):
        yield name, float((a.cpu() - b).abs().max() / b.abs().max())
