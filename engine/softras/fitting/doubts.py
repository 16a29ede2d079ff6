"""Sentences for the user about what looks wrong in the views before a fit, and in what a fit ended with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import binary_dilation

from ..views import View
from .observed.evaluate import thinned
from .observed.observation import crop_box
from .observed.observed_view import images_of
from .starts.hull import first_bounds

BORDER = 0.6  # A mask that covers more than this share of the image's border is most likely inverted.
GREYS = 128  # A mask with more than so many of the 256 grey levels,
BETWEEN = 0.25  # and more than this share of its pixels neither black nor white, is taken for a photograph.
ENOUGH = 4  # Fewer views of one frame than this cannot tell which of them is wrong.
MOST = 40  # More views of one frame than this are not compared with one another: it would take too long.
VOXELS = 64  # To compare masks, their visual hull is made of so many voxels along each side of its bounds.
CELLS = 64  # For that, each mask is reduced to so many cells a side,
TOLERANCE = 2  # and dilated by so many cells, by which its outline may be wrong.
BLOCKS = CELLS // 2  # The image of the hull is compared with a mask in so many blocks a side, of 2 x 2 cells each.
AGREED = 0.85  # Masks agree when the image of their visual hull covers at least this share of each mask.
# One view is odd if the others agree without it, and if the share of a mask that stays uncovered is then less than this
# times the share that stays uncovered without any other view.
BETTER = 0.5
POOR = 0.9  # A fit with good masks of one object ends above this mean IoU.
WORSE = 0.15  # A view is named when its IoU is lower than the median of all views by more than this.


def doubts(views: Sequence[View], cameras_known: bool = True, ended: Callable[[], bool] = lambda: False) -> list[str]:
    """A sentence for every view that is left out or whose mask looks wrong.

    Args:
        cameras_known: whether the cameras can be relied on; masks are compared with one another only then.
        ended: called between the parts of that comparison; once it returns True, the comparison is left out.
    """
    found = []
    counting = []
    for view in views:
        if view.weight == 0:
            continue
        if blank := view.blank():
            found.append(f"A view is left out: {blank}")
            continue
        view = thinned(view)  # A megapixel is enough to tell.
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
    """Sentences about a finished fit: its IoU (N,) with the views, and the variables that it optimized."""
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
    """The index of the one view of a frame whose mask contradicts those of all others; None if there is no such view.

    The image of the visual hull covers every mask if all masks are of one object and all cameras are right. A wrong
    view carves away what the others need; the hull made without it covers the masks of the others.
    """
    low, high = first_bounds(views)
    axes = [np.linspace(low[k], high[k], VOXELS) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    misses = np.zeros(len(points), np.int8)
    inside: list[np.ndarray] = []
    block_of: list[np.ndarray] = []
    wanted: list[np.ndarray] = []
    for view in views:
        if ended():
            return None
        keeps, blocks, shown = _carved(view, points)
        misses += ~keeps
        inside, block_of, wanted = [*inside, keeps], [*block_of, blocks], [*wanted, shown]
        few = np.flatnonzero(misses <= 1)  # All other voxels are in no hull, whichever view is left out.
        if len(few) < len(misses):
            points, misses = points[few], misses[few]
            inside, block_of = [row[few] for row in inside], [row[few] for row in block_of]

    def covered(hull: np.ndarray) -> np.ndarray:
        """(N,) the share of each mask that is covered by the image of the voxels of a hull, given as (P,) bool."""
        shares = np.ones(len(views))
        for n, cells in enumerate(wanted):
            hit = np.zeros(BLOCKS * BLOCKS + 1, bool)
            hit[block_of[n][hull]] = True
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
    """What a view says of the centres of voxels (P, 3) in the world.

    Returns:
        (P,) bool, whether the view keeps the point: it lies in the dilated mask, in an ignored part or outside the
            image;
        (P,) the index of the block of the mask's crop in which the point lies, BLOCKS * BLOCKS for none; and
        the indices of the blocks that the mask fills.
    """
    x0, y0, x1, y1 = box = crop_box(view)
    mean, known = images_of(view).mean_mask(box, CELLS)
    shown = binary_dilation(mean > 0.5, iterations=TOLERANCE) | (known < 0.5)
    filled = (mean * known).reshape(BLOCKS, 2, BLOCKS, 2).mean(axis=(1, 3)) > 0.75
    seen = view.camera.to_camera(points)
    x, y = view.camera.to_pixels(seen).T
    depth = seen[:, 2]
    in_image = (depth > view.camera.near) & np.isfinite(x) & np.isfinite(y)
    in_image &= (x > 0) & (x < view.camera.width) & (y > 0) & (y < view.camera.height)
    x, y = (np.where(in_image, x, 0) - x0) / (x1 - x0) * CELLS, (np.where(in_image, y, 0) - y0) / (y1 - y0) * CELLS
    within = in_image & (x >= 0) & (x < CELLS) & (y >= 0) & (y < CELLS)
    column, row = (np.where(within, cell, 0).astype(np.int32) for cell in (x, y))
    blocks = np.where(within, row // 2 * BLOCKS + column // 2, BLOCKS * BLOCKS)
    return ~in_image | (within & shown[row, column]), blocks, np.flatnonzero(filled)


def _of_mask(view: View) -> str | None:
    """A sentence about what looks wrong in one mask by itself; None if nothing does."""
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
