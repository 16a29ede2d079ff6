"""Bones: their pose matrices from their pose channels, and linear blend skinning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..raster.algebra import product, root, sparse_product
from ..rig import Armature, Bone
from .transforms import affine, inverse


class Evaluated(NamedTuple):
    """The B bones at some channel matrices.

    Attributes:
        channels: (B, 4, 4) the channel matrices.
        poses: (B, 4, 4) the pose matrices, from bone space to armature space, as Blender computes them.
        turns, location_frames: (B, 4, 4) the matrices by which the pose follows from the channels: the first multiplies
            a bone's rotation and scale, the second its location. They are one and the same tensor where they are equal
            for all bones.
    """

    channels: Tensor
    poses: Tensor
    turns: Tensor
    location_frames: Tensor


class Skeleton:
    """The B bones of an armature, evaluated together where they inherit alike.

    Where every bone inherits all of its parent's motion, as most do, its pose matrix is the product of one matrix of
    each of its ancestors and of itself. All of these products are found by doubling: after k rounds each has the
    nearest 2^k factors, and the next round multiplies it by that of the ancestor 2^k levels above. Other skeletons are
    evaluated level by level: all bones of one depth in the hierarchy that inherit in the same way at once.

    The skin weights are a dense matrix (V, B), since products with it are faster than gathers up to some hundred bones.
    The derivatives of the skinned vertices use a sparse product, which is faster for many parameters.

    Attributes:
        weights: (V, B) the skin weights; rows sum to 1, or to 0 for vertices that follow no bone.
        inverse_rest: (B, 4, 4) the inverses of the rest matrices.
    """

    def __init__(
        self, armature: Armature, count: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """count: how many vertices the mesh has, V."""

        def tensor(values: np.ndarray | list, kind: torch.dtype = dtype) -> Tensor:
            return torch.as_tensor(np.array(values), device=device, dtype=kind)

        bones = armature.bones
        depth = np.zeros(len(bones), dtype=int)
        for number, bone in enumerate(bones):
            depth[number] = 0 if bone.parent < 0 else depth[bone.parent] + 1
        # Bones of one level that inherit in the same way are evaluated together.
        kinds = [(int(d), _kind(bone)) for d, bone in zip(depth, bones, strict=True)]
        order = sorted(range(len(bones)), key=lambda number: kinds[number])
        position = np.argsort(order)  # (B,) where each bone is in the order of evaluation
        rest = np.array([bone.rest for bone in bones])
        groups: dict[tuple[int, tuple[bool, str, bool]], list[int]] = {}
        for number in order:
            groups.setdefault(kinds[number], []).append(number)
        self._groups = []
        for (level, kind), members in groups.items():
            parents = np.array([bones[number].parent for number in members])
            above = rest[parents] if level else np.tile(np.eye(4), (len(members), 1, 1))
            offset = np.linalg.inv(above) @ rest[members]
            index = tensor(position[parents], torch.int64) if level else None
            self._groups.append((kind, tensor(members, torch.int64), index, tensor(above), tensor(offset)))
        self._order = tensor(position, torch.int64)
        self.inverse_rest = tensor(np.linalg.inv(rest))

        below = np.eye(len(bones), dtype=bool)  # [a, b]: whether bone b is bone a or one of its descendants
        for number, bone in enumerate(bones):
            if bone.parent >= 0:
                below[:, number] |= below[:, bone.parent]
        self._below = tensor(below)
        # Where every bone inherits all of its parent's motion, the motion of a bone carries its descendants along.
        self._carried = all(bone.parent < 0 or _kind(bone)[:2] == (True, "FULL") for bone in bones)
        self._doubled = self._carried and all(bone.local_location for bone in bones)
        # Above a bone without a parent, and above itself, is number B, which does not move.
        above = np.array([bone.parent % (len(bones) + 1) for bone in bones] + [len(bones)])
        parents = above[:-1]
        self._parents = tensor(parents, torch.int64)
        self._ancestors = []  # (B + 1,) each: of every bone, the one that is 1, 2, 4, ... levels above it
        while (above < len(bones)).any():
            self._ancestors.append(tensor(above, torch.int64))
            above = above[above]
        at_rest = np.concatenate([rest.reshape(-1, 4, 4), np.eye(4)[None]])
        self._offset = tensor(np.linalg.inv(at_rest[parents]) @ rest.reshape(-1, 4, 4))
        self._stay = tensor(np.eye(4)[None])

        vertices, entries, weights = armature.weights(count)
        dense = np.zeros((count, len(bones)))
        np.add.at(dense, (vertices, entries), weights)
        self.weights = tensor(dense)
        rows, columns = np.nonzero(dense)
        self._entry_vertices, self._entry_weights = tensor(rows, torch.int64), tensor(dense[rows, columns])
        starts = 4 * np.searchsorted(rows, np.arange(count + 1))
        self._pattern = tensor(starts, torch.int64), tensor(4 * columns[:, None] + np.arange(4), torch.int64).flatten()
        self._stays = tensor(dense.sum(axis=1) == 0)[:, None, None] * torch.eye(4, device=device, dtype=dtype)[:3]

    def at(self, channels: Tensor) -> Evaluated:
        """The bones at channel matrices (B, 4, 4); differentiable, also in forward mode and by vmap."""
        if self._doubled:
            poses = torch.cat([product(self._offset, channels), self._stay])
            for ancestors in self._ancestors:
                poses = product(poses[ancestors], poses)
            turned = product(poses[self._parents], self._offset)
            return Evaluated(channels, poses[:-1], turned, turned)
        poses = channels[:0]
        turns, location_frames = [], []
        for (rotates, scale, local), members, parents, rest, offset in self._groups:
            channel = channels[members]
            above, after = rest, None
            turn = location_frame = offset
            if parents is not None:
                above = poses[parents]
                turn = location_frame = product(above, offset)
                if not (rotates and scale == "FULL"):
                    turn, after = _inherit(rotates, scale, rest, above, offset)
            if not local:
                location_frame = torch.cat([above[:, :, :3], location_frame[:, :, 3:]], dim=2)
            pose = product(turn, channel)
            if turn is not location_frame:
                linear = pose[:, :3, :3] if after is None else pose[:, :3, :3] * after[:, None, :]
                pose = affine(linear, product(location_frame[:, :3], channel[:, :, 3:])[..., 0])
            poses = torch.cat([poses, pose])
            turns.append(turn.expand_as(pose))
            location_frames.append(location_frame.expand_as(pose) if turn is not location_frame else turns[-1])
        turned = torch.cat(turns)[self._order]
        alike = all(turn is frame for turn, frame in zip(turns, location_frames, strict=True))
        frames = turned if alike else torch.cat(location_frames)[self._order]
        return Evaluated(channels, poses[self._order], turned, frames)

    def pose_tangents(self, evaluated: Evaluated, tangents: Tensor, owners: Tensor) -> Tensor:
        """(P, B, 4, 4) the derivatives of the pose matrices by P parameters, each of one bone's channels.

        Args:
            tangents: (P, 4, 4) the derivative of each parameter's own bone's channel matrix.
            owners: (P,) each parameter's bone.
        """
        channels, poses, turns, location_frames = evaluated
        if not self._carried:
            own_bone = torch.nn.functional.one_hot(owners, len(channels)).to(channels)
            full = own_bone[:, :, None, None] * tangents[:, None]

            def push(tangent: Tensor) -> Tensor:
                return torch.func.jvp(lambda x: self.at(x).poses, (channels,), (tangent,))[1]

            return torch.func.vmap(push)(full)
        # The derivative of each bone's pose by its own channels, while its parent stays.
        own = product(turns[owners], tangents)
        if turns is not location_frames:
            location = product(location_frames[owners, :3, :3], tangents[:, :3, 3:])[..., 0]
            own = torch.nn.functional.pad(torch.cat([own[:, :3, :3], location[:, :, None]], dim=2), (0, 0, 0, 1))
        motion = product(own, inverse(poses)[owners]).flatten(0, 1)
        moved = product(motion, poses.permute(1, 0, 2).flatten(1)).unflatten(0, (-1, 4)).unflatten(2, (-1, 4))
        return moved.transpose(1, 2) * self._below[owners][:, :, None, None]

    def skin(self, poses: Tensor, points: Tensor) -> Tensor:
        """(V, 3) vertices at rest (V, 3), in armature space, moved by the pose matrices (B, 4, 4)."""
        blend = self.blend(poses)
        x, y, z = (blend[:, :, k] * points[:, k, None] for k in range(3))
        return x + y + z + blend[:, :, 3]

    def blend(self, poses: Tensor) -> Tensor:
        """(V, 3, 4) the matrix that moves each vertex: the weighted mean of the matrices of its bones."""
        deform = product(poses, self.inverse_rest)[:, :3].flatten(1)
        return product(self.weights, deform).unflatten(1, (3, 4)) + self._stays

    def skin_tangents(self, tangents: Tensor, points: Tensor) -> Tensor:
        """(V, 3, P) the derivatives of the skinned vertices, from those of the pose matrices (P, B, 4, 4).

        One sparse product: the weighted positions at rest of each vertex, (V, B * 4), times the derivatives,
        (B * 4, 3 * P).

        Args:
            points: (V, 3) the vertices at rest, in armature space.
        """
        local = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
        values = (self._entry_weights[:, None] * local[self._entry_vertices]).flatten()
        right = product(tangents[:, :, :3], self.inverse_rest).permute(1, 3, 2, 0)
        right = right.reshape(4 * len(self.inverse_rest), -1)
        return sparse_product(*self._pattern, values, right).unflatten(1, (3, -1))


def _kind(bone: Bone) -> tuple[bool, str, bool]:
    return bone.inherit_rotation, bone.inherit_scale, bone.local_location


def _inherit(rotates: bool, mode: str, rest: Tensor, above: Tensor, offset: Tensor) -> tuple[Tensor, Tensor | None]:
    """What m bones inherit of their parents' rotation and scale: (m, 4, 4), and a scale (m, 3) that is applied last.

    `softras.rig` has the same function for one bone, and explains its arguments.
    """
    after = None
    linear = above[:, :3, :3] if rotates else rest[:, :3, :3]
    size = above[:, :3, :3].norm(dim=1)
    x, y, z = above[:, :3, :3].unbind(2)
    # Not linalg.det: its forward mode is wrong inside two vmaps (PyTorch 2.13).
    volume = (torch.linalg.cross(x, y) * z).sum(1).abs()
    even = size * (volume / size.prod(1)).pow(1 / 3)[:, None]
    if rotates:
        if mode in ("NONE", "AVERAGE", "ALIGNED"):
            linear = _orthogonal(linear)
            length = linear.norm(dim=1)
            linear = linear / length[:, None, :]
            after = length if mode == "ALIGNED" else None
        elif mode == "NONE_LEGACY":
            linear = linear / size[:, None, :]
    elif mode == "FULL":
        linear = linear * size[:, None, :]
    elif mode == "FIX_SHEAR":
        linear = linear * even[:, None, :]
    elif mode == "ALIGNED":
        after = even
    if mode == "AVERAGE":
        linear = linear * volume.pow(1 / 3)[:, None, None]
    turn = product(linear, offset[:, :3, :3])
    if mode == "FIX_SHEAR":
        turn = _orthogonal(turn)
    return affine(turn, above[:, :3, 3]), after


def _orthogonal(matrices: Tensor) -> Tensor:
    """(m, 3, 3) matrices without shear and of the same volume: the y axis stays, x and z rotate by the same angle."""
    x, y, z = matrices.unbind(2)
    square = (y * y).sum(1, keepdim=True)
    x = x - y * ((x * y).sum(1, keepdim=True) / square)
    z = z - y * ((z * y).sum(1, keepdim=True) / square)
    x_length, z_length = x.norm(dim=1, keepdim=True), z.norm(dim=1, keepdim=True)
    x, z = x / x_length, z / z_length
    area = torch.linalg.cross(x, z).norm(dim=1, keepdim=True)
    between, across = (v / v.norm(dim=1, keepdim=True) for v in (x + z, x - z))
    scale = root(area / 2)
    return torch.stack([x_length * scale * (between + across), y, z_length * scale * (between - across)], dim=2)
