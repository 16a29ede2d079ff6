"""The HTML page of a report: one file that needs no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from .. import __version__
from ..mesh import Mesh

if TYPE_CHECKING:
    from ..fitting import Progress

_STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #ffffff; --ink: #1b1f24; --quiet: #68707a; --line: #dfe3e8;
  --accent: #0a84c6; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --ink: #e8ebef; --quiet: #98a1ab;
  --line: #2d333a; --accent: #3db8f5; } }
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
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 12px; }
.chart { padding: 14px 16px 8px; }
.chart h3 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.chart svg { width: 100%; height: auto; display: block; }
.chart text { fill: var(--quiet); font-size: 11px; }
.chart .grid { stroke: var(--line); }
.chart .curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
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


@dataclass(frozen=True)
class Card:
    """What the page shows of one view; pictures as data URLs, files relative to the page."""

    name: str
    start_iou: float | None
    iou: float
    outline: str
    error: str
    outline_file: str
    error_file: str


def page(
    cards: Sequence[Card], start: Mesh | None, fitted: Mesh, history: Sequence[Progress], legend: dict[str, str]
) -> str:
    """The whole page as HTML."""
    mean = sum(card.iou for card in cards) / len(cards)
    worst = min(cards, key=lambda card: card.iou)
    before = [card.start_iou for card in cards if card.start_iou is not None]
    tiles = [
        (f"{mean:.4f}", "mean IoU" + (f", {sum(before) / len(before):.4f} at the start" if before else "")),
        (f"{worst.iou:.4f}", f"worst view, {worst.name}"),
        (str(len(cards)), "views"),
        (f"{len(fitted.vertices):,}", f"vertices, {len(fitted.faces):,} triangles"),
    ]
    steps = [event for event in history if event.loss]
    if steps:
        tiles.append((f"{steps[-1].step:,}", "steps"))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Softras: mean IoU {mean:.4f}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{'Refined' if start is not None else 'Reconstructed'} from {len(cards)} silhouettes</h1>",
        "<div class='tiles'>",
        *(f"<div class='tile'><b>{value}</b><span>{escape(label)}</span></div>" for value, label in tiles),
        "</div>",
        _charts(steps),
        "<h2>Views</h2><ul class='legend'>",
        *(f"<li><i style='background:{colour}'></i>{name}</li>" for name, colour in legend.items()),
        "</ul><div class='views'>",
        *map(_card, cards),
        "</div>",
        "<footer>IoU: intersection over union of the mask and the hard silhouette, at the mask's full resolution. "
        f"Softras {__version__}.</footer></main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _card(card: Card) -> str:
    before = "" if card.start_iou is None else f"{card.start_iou:.4f} → "
    name = escape(card.name)
    return (
        f"<article class='card'><header><b>{name}</b><span>IoU {before}<b>{card.iou:.4f}</b></span></header>"
        f"<div class='pair'><a href='{card.outline_file}'><img src='{card.outline}' alt='outlines in view {name}'></a>"
        f"<a href='{card.error_file}'><img src='{card.error}' alt='error map of view {name}'></a></div></article>"
    )


def _charts(steps: Sequence[Progress]) -> str:
    loss = [(float(event.step), float(sum(event.loss.values()))) for event in steps]
    iou = [(float(e.step), float(sum(e.iou) / len(e.iou))) for e in steps if e.iou is not None and len(e.iou)]
    charts = [chart for chart in (_chart("Loss", loss), _chart("Mean IoU", iou)) if chart]
    return f"<h2>How it went</h2><div class='charts'>{''.join(charts)}</div>" if charts else ""


def _chart(title: str, points: list[tuple[float, float]]) -> str:
    """A line chart as inline SVG; "" for fewer than two points."""
    points = [point for point in points if all(map(math.isfinite, point))]
    if len(points) < 2:
        return ""
    left, right, top, bottom = 52.0, 548.0, 10.0, 196.0
    x0, x1 = points[0][0], max(points[-1][0], points[0][0] + 1)
    ticks = _ticks(min(y for _, y in points), max(y for _, y in points))
    low, high = ticks[0], ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    grid = []
    for tick in ticks:
        y = place(x0, tick)[1]
        grid.append(f"<line class='grid' x1='{left}' x2='{right}' y1='{y:.1f}' y2='{y:.1f}'/>")
        grid.append(f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick:.4g}</text>")
    for tick in _ticks(x0, x1):
        if x0 <= tick <= x1:
            grid.append(f"<text x='{place(tick, low)[0]:.1f}' y='{bottom + 18}' text-anchor='middle'>{tick:.4g}</text>")
    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in _thin(points))
    return (
        f"<div class='chart'><h3>{title}</h3><svg viewBox='0 0 560 222' role='img' aria-label='{title} by step'>"
        f"{''.join(grid)}<polyline class='curve' points='{line}'/></svg></div>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that span low..high."""
    span = high - low or abs(high) or 1.0
    unit = 10 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 5 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _thin(points: list[tuple[float, float]], most: int = 500) -> list[tuple[float, float]]:
    stride = max(1, len(points) // most)
    return [*points[:-1:stride], points[-1]]
