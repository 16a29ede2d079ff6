"""How parameters move cameras: each by itself, or all as one rigid rig."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The parameters of a camera that belong to each of its parts.
PARTS = {"location": slice(0, 3), "rotation": slice(3, 6), "focal": slice(6, 7), "shift": slice(7, 9)}
COUNT = 9  # A camera has so many parameters.


class CameraMoves:
    """How G blocks of 9 parameters move N cameras.

    A block (9,) is a translation in scene units, a rotation vector in radians, the logarithm of a factor of the focal
    length, and a shift of the principal point in focal lengths. All are 0 for the cameras as given. Translation and
    rotation are along and about the camera's own axes, or the world's for a rig of cameras. A camera whose location may
    change rotates about a given point, any other camera about its own eye.

    Attributes:
        held: (G, 9) bool, True for parameters that do not change.
        together: whether all cameras are one rigid rig.
        groups: (N,) the block that moves each camera.
        middles: (N, 3) the point about which each camera rotates, in its own space, or in the world for a rig.
        units: (G, 9) typical sizes: the distance from the point of rotation for translations, 1 for all else.
    """

    def __init__(
        self,
        world_to_camera: np.ndarray,
        groups: np.ndarray,
        free: Sequence[str],
        *,
        together: bool,
        middle: np.ndarray,
    ) -> None:
        """The cameras as given, and what of them may change.

        Args:
            world_to_camera: (N, 4, 4).
            groups: (N,) which of the G blocks moves each camera; ignored where they move together.
            free: the parts that may change, of PARTS.
            together: whether the cameras are one rigid body with one lens, which one block moves.
            middle: (3,) the point in the world about which cameras rotate.
        """
        self._given, self.together = world_to_camera, together
        self.groups = np.zeros(len(world_to_camera), dtype=int) if together else groups
        self.held = np.ones((int(self.groups.max()) + 1, COUNT), dtype=bool)
        for part in free:
            self.held[:, PARTS[part]] = False
        self.units = np.ones(self.held.shape)
        in_cameras = world_to_camera[:, :3, :3] @ middle + world_to_camera[:, :3, 3]
        for group in range(len(self.units)):
            self.units[group, :3] = np.linalg.norm(in_cameras[self.groups == group], axis=1).mean()
        if together:
            self.middles = np.broadcast_to(middle, (len(world_to_camera), 3))
        elif "location" in free:
            self.middles = in_cameras
        else:
            self.middles = np.zeros((len(world_to_camera), 3))

    def moved(self, which: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K (M, 3, 3) and world_to_camera (M, 4, 4) of moved cameras.

        Args:
            which: (M,) the indices of the cameras.
            K: (M, 3, 3) as given, of these cameras or of crops of their images.
            parameters: (G, 9).
        """
        block = parameters[self.groups[which]]
        turn, middle, given = rotations(block[:, 3:6]), self.middles[which], self._given[which]
        motion = np.zeros((len(block), 4, 4))
        motion[:, :3, :3] = turn
        motion[:, :3, 3] = middle - np.einsum("nij,nj->ni", turn, middle) + block[:, :3]
        motion[:, 3, 3] = 1
        return K @ _lens(block), given @ motion if self.together else motion @ given

    def turned_about_eye(self, which: int, turn: np.ndarray) -> np.ndarray:
        """(3,) the translation that makes a camera's rotation by a vector (3,) one about its own eye."""
        middle = self.middles[which]
        return rotations(turn[None])[0] @ middle - middle

    def derivatives(self, which: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives (M, 3, 3, 9) and (M, 4, 4, 9) of what `moved` returns, by the parameters of each camera."""
        block = parameters[self.groups[which]]
        middle, given = self.middles[which], self._given[which]
        lens = np.zeros((len(block), 3, 3, COUNT))
        lens[:, 0, 0, 6] = lens[:, 1, 1, 6] = np.exp(block[:, 6])
        lens[:, 0, 2, 7] = lens[:, 1, 2, 8] = 1
        motion = np.zeros((len(block), 4, 4, COUNT))
        motion[:, :3, 3, :3] = np.eye(3)
        motion[:, :3, :3, 3:6] = slopes = rotation_derivatives(block[:, 3:6])
        motion[:, :3, 3, 3:6] = -np.einsum("nijp,nj->nip", slopes, middle)
        if self.together:
            moved = np.einsum("nij,njkp->nikp", given, motion)
        else:
            moved = np.einsum("nijp,njk->nikp", motion, given)
        return np.einsum("nij,njkp->nikp", K, lens), moved


def _lens(block: np.ndarray) -> np.ndarray:
    """(M, 3, 3) the matrices by which K is multiplied from the right, for blocks (M, 9)."""
    lens = np.zeros((len(block), 3, 3))
    lens[:, 0, 0] = lens[:, 1, 1] = np.exp(block[:, 6])
    lens[:, 0, 2], lens[:, 1, 2], lens[:, 2, 2] = block[:, 7], block[:, 8], 1
    return lens


def rotations(vectors: np.ndarray) -> np.ndarray:
    """(M, 3, 3) rotations by |v| radians about v (M, 3): Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    cross = crosses(vectors)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross @ cross


def rotation_derivatives(vectors: np.ndarray) -> np.ndarray:
    """(M, 3, 3, 3) derivatives of `rotations` by the components of v, which the last axis counts.

    dR / dv_i = (v_i [v] + [v x (I - R) e_i]) / |v|^2 R, and [e_i] at v = 0, where [v] is the matrix with [v] x = v x x.
    Gallego and Yezzi, "A compact formula for the derivative of a 3-D rotation in exponential coordinates", 2015.
    """
    square = (vectors**2).sum(axis=1)[:, None, None, None]
    turn = rotations(vectors)
    columns = np.cross(vectors[:, None], (np.eye(3) - turn).transpose(0, 2, 1))  # (M, i, 3)
    far = (vectors[:, :, None, None] * crosses(vectors)[:, None] + crosses(columns)) / np.maximum(square, 1e-300)
    near = np.broadcast_to(crosses(np.eye(3)), far.shape)
    slopes = np.where(square > 1e-14, far, near) @ turn[:, None]
    return slopes.transpose(0, 2, 3, 1)


def crosses(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the cross-product matrices of vectors v (..., 3): their products with x are v x x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape, 3)
