"""Random scenes of every mode, by the thousand: what breaks where nobody looks.

    python tests/raster/stress.py [--count 10000] [--seed 0] [--mode NAME] [--device cpu]

Scene number n has mode n modulo the number of modes and is the same in every run; `--seed N --count 1` is scene N
alone. Of each, in both precisions: values and gradients finite, alpha and colours within 0..1; in float64 the
definition, in float32 float64. Of large scenes, every twentieth of a mode, only the former, and on the CPU the same
bits from one thread and from several. A table by mode is printed; the exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from image_scenes import APPEARANCES, POWERS, Picture, picture_of
from scenes import by_threads, random_scene, same_bits
from torch import Tensor

from softras.raster.images import conorms, distributions, textures

EXACT_VALUE, EXACT_GRADIENT = 1e-8, 1e-6  # of the greatest number; in float64, against the definition
ROUNDED_VALUE, ROUNDED_GRADIENT = 1e-4, 2e-2  # in float32, against float64, beside what rounded inputs explain
SMALL = 1e-2  # numbers below are compared as if the greatest of them were this: what cancels leaves rounding
TRIES = 3  # of rounding the inputs once more
AMPLIFIED = 30.0  # times what those change
ROUNDING = 6e-8  # of a float
KNIFE_EDGES = 0.02  # of the pixels, where rounding decided and none of the tries showed it
LIMITED = ("value", "gradient")
COLUMNS = ("exact value", "exact gradient", "rounded value", "rounded gradient")  # the worst, in the table

MODES: dict[str, dict[str, Any]] = {
    "silhouette": {"appearance": None},
    "silhouette, culled": {"appearance": None, "cull": True},
    **{appearance: {"appearance": appearance} for appearance in APPEARANCES},
    "culled": {"cull": True},
    "gamma 1e-6": {"gamma": 1e-6},
    "colour hard": {"colour": "hard"},
    "euclidean": {"squared": False},
    "barycentric, squared": {"distance": "barycentric"},
    "barycentric": {"distance": "barycentric", "squared": False},
    "distance hard": {"distance": "hard"},
    **{f"{name}, squared": {"distribution": name} for name in distributions.DISTRIBUTIONS},
    **{name: {"distribution": name, "squared": False} for name in distributions.DISTRIBUTIONS},
    **{f"T-conorm {name}": {"aggregation": name, "power": POWERS.get(name)} for name in conorms.CONORMS},
    "mixed": {"mixed": True},
    "compat": {"softras_compat": True},
    "compat, barycentric": {"softras_compat": True, "distance": "barycentric"},
    "compat, distance hard": {"softras_compat": True, "distance": "hard"},
    "compat, sum": {"softras_compat": True, "aggregation": "sum"},
    "compat, alpha hard": {"softras_compat": True, "aggregation": "hard"},
    "compat, colour hard": {"softras_compat": True, "colour": "hard"},
    "compat, surface": {"softras_compat": True, "appearance": "surface", "cull": True},
}


Results = tuple[list[Tensor], list[Tensor]]  # outputs and gradients


@dataclass
class Outcome:
    """Errors of one scene, relative to its greatest number, and what failed."""

    errors: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool | Tensor, failure: str) -> None:
        """Note the failure unless it holds."""
        if not holds:
            self.failures.append(failure)


def picture(number: int, *, settled: bool = False) -> Picture:
    """The picture of that number, settled so that rounding decides nothing about whole faces."""
    settings = dict(MODES[mode_of(number)])
    r = random.Random(number)
    faces = r.randint(100, 400) if large(number) else r.choice([1, r.randint(2, 8), r.randint(9, 40)])
    size = (r.randint(60, 200), r.randint(60, 200)) if large(number) else (r.randint(1, 24), r.randint(1, 20))
    settings = {
        "gamma": 10 ** r.uniform(-3, 0),
        "far": r.choice([3.0, 10.0]),
        "wrap": r.choice(textures.WRAPS),
    } | settings
    if settings.pop("mixed", False):
        settings["aggregation"] = r.choice(list(conorms.CONORMS))
        settings |= {"power": POWERS.get(settings["aggregation"]), "shift": r.uniform(-1, 1)}
        settings |= {"distribution": r.choice(list(distributions.DISTRIBUTIONS)), "appearance": r.choice(APPEARANCES)}
        settings |= {"distance": r.choice(["euclidean", "barycentric"]), "squared": r.random() < 0.5}
    scene = random_scene(
        number,
        faces,
        size,
        views=r.randint(1, 2),
        sigma=10 ** r.uniform(-5, -1),
        near=r.choice([1e-3, 0.1, 0.5]),
        cull=settings.pop("cull", False),
        index=r.choice([torch.int32, torch.int64]),
    )
    scene = scene.settled(1e-6) if settled else scene
    appearance = settings.pop("appearance", "attributes")
    if appearance is None:
        leaves = {"vertices": scene.vertices, "K": scene.K, "world_to_camera": scene.world_to_camera}
        return Picture(scene, leaves, scene.faces)
    return picture_of(scene, number, appearance=appearance, shared=r.random() < 0.5, **settings)


def large(number: int) -> bool:
    """Whether the scene of that number is large; plain torch is too slow for that."""
    return number // len(MODES) % 20 == 19 and "softras_compat" not in MODES[mode_of(number)]


def mode_of(number: int) -> str:
    """The mode of the scene of that number."""
    return list(MODES)[number % len(MODES)]


def rendered(of: Picture, inputs: list[Tensor], defined: bool = False) -> list[Tensor]:
    """Alpha, and the image where there is one."""
    if "background" in of.leaves:
        return list(of.render(inputs, defined=defined)[:2])
    return [of.scene.define(inputs) if defined else of.scene.render(inputs)]


def values_and_gradients(of: Picture, inputs: list[Tensor], defined: bool = False) -> Results:
    """Outputs and the gradients of a sum of them with the same random weights, whatever the precision; on the CPU."""
    outputs = rendered(of, inputs, defined)
    g = torch.Generator().manual_seed(0)
    loss = sum((x * torch.randn(x.shape, generator=g, dtype=torch.float64).to(x)).sum() for x in outputs)
    if not loss.requires_grad:
        return [x.detach().cpu() for x in outputs], [torch.zeros_like(x).cpu() for x in inputs]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    return [x.detach().cpu() for x in outputs], [x.cpu() for x in gradients]


def difference(a: Tensor, b: Tensor) -> float:
    """The greatest difference, relative to the greatest number of b."""
    return float((a.double() - b).abs().max() / b.abs().max().clamp_min(SMALL)) if b.numel() else 0.0


def examine(number: int, device: str = "cpu") -> Outcome:
    """Everything about one scene."""
    out = Outcome()
    of = picture(number)
    for dtype, slack in ((torch.float32, 1e-3), (torch.float64, 1e-6)):
        outputs, gradients = values_and_gradients(of, of.inputs(dtype, device))
        out.expect(all(torch.isfinite(x).all() for x in outputs), f"{dtype}: a value is not finite")
        out.expect(all(torch.isfinite(x).all() for x in gradients), f"{dtype}: a gradient is not finite")
        bounded = all(((x >= -slack) & (x <= 1 + slack)).all() for x in outputs)
        out.expect(bounded, f"{dtype}: a value is not within 0..1")
    by_torch = of.mipmapped or of.settings.get("colour") == "hard"  # mip levels, and what hard colours want
    if large(number) and device == "cpu" and not by_torch:
        out.expect(threads_agree(of), "one thread and four differ")
    # SoftRas's own images are their own definition, and as inexact in float32 as SoftRas is with small faces
    if large(number) or "softras_compat" in of.settings:
        return out
    of = picture(number, settled=True)
    exact = values_and_gradients(of, of.inputs(torch.float64, device))
    defined = values_and_gradients(of, of.inputs(torch.float64), defined=True)
    for what, limit, ours, theirs in zip(LIMITED, (EXACT_VALUE, EXACT_GRADIENT), exact, defined, strict=True):
        worst = max(map(difference, ours, theirs))
        out.errors[f"exact {what}"] = worst
        out.expect(worst <= limit, f"the {what} differs from the definition's by {worst:.1e}")
    compare_precisions(of, exact, out, device)
    return out


def threads_agree(of: Picture) -> bool:
    """Whether one thread and four give the same bits."""
    results = by_threads(lambda: values_and_gradients(of, of.inputs(torch.float32)), (1, 4))
    return all(map(same_bits, *results))


def compare_precisions(of: Picture, exact: Results, out: Outcome, device: str) -> None:
    """float32 against float64, as far as rounding the inputs once more leaves the latter where it is."""
    values, gradients = exact
    ours = values_and_gradients(of, of.inputs(torch.float32, device))
    value_spread = [torch.zeros_like(x) for x in values]
    gradient_spread = [0.0 for _ in gradients]
    g = torch.Generator().manual_seed(1)
    for _ in range(TRIES):
        moved = [x.detach() for x in of.inputs(torch.float64)]
        moved = [x * (1 + ROUNDING * torch.randn(x.shape, generator=g, dtype=torch.float64)) for x in moved]
        near = values_and_gradients(of, [x.to(device).requires_grad_() for x in moved])
        value_spread = [torch.maximum(s, (a - b).abs()) for s, a, b in zip(value_spread, near[0], values, strict=True)]
        changed = map(difference, near[1], gradients)
        gradient_spread = [max(x) for x in zip(gradient_spread, changed, strict=True)]
    wrong = [
        (a.double() - b).abs() > ROUNDED_VALUE + AMPLIFIED * s
        for a, b, s in zip(ours[0], values, value_spread, strict=True)
    ]
    share = max(float(x.double().mean()) if x.numel() else 0.0 for x in wrong)
    out.errors["rounded value"] = share
    out.expect(share <= KNIFE_EDGES or sum(int(x.sum()) for x in wrong) <= 3, f"float32: {share:.1%} of values are off")
    errors = list(map(difference, ours[1], gradients))
    # the gradient to a depth is W (C - I) / gamma, where the image I has been rounded
    blend = ROUNDING / of.settings.get("gamma", 1.0)
    out.errors["rounded gradient"] = max(errors)
    for name, error, spread in zip(of.leaves, errors, gradient_spread, strict=True):
        near = error <= ROUNDED_GRADIENT + AMPLIFIED * (spread + blend)
        out.expect(near, f"float32: the gradient of {name} is off by {error:.1e} where rounding explains {spread:.1e}")


def main() -> int:
    """Print the table and the failures; 1 if there are any."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first scene's number")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    outcomes: dict[str, list[Outcome]] = {name: [] for name in MODES}
    start = time.monotonic()
    for number in range(args.seed, args.seed + args.count):
        name = mode_of(number)
        if args.mode in (None, name):
            try:
                outcome = examine(number, args.device)
            except Exception as error:
                outcome = Outcome(failures=[f"{type(error).__name__}: {error}"])
            outcomes[name].append(outcome)
            for failure in outcome.failures:
                print(f"scene {number}, {name}: {failure}", flush=True)
    print(f"{'':26}scenes  failed" + "".join(f"{column:>20}" for column in COLUMNS))
    for name, of_mode in outcomes.items():
        if of_mode:
            failed = sum(bool(x.failures) for x in of_mode)
            worst = [max((x.errors.get(column, 0.0) for x in of_mode), default=0.0) for column in COLUMNS]
            print(f"{name:26}{len(of_mode):6}{failed:8}" + "".join(f"{x:20.1e}" for x in worst))
    everything = [x for of_mode in outcomes.values() for x in of_mode]
    failed = sum(bool(x.failures) for x in everything)
    print(f"{len(everything)} scenes, {failed} failed, {time.monotonic() - start:.0f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
