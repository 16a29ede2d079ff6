"""What looks wrong about views before a fit, and about what a fit ended with: one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import binary_dilation

from ..views import View
from .observed.evaluate import thinned
from .observed.observation import crop_box
from .observed.observed_view import images_of
from .starts.hull import first_bounds

BORDER = 0.6  # An object seldom covers more than this share of the image's border; an inverted mask does.
GREYS = 128  # A mask with more than so many of the 256 grey levels,
BETWEEN = 0.25  # and more than this share of its pixels neither black nor white, is taken for a photograph.
ENOUGH = 4  # With fewer views of one moment than this, nothing tells which of them is wrong.
MOST = 40  # More views of one moment than this are not compared with one another, which would take too long.
VOXELS = 64  # The visual hull by which masks are compared has so many voxels along each side of its bounds.
CELLS = 64  # Each mask is reduced to so many cells a side for that,
TOLERANCE = 2  # and grown by so many cells, which is how far its outline may be wrong.
BLOCKS = CELLS // 2  # The hull's image is compared with a mask in so many blocks a side, of 2 x 2 cells each.
AGREED = 0.85  # Masks agree when their visual hull covers at least this share of each.
BETTER = 0.5  # Without the odd view, less than this share of what is uncovered without any other view stays uncovered.
POOR = 0.9  # A fit that ends below this mean IoU is clearly worse than what masks of one object allow.
WORSE = 0.15  # A view is named when its IoU is so far below the median of all views.


def doubts(views: Sequence[View], cameras_known: bool = True, ended: Callable[[], bool] = lambda: False) -> list[str]:
    """A sentence for every view that is left out or whose mask looks wrong.

    Args:
        cameras_known: whether the cameras are right, so that masks can be compared with one another.
        ended: asked between the smallest parts of that comparison; once it returns True, the comparison is left out.
    """
    found = []
    counting = []
    for view in views:
        if view.weight == 0:
            continue
        if blank := view.blank():
            found.append(f"A view is left out: {blank}")
            continue
        view = thinned(view)  # a megapixel tells as much
        if sentence := _of_mask(view):
            found.append(sentence)
        else:
            counting.append(view)
    if cameras_known:
        for frame in sorted({view.frame for view in counting}):
            moment = [view for view in counting if view.frame == frame]
            if ENOUGH <= len(moment) <= MOST and (odd := odd_one(moment, ended)) is not None:
                found.append(
                    f"The mask of view '{moment[odd].name}' contradicts the others: no object looks so to all cameras; "
                    "check that view's mask and camera."
                )
    return found


def remarks(views: Sequence[View], iou: np.ndarray, optimize: Sequence[str]) -> list[str]:
    """Sentences about the (N,) IoU that a finished fit of these variables ended with."""
    found = []
    counts = [i for i, view in enumerate(views) if view.weight > 0]
    frames = [views[i].frame for i in counts]
    if len(frames) == len(set(frames)) and tuple(optimize) != ("cameras",):
        found.append("One view shows no depth: what lies along its line of sight is a guess, however well it matches.")
    values = iou[counts]
    middle = float(np.median(values))
    weak = [i for i in counts if iou[i] < middle - WORSE] if len(counts) >= ENOUGH else []
    if weak:
        worst = min(weak, key=lambda i: iou[i])
        more = f", and {len(weak) - 1} more," if len(weak) > 1 else ""
        found.append(
            f"View '{views[worst].name}'{more} matches far worse (IoU {iou[worst]:.2f}) than the others (median "
            f"{middle:.2f}); check its mask and its camera."
        )
    mean = float(np.average(values, weights=[views[i].weight for i in counts]))
    if mean < POOR and not weak:
        if "vertices" in optimize:
            cause = "the masks may not belong together or to these cameras"
        else:
            cause = "the mesh may have another shape than what the masks show, or be too far off; optimize more of it"
        found.append(f"The fit ends with a mean IoU of {mean:.2f}, which is low: {cause}.")
    return found


def odd_one(views: Sequence[View], ended: Callable[[], bool] = lambda: False) -> int | None:
    """The index of the one view of a moment that cannot show what all others do, if there is one.

    Masks of one object are covered by the image of their visual hull. One view spoils the hull for the others, or has
    a mask that what the others leave does not fill.
    """
    low, high = first_bounds(views)
    axes = [np.linspace(low[k], high[k], VOXELS) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    misses = np.zeros(len(points), np.int8)
    inside: list[np.ndarray] = []
    places: list[np.ndarray] = []
    wanted: list[np.ndarray] = []
    for view in views:
        if ended():
            return None
        keeps, blocks, shown = _carved(view, points)
        misses += ~keeps
        inside, places, wanted = [*inside, keeps], [*places, blocks], [*wanted, shown]
        few = np.flatnonzero(misses <= 1)  # others are in no hull, whichever view is left out
        if len(few) < len(misses):
            points, misses = points[few], misses[few]
            inside, places = [row[few] for row in inside], [row[few] for row in places]

    def covered(hull: np.ndarray) -> np.ndarray:
        """(N,) share of each mask that the image of these voxels covers."""
        shares = np.ones(len(views))
        for n, cells in enumerate(wanted):
            hit = np.zeros(BLOCKS * BLOCKS + 1, bool)
            hit[places[n][hull]] = True
            if len(cells):
                shares[n] = hit[cells].mean()
        return shares

    together = covered(misses == 0)
    if together.min() >= AGREED:
        return None
    without = np.ones(len(views))
    for n in range(len(views)):
        if ended():
            return None
        without[n] = np.delete(covered(misses == ~inside[n]), n).min()
    best = int(without.argmax())
    clear = 1 - without[best] < BETTER * (1 - np.delete(without, best).max())
    return best if without[best] >= AGREED and clear else None


def _carved(view: View, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a view says of world points (P, 3), the centres of voxels.

    Returns:
        (P,) whether the view keeps the point: its mask shows it there, or the view does not see it;
        (P,) the block of the mask that the point is in, BLOCKS * BLOCKS where it is in none; and
        the blocks that the mask fills.
    """
    x0, y0, x1, y1 = box = crop_box(view)
    mean, known = images_of(view).mean_mask(box, CELLS)
    shown = binary_dilation(mean > 0.5, iterations=TOLERANCE) | (known < 0.5)
    filled = (mean * known).reshape(BLOCKS, 2, BLOCKS, 2).mean(axis=(1, 3)) > 0.75
    x, y = view.camera.project(points).T
    depth = points @ view.camera.world_to_camera[2, :3] + view.camera.world_to_camera[2, 3]
    seen = (depth > view.camera.near) & np.isfinite(x) & np.isfinite(y)
    seen &= (x > 0) & (x < view.camera.width) & (y > 0) & (y < view.camera.height)
    x, y = (np.where(seen, x, 0) - x0) / (x1 - x0) * CELLS, (np.where(seen, y, 0) - y0) / (y1 - y0) * CELLS
    within = seen & (x >= 0) & (x < CELLS) & (y >= 0) & (y < CELLS)
    column, row = (np.where(within, cell, 0).astype(np.int32) for cell in (x, y))
    blocks = np.where(within, row // 2 * BLOCKS + column // 2, BLOCKS * BLOCKS)
    return ~seen | (within & shown[row, column]), blocks, np.flatnonzero(filled)


def _of_mask(view: View) -> str | None:
    """What looks wrong about one mask by itself."""
    known = np.ones(view.mask.shape, bool) if view.ignore is None else ~view.ignore
    border = np.zeros(view.mask.shape, bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    border &= known
    if border.any() and (view.mask[border] > 0.5).mean() > BORDER:
        return (
            f"The mask of view '{view.name}' covers most of the image's border; if white is the background there, "
            "invert the mask."
        )
    values = view.mask[known]
    levels = np.bincount((values * 255).round().astype(int), minlength=256)
    between = ((values > 0.1) & (values < 0.9)).mean()
    if np.count_nonzero(levels) > GREYS and between > BETWEEN:
        return (
            f"The mask of view '{view.name}' has the grey levels of a photograph; give an image that is white where "
            "the object is and black elsewhere."
        )
    return None
