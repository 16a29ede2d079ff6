"""Checks of what callers give to the rasterizer's public functions: numbers, tensors, and whole scenes."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..errors import InputError
from ..mesh import Mesh
from ..tensors import as_tensor
from . import transforms
from .scene import Scene, Tangents

SIGMA = (1e-20, 1e10)  # the range of the blur, in squared NDC, in which no number of the kernels overflows in float32
LONGEST_SIDE = 1 << 20  # the largest height and width, in pixels; float32 counts so many exactly, and halves of them
NEAR = 1e-3  # the default depth of the near plane, in scene units


def scene(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    world_to_camera: Tensor,
    height: int,
    width: int,
    orthographic: Tensor | bool | None,
    near: Tensor | float,
    cull: bool,
) -> Scene:
    """Check the arguments that all renderers share and put them into a scene, on the device of the vertices."""
    n = mesh_in_cameras(vertices, faces, K, world_to_camera)
    height = checks.whole("height", height, 1, LONGEST_SIDE)
    width = checks.whole("width", width, 1, LONGEST_SIDE)
    cull = checks.flag("cull", cull)
    device = vertices.device
    if orthographic is None or isinstance(orthographic, bool):
        orthographic = torch.full((n,), bool(orthographic), dtype=torch.bool, device=device)
    orthographic = tensor("orthographic", orthographic)
    if orthographic.shape != (n,):
        raise InputError(f"orthographic must have shape ({n},), not {tuple(orthographic.shape)}")
    near, values = _depths("near", near, n)
    _check_near(values, orthographic)
    orthographic, near = orthographic.to(device, torch.bool), near.to(device)
    return Scene(vertices, faces, K, world_to_camera, height, width, orthographic, near, cull)


def tangents(scene: Scene, d_vertices: Any, d_K: Any, d_world_to_camera: Any) -> Tangents:
    """Check the derivatives of a scene with respect to P parameters; what is returned is detached from autograd."""
    given = {"d_vertices": d_vertices, "d_K": d_K, "d_world_to_camera": d_world_to_camera}
    found = Tangents(*(None if x is None else tensor(name, x).detach() for name, x in given.items()))
    parameters = next((x.shape[-1] for x in found if x is not None and x.dim()), None)
    if parameters is None:
        raise InputError("give d_vertices, d_K or d_world_to_camera: without them nothing has a derivative")
    moving = (scene.vertices, scene.K, scene.world_to_camera)
    for name, value, of in zip(found._fields, found, moving, strict=True):
        if value is None:
            continue
        if value.shape != (*of.shape, parameters):
            expected = f"({', '.join(map(str, of.shape))}, {parameters})"
            raise InputError(f"{name} must have shape {expected}, not {tuple(value.shape)}")
        if value.dtype != of.dtype:
            raise InputError(f"{name} is {value.dtype} but vertices are {of.dtype}")
        if value.device != of.device:
            raise InputError(f"{name} must be on the device of vertices")
    return found


def check_values(scene: Scene) -> None:
    """Raise ValueError for numbers that are not finite and for vertex indices out of range.

    The native kernels find both while they draw, so that only what is drawn without them needs this check.
    """
    moving = {"vertices": scene.vertices, "K": scene.K, "world_to_camera": scene.world_to_camera}
    for name, value in moving.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    faces, count = scene.faces, scene.vertices.shape[-2]
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= count):
        raise ValueError(f"faces name vertices outside 0..{count - 1}")


def number(name: str, value: Any, low: float, high: float, *, above: bool = False) -> float:
    """Check one number, which may be a tensor of one element, for the range from low to high.

    Settings have no gradient, so a tensor that asks for one is refused.
    """
    if isinstance(value, Tensor):
        _ask_no_gradient(name, value)
        if value.numel() != 1:
            raise InputError(f"{name} must be one number, not a tensor of shape {tuple(value.shape)}")
        transforms.refuse_vmap(name, value)
        value = value.item()
    return checks.number(name, value, low, high, above=above)


def plane(name: str, depth: Tensor | float, n: int) -> Tensor:
    """Check the depths of the near or the far planes of n cameras: n numbers, or one for all. Returns (n,) float64."""
    return _depths(name, depth, n)[0]


def _depths(name: str, depth: Tensor | float, n: int) -> tuple[Tensor, list[float]]:
    """What `plane` returns, and the depths as numbers: one for all or n; none if they cannot be read."""
    if isinstance(depth, Tensor):
        _ask_no_gradient(name, depth)
    if isinstance(depth, Tensor) and depth.dtype == torch.float64:
        depths = depth  # as_tensor would take some microseconds to find that out
    else:
        depths = as_tensor(name, depth, torch.float64)
    if tuple(depths.shape) not in ((n,), (), (1,)):
        raise InputError(f"{name} must be one number or have shape ({n},), not {tuple(depths.shape)}")
    values = (depths if depths.dim() else depths[None]).tolist() if readable(depths) else []
    if not all(abs(x) <= checks.LARGEST for x in values):
        raise InputError(f"{name} must be finite and at most {checks.LARGEST:g}")
    return depths if depths.shape == (n,) else depths.expand(n), values


def check_near(near: Tensor, orthographic: Tensor) -> None:
    """Refuse a perspective camera whose near plane is not in front of it, if the values can be read."""
    _check_near(near.tolist() if readable(near) else [], orthographic)


def _check_near(near: list[float], orthographic: Tensor) -> None:
    """As `check_near`, for n numbers, one for all cameras, or none."""
    if min(near, default=1.0) <= 0 and not (torch.tensor(near).gt(0) | orthographic.cpu()).all():
        raise InputError("near must be positive, unless a camera is orthographic")


def check_far(near: Tensor, far: Tensor) -> None:
    """Refuse a far plane that is not behind the near plane, if the values can be read."""
    if readable(near) and readable(far) and not all(map(operator.lt, near.tolist(), far.tolist())):
        raise InputError("far must be finite and greater than near; give the depths between which the mesh lies")


def tensor(name: str, value: Any) -> Tensor:
    """Check that a value is a tensor, and return it."""
    if isinstance(value, Tensor):
        return value
    of_it = "; give torch.tensor of its .vertices and its .faces" if isinstance(value, Mesh) else ""
    raise InputError(f"{name} must be a tensor, not {type(value).__name__}{of_it}")


def readable(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read at once.

    Under a compiler, a tracer or vmap a tensor has no values yet, and those of a GPU would have to be waited for.
    """
    return tensor.device.type == "cpu" and not traced() and not transforms.batched(tensor)


def traced() -> bool:
    """Whether a compiler or a tracer is recording the operations in place of executing them."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def _ask_no_gradient(name: str, value: Tensor) -> None:
    if value.requires_grad and torch.is_grad_enabled():
        raise InputError(f"{name} is a setting and has no gradient; give {name}.detach()")


def mesh_in_cameras(vertices: Tensor, faces: Tensor, K: Tensor, world_to_camera: Tensor) -> int:
    """Check the shapes, types and devices of a mesh and its cameras, and return the number of cameras."""
    tensor("vertices", vertices), tensor("faces", faces), tensor("K", K), tensor("world_to_camera", world_to_camera)
    if K.dim() != 3 or world_to_camera.dim() != 3:
        raise InputError(
            "K must have shape (N, 3, 3) and world_to_camera (N, 4, 4) for N cameras, "
            f"not {tuple(K.shape)} and {tuple(world_to_camera.shape)}"
        )
    n = K.shape[0]
    if vertices.dim() not in (2, 3) or vertices.shape[-1] != 3:
        raise InputError(f"vertices must have shape (V, 3) or (N, V, 3), not {tuple(vertices.shape)}")
    if K.shape != (n, 3, 3):
        raise InputError(f"K must have shape {(n, 3, 3)}, not {tuple(K.shape)}")
    if world_to_camera.shape != (n, 4, 4):
        raise InputError(f"world_to_camera must have shape {(n, 4, 4)}, not {tuple(world_to_camera.shape)}")
    if vertices.dim() == 3 and vertices.shape[0] != n:
        raise InputError(f"vertices of shape {tuple(vertices.shape)} do not fit {n} cameras")
    if faces.dim() != 2 or faces.shape[1] != 3:
        raise InputError(f"faces must have shape (F, 3), not {tuple(faces.shape)}")
    if faces.dtype not in (torch.int32, torch.int64):
        raise InputError(f"faces must be int32 or int64, not {faces.dtype}")
    dtype, device = vertices.dtype, vertices.device
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"vertices must be float32 or float64, not {dtype}")
    if K.dtype != dtype:
        raise InputError(f"K is {K.dtype} but vertices are {dtype}")
    if world_to_camera.dtype != dtype:
        raise InputError(f"world_to_camera is {world_to_camera.dtype} but vertices are {dtype}")
    if not (faces.device == device and K.device == device and world_to_camera.device == device):
        raise InputError("vertices, faces, K and world_to_camera must be on one device")
    return n
