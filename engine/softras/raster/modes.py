"""How a rendering blurs, joins and blends: the settings that the definition and every backend share."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, NamedTuple

from . import conorms, distributions

DISTANCES = ("euclidean", "barycentric", "hard")
SOFTRAS_CONORMS = {"prod": "probabilistic"}  # SoftRas's own word


class Modes(NamedTuple):
    """Settings of one rendering; `checked` fills in what follows from others.

    sigma: blur, in squared NDC with `squared`, else in NDC (GenDR's tau; for barycentric distances without a unit).
    gamma: how much nearer faces hide farther ones, relative to the depth of the scene: small is sharp.
    eps: where the background lies: at depth far - eps (far - near).
    distance: of a pixel from a face: to the nearest edge; the least barycentric coordinate; or none at all.
    squared: the distribution is that of the distance's square (SoftRas) or of the distance (GenDR).
    distribution, shape, shift: D of a signed distance, see distributions.py.
    conorm, power: how D of all faces become alpha, see conorms.py.
    cutoff: the signed distance in units of the blur below which a face does not count.
    """

    sigma: float = 1e-5
    gamma: float = 1e-4
    eps: float = 1e-3
    distance: Literal["euclidean", "barycentric", "hard"] = "euclidean"
    squared: bool = True
    distribution: str = "logistic"
    shape: float = distributions.SHAPE
    shift: float = 0.0
    conorm: str = "probabilistic"
    power: float = 1.0
    cutoff: float = -9.210240366975849

    @property
    def reach(self) -> float:
        """The distance outside a face, in NDC or barycentric, up to which it counts."""
        if self.distance == "hard" or self.cutoff >= 0:
            return 0.0
        return math.sqrt(-self.cutoff * self.sigma) if self.squared else -self.cutoff * self.sigma

    @property
    def plain(self) -> bool:
        """Whether this is SoftRas's choice, which the backends do by SIMD."""
        return self[3:] == Modes()[3:]


class Numbers(NamedTuple):
    """The modes' numbers, as the backends take them; radius: the cut-off in NDC or in barycentrics."""

    sigma: float
    gamma: float
    eps: float
    shape: float
    shift: float
    power: float
    cutoff: float
    radius: float


class Choices(NamedTuple):
    """The modes' choices by number, and what the texture is, as the backends take them (`softras_image_call`).

    wants_nearest: the nearest faces are asked for. wants_texels: in the backward pass, the texture's gradients are.
    """

    plain: int
    distance: int
    squared: int
    distribution: int
    conorm: int
    channels: int
    wants_nearest: int
    wants_texels: int = 0
    texture: int = 0
    texture_channels: int = 0
    lit: int = 0
    shared_texels: int = 1
    resolution: int = 0
    texture_height: int = 0
    texture_width: int = 0
    levels: int = 0
    wrap: int = 0


def checked(modes: Modes, faces: int, *, dist_eps: float = distributions.LEVEL, power: float | None = None) -> Modes:
    """The modes with SoftRas's names replaced, the T-conorm's parameter, and the cut-off where D = dist_eps.

    Raises ValueError (InputError where a table is at fault) naming what is wrong.
    """
    for name in ("sigma", "gamma", "eps"):
        value = getattr(modes, name)
        if not isinstance(value, Real):
            raise ValueError(f"{name} must be a number, not {type(value).__name__}")
        if not 0 < float(value) < math.inf:
            raise ValueError(f"{name} must be a positive number, not {value}")
    if modes.gamma < 1e-7:
        raise ValueError(f"gamma must be at least 1e-7, not {modes.gamma}")
    if modes.distance not in DISTANCES:
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, not {modes.distance!r}")
    if not 0 < dist_eps < 0.5:
        raise ValueError(f"dist_eps must lie between 0 and 0.5, not {dist_eps}")
    distributions.check(modes.distribution, modes.shape, modes.shift)
    conorm = SOFTRAS_CONORMS.get(modes.conorm, modes.conorm)
    row, p = conorms.check(conorm, power)
    if row.fold == "mean":
        p = 1 / max(1, faces)
    cutoff = distributions.quantile(dist_eps, modes.distribution, shape=modes.shape, shift=modes.shift)
    if modes.distribution == "logistic" and modes.shift == 0:
        cutoff = -math.log(1 / dist_eps - 1)
    if modes.distribution == "heaviside":
        cutoff = -modes.shift
    return modes._replace(conorm=conorm, power=p, cutoff=cutoff)
