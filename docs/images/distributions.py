"""Draw docs/images/distributions.png: `python docs/images/distributions.py`, with the engine and matplotlib."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from softras.raster.images.distributions import DISTRIBUTIONS, evaluate

GROUPS = {
    "bounded": ("uniform", "cubic_hermite", "wigner_semicircle", "heaviside"),
    "exponential tails": ("gaussian", "laplace", "logistic", "gudermannian"),
    "heavy tails": ("cauchy", "reciprocal", "levy", "levy_rev"),
    "skewed": ("gumbel_max", "gumbel_min", "exponential", "exponential_rev", "gamma", "gamma_rev"),
}
assert sum(map(len, GROUPS.values())) == len(DISTRIBUTIONS)

u = torch.linspace(-5, 5, 2001, dtype=torch.float64)
figure, axes = plt.subplots(2, 4, figsize=(13, 5), sharex=True, sharey="row", layout="constrained")
for column, (title, names) in zip(axes.T, GROUPS.items(), strict=True):
    for name in names:
        covered, _, density = evaluate(u, name)
        column[0].plot(u, covered, label=name, linewidth=1.3)
        column[1].plot(u, density, label=name, linewidth=1.3)
    column[0].set_title(title)
    column[0].legend(fontsize=7, loc="upper left")
    column[1].set_xlabel("u")
    for axis in column:
        axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
axes[0, 0].set_ylabel("D(u)")
axes[1, 0].set_ylabel("density")
axes[1, 0].set_ylim(0, 1.05)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)
