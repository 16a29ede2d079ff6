"""The scene: what every operator of the rasterizer draws, as one named tuple."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Named = TypeVar("Named", bound=NamedTuple)


class Scene(NamedTuple):
    """One mesh and the N cameras that it is drawn in. `arguments.scene` makes one and checks it.

    vertices: (V, 3), shared by all cameras, or (N, V, 3), in scene units; float32 or float64.
    faces: (F, 3) int32 or int64, the indices of the vertices.
    K: (N, 3, 3) in pixels; (0, 0) is the image's top left corner. Of the vertices' dtype.
    world_to_camera: (N, 4, 4), to camera axes x right, y down, z forward. Of the vertices' dtype.
    height, width: of the image, in pixels.
    orthographic: (N,) bool.
    near: (N,) float64, the depth of the near plane in scene units.
    cull: leave out faces that show their back.
    """

    vertices: Tensor
    faces: Tensor
    K: Tensor
    world_to_camera: Tensor
    height: int
    width: int
    orthographic: Tensor
    near: Tensor
    cull: bool

    @property
    def size(self) -> tuple[int, int, int]:
        """(N, H, W), the shape of a number for each pixel of each camera."""
        return self.K.shape[0], self.height, self.width

    @property
    def shared(self) -> bool:
        """Whether all cameras see the same vertices."""
        return self.vertices.dim() == 2

    def detached(self) -> Scene:
        """The same tensors, of which autograd records nothing."""
        moving = (self.vertices.detach(), self.K.detach(), self.world_to_camera.detach())
        return self._replace(vertices=moving[0], K=moving[1], world_to_camera=moving[2])

    def in_camera(self, n: int) -> Tensor:
        """(V, 3) the vertices in the axes of camera n."""
        world = self.vertices if self.shared else self.vertices[n]
        return world @ self.world_to_camera[n, :3, :3].T + self.world_to_camera[n, :3, 3]

    def empty_gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Contiguous tensors for the gradients to vertices, K and world_to_camera, not filled in yet."""
        moving = (self.vertices, self.K, self.world_to_camera)
        vertices, K, pose = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in moving)
        return vertices, K, pose


class Tangents(NamedTuple):
    """The derivatives of a scene with respect to P parameters. `arguments.tangents` checks them.

    Each has the dtype and the shape of the tensor that it is the derivative of, with P as an additional last dimension.
    None stands for zero.
    """

    d_vertices: Tensor | None
    d_K: Tensor | None
    d_world_to_camera: Tensor | None

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return next(x.shape[-1] for x in self if x is not None)

    def of_views(self, part: slice, shared: bool) -> Tangents:
        """The derivatives for a part of the cameras. shared: whether all cameras see the same vertices."""
        v, k, w = self
        return Tangents(
            v if v is None or shared else v[part], None if k is None else k[part], None if w is None else w[part]
        )


def dense(values: Named) -> Named:
    """The named tuple with contiguous tensors, which is how the kernels read them."""
    return values._make([x.contiguous() if isinstance(x, Tensor) else x for x in values])
