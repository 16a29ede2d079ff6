"""Cameras that move: each by itself, or all as one rig."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PARTS = {"location": slice(0, 3), "rotation": slice(3, 6), "focal": slice(6, 7), "shift": slice(7, 9)}
COUNT = 9  # parameters of a camera


class CameraMoves:
    """How parameters move N cameras: (G, 9) blocks of translation, rotation vector, log focal length and shift.

    Translations are in scene units, shifts in focal lengths; along and about the camera's axes, or the world's for a
    rig of cameras. A camera that may travel turns about a given middle, else about its own eye. All zero: the cameras
    as given.

    Attributes:
        held: (G, 9) bool, the parameters that do not move.
        together: whether all are one rig.
        middles: (N, 3) what each turns about, in its own space, or in the world where they are one rig.
        units: (G, 9) typical sizes: 1 but for translations, whose unit is the distance from the middle.
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
        """Cameras as given.

        Args:
            world_to_camera: (N, 4, 4).
            groups: (N,) which of G blocks of parameters moves each; of no account where they move together.
            free: the parts that may change, of PARTS.
            together: the cameras are one rigid body with one lens: one block moves them all.
            middle: (3,) about which cameras turn, in the world.
        """
        self._given, self.together = world_to_camera, together
        self.groups = np.zeros(len(world_to_camera), dtype=int) if together else groups
        self.held = np.ones((int(self.groups.max()) + 1, COUNT), dtype=bool)
        for part in free:
            self.held[:, PARTS[part]] = False
        self.units = np.ones(self.held.shape)
        seen = world_to_camera[:, :3, :3] @ middle + world_to_camera[:, :3, 3]
        for group in range(len(self.units)):
            self.units[group, :3] = np.linalg.norm(seen[self.groups == group], axis=1).mean()
        if together:
            self.middles = np.broadcast_to(middle, (len(world_to_camera), 3))
        elif "location" in free:
            self.middles = seen
        else:
            self.middles = np.zeros((len(world_to_camera), 3))

    def moved(self, which: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, 3, 3) and (M, 4, 4): K of crops of the cameras of these indices (M,), and world_to_camera.

        K: (M, 3, 3) of the crops as given; parameters: (G, 9).
        """
        block = parameters[self.groups[which]]
        turn, middle, given = rotations(block[:, 3:6]), self.middles[which], self._given[which]
        motion = np.zeros((len(block), 4, 4))
        motion[:, :3, :3] = turn
        motion[:, :3, 3] = middle - np.einsum("nij,nj->ni", turn, middle) + block[:, :3]
        motion[:, 3, 3] = 1
        return K @ _lens(block), given @ motion if self.together else motion @ given

    def turned_about_eye(self, which: int, turn: np.ndarray) -> np.ndarray:
        """(3,) the translation with which a camera turns by a rotation vector (3,) about its own eye."""
        middle = self.middles[which]
        return rotations(turn[None])[0] @ middle - middle

    def derivatives(self, which: np.ndarray, K: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, 3, 3, 9) and (M, 4, 4, 9) of those with respect to each camera's own block."""
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
    """(M, 3, 3) that K is multiplied by."""
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
    """(M, 3, 3, 3) of `rotations` with respect to v, last.

    dR / dv_i = (v_i [v] + [v x (I - R) e_i]) / |v|^2 R, and [e_i] at 0, with [v] x = v x x. Gallego and Yezzi, "A
    compact formula for the derivative of a 3-D rotation in exponential coordinates", 2015.
    """
    square = (vectors**2).sum(axis=1)[:, None, None, None]
    turn = rotations(vectors)
    columns = np.cross(vectors[:, None], (np.eye(3) - turn).transpose(0, 2, 1))  # (M, i, 3)
    far = (vectors[:, :, None, None] * crosses(vectors)[:, None] + crosses(columns)) / np.maximum(square, 1e-300)
    near = np.broadcast_to(crosses(np.eye(3)), far.shape)
    slopes = np.where(square > 1e-14, far, near) @ turn[:, None]
    return slopes.transpose(0, 2, 3, 1)


def crosses(vectors: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the matrices whose products with x are v x x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape, 3)
