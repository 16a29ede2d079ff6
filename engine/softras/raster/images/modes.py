"""The modes of an image: how faces are blurred, joined to one alpha and blended."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from ... import checks
from ...errors import InputError, shown
from .. import arguments
from . import conorms, distributions

DISTANCES = ("euclidean", "barycentric", "hard")
SOFTRAS_CONORMS = {"prod": "probabilistic"}  # SoftRas's own word


class Modes(NamedTuple):
    """The settings of one image. `checked` fills in those that follow from others.

    sigma: blur, in squared NDC with `squared`, else in NDC (GenDR's tau); without a unit for barycentric distances.
    gamma: how sharply nearer faces hide farther ones, relative to the depth between near and far: small is sharp.
    eps: the background lies at depth far - eps (far - near); at most 1.
    distance: of a pixel from a face: from the nearest edge, or the least barycentric coordinate, or none at all.
    squared: whether the distribution takes the squared distance (SoftRas) or the distance (GenDR).
    distribution, shape, shift: D of a signed distance, see distributions.py.
    conorm, power: the T-conorm that joins the D of all faces to alpha, and its parameter, see conorms.py.
    cutoff: the signed distance u, in units of the blur, below which a face does not count.
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
    def radius(self) -> float:
        """The cut-off distance: up to how far outside it, in NDC or in barycentrics, a face counts."""
        if self.distance == "hard" or self.cutoff >= 0:
            return 0.0
        return math.sqrt(-self.cutoff * self.sigma) if self.squared else -self.cutoff * self.sigma

    @property
    def plain(self) -> bool:
        """Whether these are SoftRas's modes, for which the backends have faster code."""
        return self[3:] == Modes()[3:]

    @property
    def numbers(self) -> Numbers:
        """The numbers among the modes."""
        found = (self.sigma, self.gamma, self.eps, self.shape, self.shift, self.power, self.cutoff, self.radius)
        return Numbers(*map(float, found))


class Numbers(NamedTuple):
    """The numbers of the modes, as the backends take them. radius: the cut-off distance, see `Modes.radius`."""

    sigma: float
    gamma: float
    eps: float
    shape: float
    shift: float
    power: float
    cutoff: float
    radius: float


class Choices(NamedTuple):
    """The other modes as whole numbers, and the layout of the texture, as the backends take them.

    The numbers are those of the enumerations in csrc/softras_modes.h and of `softras_image_call` in csrc/softras.h.
    channels: of the image. wants_nearest: whether the nearest faces are asked for. wants_texels: whether the backward
    pass is asked for the gradient to the texels.
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
    """Check the modes; fill in the T-conorm's parameter and the cut-off, where D = dist_eps.

    faces: how many the mesh has, by which the T-conorm "sum" divides. SoftRas's name "prod" is replaced by ours. Raises
    InputError naming what is wrong.
    """
    sigma = arguments.number("sigma", modes.sigma, *arguments.SIGMA)
    gamma = arguments.number("gamma", modes.gamma, 1e-7, 1e6)
    eps = arguments.number("eps", modes.eps, 0.0, 1.0, above=True)
    shape = arguments.number("shape", modes.shape, 0.0, distributions.MOST_SHAPE, above=True)
    shift = arguments.number("shift", modes.shift, -1e6, 1e6)
    squared = checks.flag("squared", modes.squared)
    if modes.distance not in DISTANCES:
        raise InputError(f"distance must be one of {', '.join(DISTANCES)}, not {shown(modes.distance)}")
    dist_eps = arguments.number("dist_eps", dist_eps, 1e-12, 0.499)
    power = None if power is None else arguments.number("power", power, -1e6, 1e6)
    distribution, name = checks.text("distribution", modes.distribution), checks.text("aggregation", modes.conorm)
    modes = modes._replace(sigma=sigma, gamma=gamma, eps=eps, shape=shape, shift=shift, squared=squared)
    distributions.check(distribution, modes.shape, modes.shift)
    conorm = SOFTRAS_CONORMS.get(name, name)
    row, p = conorms.check(conorm, power)
    if row.fold == "mean":
        p = 1 / max(1, faces)
    cutoff = distributions.quantile(dist_eps, distribution, shape=modes.shape, shift=modes.shift)
    if distribution == "logistic" and modes.shift == 0:
        cutoff = -math.log(1 / dist_eps - 1)
    if distribution == "heaviside":
        cutoff = -modes.shift
    return modes._replace(conorm=conorm, power=p, cutoff=cutoff)
