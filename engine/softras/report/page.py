"""The HTML page of a report: one file that holds all it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING

from .. import __version__
from ..mesh import Mesh
from ..views import mean_iou

if TYPE_CHECKING:
    from ..fitting.progress import Progress

_STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #ffffff; --ink: #1b1f24; --quiet: #68707a; --line: #dfe3e8; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --ink: #e8ebef; --quiet: #98a1ab;
  --line: #2d333a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 26px; margin: 0 0 20px; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 36px 0 12px; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; }
.tile, .card, .chart { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 12px; }
.chart { padding: 14px 16px 8px; }
.chart h3 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.chart svg { width: 100%; height: auto; display: block; }
.chart text { fill: var(--quiet); font-size: 11px; }
.chart .grid { stroke: var(--line); }
.chart .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .legend { margin-bottom: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 0 0 14px; padding: 0; list-style: none;
  color: var(--quiet); font-size: 13px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; border: 1px solid rgb(0 0 0 / 25%); }
.views { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 14px; }
.card { overflow: hidden; }
.card header { display: flex; justify-content: space-between; gap: 12px; padding: 9px 14px;
  font-variant-numeric: tabular-nums; }
.card header span { color: var(--quiet); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair a { display: flex; align-items: center; justify-content: center; background: #181b20; aspect-ratio: 1; }
.pair img { max-width: 100%; max-height: 100%; display: block; }
footer { color: var(--quiet); font-size: 13px; margin-top: 32px; }
"""


_CURVE_COLOURS = ("#0a84c6", "#e08a00", "#8a5cd6", "#2e9e5b")


@dataclass(frozen=True)
class Card:
    """What the page shows of one view.

    Attributes:
        name: the name of the view.
        start_iou: the IoU before the fit, or None.
        iou: the IoU after it; NaN for a view that is left out.
        iou_by_area: likewise by area.
        outline, error: the two pictures, as data URLs.
        outline_file, error_file: the same in full size, as paths relative to the page.
    """

    name: str
    start_iou: float | None
    iou: float
    iou_by_area: float
    outline: str
    error: str
    outline_file: str
    error_file: str


def page(
    title: str,
    cards: Sequence[Card],
    mesh: Mesh,
    legend: dict[str, str],
    notes: Sequence[str] = (),
    seconds: float | None = None,
    history: Sequence[Progress] = (),
) -> str:
    """The whole page as HTML.

    Args:
        title: the heading.
        cards: one for each view.
        mesh: the fitted mesh; the page says how many vertices and triangles it has.
        legend: the colours of the pictures, by what they mean.
        notes: sentences for the user.
        seconds: how long the fit took, or None.
        history: the events of a fit, which the charts show.
    """
    measured = [card for card in cards if not math.isnan(card.iou)]
    at_start = [card.start_iou for card in measured if card.start_iou is not None]
    mean = f"{mean_iou([card.iou for card in measured]):.4f}" if measured else "-"
    tiles = [(mean, "mean IoU" + (f", {mean_iou(at_start):.4f} at the start" if at_start else ""))]
    if measured:
        tiles.append((f"{mean_iou([card.iou_by_area for card in measured]):.4f}", "mean IoU by area"))
        worst = min(measured, key=lambda card: card.iou)
        tiles.append((f"{worst.iou:.4f}", f"worst view, {worst.name}"))
    tiles.append((str(len(cards)), "views"))
    tiles.append((f"{len(mesh.vertices):,}", f"vertices, {len(mesh.faces):,} triangles"))
    if seconds is not None:
        tiles.append((f"{seconds:.1f} s", "of fitting"))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Softras: mean IoU {mean}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<div class='tiles'>",
        *(f"<div class='tile'><b>{value}</b><span>{escape(label)}</span></div>" for value, label in tiles),
        "</div>",
        _charts(history),
        "<h2>Views</h2><ul class='legend'>",
        *(f"<li><i style='background:{colour}'></i>{name}</li>" for name, colour in legend.items()),
        "</ul><div class='views'>",
        *map(_card, cards),
        "</div>",
        "<footer>IoU: intersection over union of the mask and the hard silhouette, by the centres of pixels, at the "
        "mask's full resolution. By area: of the part of each pixel that the mesh covers, and of the mask's values as "
        "such parts; masks with soft edges and parts thinner than a pixel count as they are. "
        f"Softras {__version__}.</footer></main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _card(card: Card) -> str:
    at_start = "" if card.start_iou is None or math.isnan(card.start_iou) else f"{card.start_iou:.4f} → "
    left_out = math.isnan(card.iou)
    at_end = "<b>left out</b>" if left_out else f"<b>{card.iou:.4f}</b>, by area {card.iou_by_area:.4f}"
    name = escape(card.name)
    return (
        f"<article class='card'><header><b>{name}</b><span>IoU {at_start}{at_end}</span></header>"
        f"<div class='pair'><a href='{card.outline_file}'><img src='{card.outline}' alt='outlines in view {name}'></a>"
        f"<a href='{card.error_file}'><img src='{card.error}' alt='error map of view {name}'></a></div></article>"
    )


def _charts(history: Sequence[Progress]) -> str:
    iou = [(event.elapsed, mean_iou(event.iou)) for event in history if event.iou is not None]
    terms: dict[str, list[tuple[float, float]]] = {}
    for event in history:
        for name, value in event.loss.items():
            terms.setdefault(name.replace("_", " "), []).append((event.elapsed, float(value)))
    charts = _chart("Terms of the loss", terms) + _chart("Mean IoU", {"": iou})
    return f"<h2>How it went</h2><div class='charts'>{charts}</div>" if charts else ""


def _chart(title: str, curves: dict[str, list[tuple[float, float]]]) -> str:
    """A line chart over seconds as inline SVG; "" if no curve has two points."""
    curves = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in curves.items()}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return ""
    left, right, top, bottom = 52.0, 548.0, 10.0, 196.0
    everything = [point for points in curves.values() for point in points]
    x0, x1 = min(x for x, _ in everything), max(x for x, _ in everything)
    x1 = max(x1, x0 + 1e-3)
    ticks = _ticks(min(y for _, y in everything), max(y for _, y in everything))
    low, high = ticks[0], ticks[-1]

    def position(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    drawn = []
    for tick in ticks:
        y = position(x0, tick)[1]
        drawn.append(f"<line class='grid' x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}'/>")
        drawn.append(f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick:.4g}</text>")
    for tick in _ticks(x0, x1):
        if x0 <= tick <= x1:
            x = position(tick, low)[0]
            drawn.append(f"<text x='{x:.1f}' y='{bottom + 18}' text-anchor='middle'>{tick:.4g} s</text>")
    names = []
    for (name, points), colour in zip(curves.items(), cycle(_CURVE_COLOURS)):
        line = " ".join("{:.1f},{:.1f}".format(*position(*point)) for point in _thin(points))
        drawn.append(f"<polyline class='curve' style='stroke:{colour}' points='{line}'/>")
        if name:
            names.append(f"<li><i style='background:{colour}'></i>{escape(name)}</li>")
    legend = f"<ul class='legend'>{''.join(names)}</ul>" if names else ""
    return (
        f"<div class='chart'><h3>{title}</h3>{legend}<svg viewBox='0 0 560 222' role='img' "
        f"aria-label='{title} over time'>{''.join(drawn)}</svg></div>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers, the first at most `low` and the last at least `high`."""
    span = high - low or abs(high) or 1.0
    unit = 10 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 5 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _thin(points: list[tuple[float, float]], most: int = 500) -> list[tuple[float, float]]:
    """About `most` of the points of a curve, with the last one."""
    stride = max(1, len(points) // most)
    return [*points[:-1:stride], points[-1]]
