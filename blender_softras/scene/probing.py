# SPDX-License-Identifier: GPL-3.0-or-later
"""How what is shown of a mesh moves with its vertices: groups of vertices are moved, and the shown mesh is compared."""

from __future__ import annotations

from collections.abc import Callable, Generator

import bpy
import numpy as np

from ..engine.softras import InputError, Mesh
from ..engine.softras.cage import Cage, held, moved_planes, of_blocks
from .groups import LEVELS, Neighbours, codes, decoded, grouped
from .mesh import matrix_of, transformed
from .shown import seen_positions
from .stage import Stage

STEP = 1e-3  # Vertices are moved by this share of the mesh's size,
STEP_OF_EDGE = 0.03  # and by no more than this share of the mean length of its edges;
EVEN = 0.004  # by less, if moves do not add up to within this share:
LEAST_STEP = 5e-5  # down to this share of the size.
ROUNDING = 4e-7  # Moves below this share of the size are rounding: Blender's coordinates have 24 bits.
# A shown vertex that follows by at least this share of a move tells by how much which vertex was moved, and where moves
# are small, by at least so many times their rounding.
SURE, SURE_OF_ROUNDING = 0.02, 25.0
INDEPENDENT = 0.2  # The volume that its moves along the axes span must be this share of the greatest for that.
STRONG = 0.2  # One that follows by this share and does not tell is moved by two vertices of a group.
WIDE = 0.05  # By this share of the size vertices are moved to see whether the faces stay the same.
LINEAR = 0.2  # Moves that add up to within this share are taken for linear.
USEFUL = 0.6  # A map that predicts moves to within this share leads a fit towards the masks, round by round.
EXACT = 0.01  # Where a wide move is predicted to within this share, the map holds wherever a fit may go.
KINKED = 0.05  # At most this share of the vertices, or one, may be at kinks;
SINGULAR = 50.0  # What follows a vertex by more times its move is at a point where the modifier has no derivative.
PATIENCE = 2  # those are that are left when moving vertices farther apart has not helped so many times.
FARTHEST = 8  # A vertex that influences what vertices more rings away than this influence, influences everything.
MOST_GROUPS = 1500
SAMPLES = 5
SAME = 1e-4  # What the scene shows and what the copy shows may differ by this share of the size.
_SIMULATED = {"CLOTH", "DYNAMIC_PAINT", "EXPLODE", "FLUID", "PARTICLE_INSTANCE", "PARTICLE_SYSTEM", "SOFT_BODY"}
_DISAGREEMENT = "moves vertices in a way that probes disagree on"

_Blocks = tuple[np.ndarray, np.ndarray, np.ndarray]  # of one shown vertex and one vertex each, as of `of_blocks`
Progress = Generator[tuple[int, int], None, tuple[Cage, bool]]  # yields how many evaluations are done, of how many


def probe(stage: Stage, mesh: bpy.types.Mesh, start: np.ndarray, planes: np.ndarray, ob: bpy.types.Object) -> Progress:
    """How the object's evaluated mesh moves with its vertices, in world space.

    The generator yields between evaluations, and returns the cage, and whether it holds far away from the start too.

    Args:
        stage: shows the object.
        mesh: its mesh, whose faces say which vertices are near one another.
        start: (V, 3) the vertices where the fit begins, in object space.
        planes: (K, 7) the planes of its mirrors, in object space, as of `Cage`.
        ob: the object.

    Raises InputError, naming the modifier, where what is shown does not follow the vertices in a way that a fit can
    use.
    """
    return (yield from _Prober(stage, mesh, start, planes, ob).run())


class _Prober:
    def __init__(
        self, stage: Stage, mesh: bpy.types.Mesh, start: np.ndarray, planes: np.ndarray, ob: bpy.types.Object
    ) -> None:
        self._stage, self._start, self._planes, self._object = stage, start, planes, ob
        self._matrix = matrix_of(ob)
        sizes, corners, edges = _topology(mesh)
        self._used = np.unique(corners)
        self._near = Neighbours(len(start), sizes, corners, edges)
        self._size = float(np.ptp(start, axis=0).max()) or 1.0
        lengths = np.linalg.norm(start[edges[:, 0]] - start[edges[:, 1]], axis=1)
        self._step = min(STEP * self._size, STEP_OF_EDGE * float(lengths.mean()))
        self._random = np.random.default_rng(0)
        # Away from the planes, so that no vertex comes so near that a mirror would merge it with its image.
        self._signs = np.ones((len(start), 3))
        for plane in planes:
            side = np.sign((start - plane[:3]) @ plane[3:6])
            towards = side[:, None] * plane[3:6]
            self._signs = np.where(np.abs(towards) > 1e-6, np.sign(towards), self._signs)
        self._base = self._corners = np.zeros(0)
        self._tolerance = 0.0

    def run(self) -> Progress:
        """The cage in the world, and whether it holds far away from the start."""
        self._begin()
        yield 0, 1
        self._check()
        yield 0, 1
        apart = yield from self._reach()
        mixing, fewest, waited = None, np.inf, 0
        best: tuple[float, Cage] | None = None
        while True:
            groups = grouped(self._near, self._used, apart)
            if len(groups) > MOST_GROUPS:
                raise self._refusal(self._is_far, "lets each vertex move what is far from it")
            mixing, unread, found = yield from self._blocks(groups, apart, mixing)
            fewest, waited = (unread, 0) if unread < fewest else (fewest, waited + 1)
            if found is not None and (not unread or waited >= PATIENCE):
                cage = self._in_world(*found)
                error = self._error(cage, self._scattered(self._step / 4))
                best = (error, cage) if best is None or error < best[0] else best
                if error <= LINEAR or (mixing and apart > FARTHEST):
                    break
                mixing, apart = True, apart + bool(mixing)
            elif apart <= 3 * FARTHEST:
                apart += 1
            else:
                break
        if best is None or best[0] > USEFUL:
            raise self._refusal(self._is_not_linear, _DISAGREEMENT)
        return best[1], self._error(best[1], self._swollen(WIDE * self._size)) <= EXACT

    def _begin(self) -> None:
        self._base = self._stage.positions(np.zeros_like(self._start))
        self._corners = self._stage.corners()
        self._tolerance = ROUNDING * max(self._size, float(np.abs(self._base).max(initial=0.0)))

    def _check(self) -> None:
        """Raises InputError for modifiers that are not the same twice, make other faces, or are far from linear."""
        if self._is_changing():
            raise self._refusal(self._is_changing, "gives another mesh whenever it is evaluated")
        seen = seen_positions(self._object)
        if seen.shape != self._base.shape or np.abs(seen - self._base).max(initial=0.0) > SAME * self._size:
            modifiers = self._stage.modifiers
            name = next((modifier.name for modifier in modifiers if modifier.type in _SIMULATED), modifiers[-1].name)
            raise self._refused(
                name, "shows what comes from a simulation, or from changes that were not keyed, and not the vertices"
            )
        if self._is_remaking():
            raise self._refusal(self._is_remaking, "makes other faces when vertices move")
        if self._is_deaf():
            raise self._refusal(self._is_deaf, "shows the same wherever the vertices are")
        while self._unevenness() > EVEN and self._step > 3 * LEAST_STEP * self._size:
            self._step /= 3
        if self._is_not_linear():
            raise self._refusal(self._is_not_linear, "moves vertices in a way that cannot be predicted")

    def _reach(self) -> Generator[tuple[int, int], None, int]:
        """How many rings apart two vertices are at most that move the same shown vertex."""
        valence = np.diff(self._near.within(1)[0])
        chosen = {int(self._used[np.argmax(valence[self._used])])}
        chosen |= set(self._random.choice(self._used, SAMPLES).tolist())
        reach = 0
        for vertex in sorted(chosen):
            rings = self._near.rings(vertex, FARTHEST)
            own = self._moved(self._towards(rings[0]))
            yield 0, 1
            for number, ring in enumerate(rings[1:], 1):
                others = self._moved(self._towards(ring))
                yield 0, 1
                if (own & others).any():
                    reach = max(reach, number)
                elif number > reach:
                    break
        return reach

    def _blocks(
        self, groups: list[np.ndarray], apart: int, mixing: bool | None
    ) -> Generator[tuple[int, int], None, tuple[bool | None, int, _Blocks | None]]:
        """Whether a move along one axis can move what is shown along another, and the blocks of the map.

        Between them, how many blocks do not tell whose they are though they should: two vertices of a group have moved
        the same shown vertex, or it is at a kink, such as the edge of a cast box. The blocks are None where they are
        more than kinks would be.

        Args:
            groups: of vertices.
            apart: the vertices of a group are farther apart than this.
            mixing: as what is returned; None where it is to be found out by the first group.
        """
        pieces, unread = [], 0
        for number, group in enumerate(groups):
            seen, blocks = yield from self._responses(group, mixing is not False, (number, len(groups)))
            if mixing is None:
                crossed = np.abs(blocks * (1 - np.eye(3))).max(initial=0.0)
                mixing = bool(crossed > 10 * self._tolerance / self._step)
            code = codes(len(group))
            amounts = self._step * (1 + code / (LEVELS - 1))
            answer = self._answer(group, amounts)[seen]
            yield number, len(groups)
            row, readable = self._owners(blocks, answer, len(group))
            unread += int((np.abs(blocks).max(axis=(1, 2))[readable & (row < 0)] > STRONG).sum())
            if unread > max(1, KINKED * len(self._used)):
                return mixing, unread, None
            pieces.append((seen, np.where(row < 0, -1, group[row]), np.full(len(seen), number), blocks))
        seen, owner, colour, blocks = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        owner = self._settled(seen, owner, colour, blocks, groups, apart)
        known = (owner >= 0) & (np.abs(blocks).max(axis=(1, 2)) < SINGULAR)
        seen, owner, blocks = seen[known], owner[known], blocks[known]
        return mixing, unread, (seen, owner, blocks * self._signs[owner][:, None, :])

    def _responses(
        self, group: np.ndarray, mixing: bool, done: tuple[int, int]
    ) -> Generator[tuple[int, int], None, tuple[np.ndarray, np.ndarray]]:
        """(M,) the shown vertices that a vertex of the group moves, and (M, 3, 3) how much they follow it by each axis.

        mixing: axes are tried one by one; otherwise all at once, since each moves what is shown along itself.
        """
        answers = []
        for axes in np.eye(3) if mixing else np.ones((1, 3)):
            answers.append(self._answer(group, np.tile(self._step * axes, (len(group), 1))))
            yield done
        seen = np.flatnonzero(np.any([np.abs(answer).max(axis=1) > self._tolerance for answer in answers], axis=0))
        columns = np.stack([answer[seen] for answer in answers], axis=2) / self._step
        return seen, columns if mixing else columns * np.eye(3)

    def _owners(self, blocks: np.ndarray, answer: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(M,) which of the `count` vertices of a group gave the answers (M, 3), -1 where that is not known.

        And (M,) bool: whether the answers tell by how much one vertex has moved along at least two axes.
        """
        strength = np.abs(blocks).max(axis=1)  # (M, 3) of each axis along which the vertex was moved
        sure = strength > max(SURE, SURE_OF_ROUNDING * self._tolerance / self._step)
        # Two or three of the columns, of length 1, must be far from dependent.
        columns = blocks * sure[:, None, :] / np.maximum(np.linalg.norm(blocks, axis=1, keepdims=True), 1e-30)
        x, y, z = columns.transpose(2, 0, 1)
        crossed = np.stack([np.cross(x, y), np.cross(y, z), np.cross(z, x)])
        area = np.linalg.norm(crossed, axis=2).max(axis=0)
        volume = np.abs(np.einsum("ma,ma->m", crossed[0], z))
        readable = np.where(sure.all(axis=1), volume, area) > INDEPENDENT
        # Axes that move nothing are left out of the equations.
        square = np.einsum("mka,mkb->mab", blocks, blocks)
        square += np.eye(3) * np.where(sure, 1e-9, 1.0)[:, None, :]
        amounts = np.linalg.solve(square, np.einsum("mka,mk->ma", blocks, answer)[:, :, None])[:, :, 0] / self._step
        exact = (amounts - 1) * (LEVELS - 1)
        digits = np.round(exact).astype(np.int64)
        sure &= (np.abs(exact - digits) < 0.35) & (digits >= 0) & (digits < LEVELS)
        row = decoded(digits, sure & readable[:, None])
        return np.where(row < count, row, -1), readable

    def _settled(
        self,
        seen: np.ndarray,
        owner: np.ndarray,
        colour: np.ndarray,
        blocks: np.ndarray,
        groups: list[np.ndarray],
        apart: int,
    ) -> np.ndarray:
        """The owners, with those of faint answers: the vertex of their group that is nearest to the strongest owner."""
        strength = np.abs(blocks).max(axis=(1, 2))
        order = np.lexsort((np.where(owner < 0, 0, strength), seen))
        last = np.flatnonzero(np.diff(seen[order], append=-1))  # the strongest of each shown vertex
        anchor = np.full(len(self._base), -1)
        anchor[seen[order[last]]] = owner[order[last]]
        colour_of = np.full(len(self._start), len(groups))
        for number, group in enumerate(groups):
            colour_of[group] = number
        keys, nearest = [], []
        for rings in range(apart + 1):
            starts, lists = self._near.within(rings)
            of = np.repeat(np.arange(len(self._start)), np.diff(starts)) if rings else np.arange(len(self._start))
            to = lists if rings else of
            keys.append(of * (len(groups) + 1) + colour_of[to])
            nearest.append(to)
        known, first = np.unique(np.concatenate(keys), return_index=True)
        nearest_to = np.concatenate(nearest)[first]
        faint = np.flatnonzero((owner < 0) & (anchor[seen] >= 0))
        wanted = anchor[seen[faint]] * (len(groups) + 1) + colour[faint]
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        owner = owner.copy()
        owner[faint] = np.where(known[place] == wanted, nearest_to[place], -1)
        return owner

    def _in_world(self, seen: np.ndarray, owner: np.ndarray, blocks: np.ndarray) -> Cage:
        """The cage, from the blocks of the map in object space."""
        linear, faces = self._matrix[:3, :3], self._stage.triangles()
        if np.linalg.det(linear) < 0:
            faces = faces[:, ::-1]  # a mirrored object is drawn inside out unless its faces turn too
        if np.abs(linear - linear[0, 0] * np.eye(3)).max() > 0:
            blocks = np.linalg.inv(linear).T @ (linear @ blocks).transpose(0, 2, 1)
            blocks = blocks.transpose(0, 2, 1)
        vertices, shown = transformed(self._start, self._matrix), transformed(self._base, self._matrix)
        return of_blocks(vertices, Mesh(shown, faces), seen, owner, blocks, moved_planes(self._planes, self._matrix))

    def _error(self, cage: Cage, offset: np.ndarray) -> float:
        """How far what is predicted of a move (V, 3) is from what is shown of it, as a share of that."""
        linear = self._matrix[:3, :3]
        predicted = cage.shown_at(cage.vertices + offset @ linear.T).vertices - cage.shown.vertices
        moved = (self._positions(offset) - self._base) @ linear.T
        error, length = (np.sqrt(np.square(x).mean()) for x in (moved - predicted, moved))
        return float(max(error - self._tolerance, 0) / max(length, 1e-30))

    # What may be wrong with a stack of modifiers: whether it is, as the copy has them now

    def _is_changing(self) -> bool:
        here = np.zeros_like(self._start)
        first, second = self._stage.positions(here), self._stage.positions(here)
        return first.shape != second.shape or np.abs(first - second).max(initial=0.0) > 10 * self._tolerance

    def _is_remaking(self) -> bool:
        self._stage.positions(np.zeros_like(self._start))
        corners = self._stage.corners()
        for amount in (self._step, WIDE * self._size):
            self._stage.positions(self._scattered(amount) if amount == self._step else self._swollen(amount))
            if not np.array_equal(corners, self._stage.corners()):
                return True
        return False

    def _is_deaf(self) -> bool:
        still, moved = (self._stage.positions(x) for x in (np.zeros_like(self._start), self._scattered(self._step)))
        return np.abs(moved - still).max(initial=0.0) < self._tolerance

    def _is_not_linear(self) -> bool:
        return self._unevenness() > LINEAR

    def _unevenness(self) -> float:
        """How far the effects of two moves are from adding up to the effect of both, as a share of that.

        That of the worst twentieth of the shown vertices.
        """
        a, b = self._scattered(self._step), self._scattered(self._step)
        base, only_a, only_b, both = (self._stage.positions(x) for x in (np.zeros_like(a), a, b, a + b))
        if not base.shape == only_a.shape == only_b.shape == both.shape:
            return np.inf
        error = np.linalg.norm(both - only_a - only_b + base, axis=1) - self._tolerance
        moved = np.linalg.norm(both - base, axis=1)
        moves = moved > self._step / 10
        return float(np.quantile(error[moves] / moved[moves], 0.95)) if moves.any() else 0.0

    def _is_far(self) -> bool:
        one = np.zeros_like(self._start)
        one[self._used[0]] = self._step
        base, moved = self._stage.positions(np.zeros_like(one)), self._stage.positions(one)
        return base.shape != moved.shape or bool((np.abs(moved - base).max(axis=1) > self._tolerance).mean() > 0.3)

    def _refusal(self, problem: Callable[[], bool], what: str) -> InputError:
        """The error that names the modifier with which the problem begins."""
        modifiers = self._stage.modifiers
        for modifier in modifiers:
            modifier.show_viewport = False
        name = modifiers[-1].name
        for modifier in modifiers:
            modifier.show_viewport = True
            if problem():
                name = modifier.name
                break  # with the first modifiers alone the problem begins here
        for modifier in modifiers:
            modifier.show_viewport = True
        return self._refused(name, what)

    def _refused(self, name: str, what: str) -> InputError:
        return InputError(
            f"modifier '{name}' of '{self._stage.name}' {what}, so its vertices cannot be fitted below it; apply it, "
            "or disable it in the viewport, or untick Vertices."
        )

    # Moves

    def _scattered(self, amount: float) -> np.ndarray:
        """(V, 3) a move of each vertex in a direction of its own."""
        offset = np.zeros_like(self._start)
        offset[self._used] = amount * np.abs(self._random.standard_normal((len(self._used), 3)))
        return held(self._planes, self._start, offset * self._signs)

    def _swollen(self, amount: float) -> np.ndarray:
        """(V, 3) a smooth move by up to `amount` that makes the mesh larger and bends it."""
        middle = self._start.mean(axis=0)
        place = (self._start - middle) / self._size
        return held(self._planes, self._start, amount * (place + np.sin(7 * place[:, [1, 2, 0]])))

    def _towards(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) a move of some vertices along all axes."""
        offset = np.zeros_like(self._start)
        offset[vertices] = self._step * self._signs[vertices]
        return held(self._planes, self._start, offset)

    def _answer(self, group: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """(S, 3) how far what is shown moves when the vertices of a group are moved by the amounts (K, 3)."""
        offset = np.zeros_like(self._start)
        offset[group] = amounts * self._signs[group]
        return self._positions(held(self._planes, self._start, offset)) - self._base

    def _moved(self, offset: np.ndarray) -> np.ndarray:
        """(S,) bool: which shown vertices a move (V, 3) moves."""
        return np.abs(self._positions(offset) - self._base).max(axis=1) > self._tolerance

    def _positions(self, offset: np.ndarray) -> np.ndarray:
        positions = self._stage.positions(offset)
        if positions.shape != self._base.shape or not np.array_equal(self._stage.corners(), self._corners):
            raise self._refusal(self._is_remaking, "makes other faces when vertices move")
        return positions


def _topology(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) sizes of the faces, the vertex of each corner face after face, and (E, 2) edges."""
    sizes, corners = np.empty(len(mesh.polygons), np.int32), np.empty(len(mesh.loops), np.int32)
    edges = np.empty(2 * len(mesh.edges), np.int32)
    mesh.polygons.foreach_get("loop_total", sizes)
    mesh.loops.foreach_get("vertex_index", corners)
    mesh.edges.foreach_get("vertices", edges)
    return sizes, corners, edges.reshape(-1, 2)


def mirror_planes(ob: bpy.types.Object) -> np.ndarray:
    """(K, 7) the planes of the mirrors that come before all other modifiers of the object, in its space; see `Cage`."""
    planes = []
    for modifier in ob.modifiers:
        if not modifier.show_viewport:
            continue
        if not isinstance(modifier, bpy.types.MirrorModifier):
            break
        matrix = np.eye(4)
        if modifier.mirror_object is not None:
            matrix = np.linalg.inv(matrix_of(ob)) @ matrix_of(modifier.mirror_object)
        normals = np.linalg.inv(matrix[:3, :3])
        margin = modifier.merge_threshold if modifier.use_mirror_merge else 1e-6
        for axis in np.flatnonzero(np.array(modifier.use_axis)):
            normal = normals[axis] / np.linalg.norm(normals[axis])
            planes.append([*matrix[:3, 3], *normal, margin])
    return np.array(planes, dtype=np.float64).reshape(-1, 7)
