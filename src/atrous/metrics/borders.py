"""How far pixels are from the borders in a label map."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

Distance = Literal["chebyshev", "euclidean"]
"""``chebyshev``: the larger of rows and columns from one pixel to the other; ``euclidean``: a straight line."""

Labels = NDArray[np.integer]
Pixels = NDArray[np.bool_]

_KINDS = {"chebyshev": (cv2.DIST_C, 3), "euclidean": (cv2.DIST_L2, cv2.DIST_MASK_PRECISE)}


def require_distance(distance: str) -> None:
    """Refuse the name of no distance.

    Raises:
        AtrousError: It is unknown.
    """
    if distance not in get_args(Distance):
        raise AtrousError(f"the distance {distance!r} is unknown: choose {' or '.join(get_args(Distance))}")


def distance_to(pixels: Pixels, distance: Distance = "chebyshev") -> NDArray[np.float32]:
    """Distance of every pixel to the nearest one of a set, H×W.

    Args:
        pixels: Which pixels are in the set, H×W.
        distance: How distances are measured.

    Returns:
        0 in the set, infinity where the set is empty.
    """
    if not pixels.any():
        return np.full(pixels.shape, np.inf, dtype=np.float32)
    kind, mask = _KINDS[distance]
    return np.asarray(cv2.distanceTransform((~pixels).astype(np.uint8), kind, mask), dtype=np.float32)


def borders(labels: Labels, *, ignore_index: int | None = None, diagonal: bool = True) -> Pixels:
    """The pixels that have a neighbor with another label, H×W.

    Args:
        labels: H×W.
        ignore_index: Label that makes no border and has none; ``None`` to treat all labels alike.
        diagonal: Whether pixels have eight neighbors, or four.
    """
    found = np.zeros(labels.shape, dtype=bool)
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1))[: 4 if diagonal else 2]:
        upper = (slice(None, -down or None), slice(-across if across < 0 else 0, -across if across > 0 else None))
        lower = (slice(down, None), slice(across if across > 0 else 0, across if across < 0 else None))
        differs = labels[upper] != labels[lower]
        if ignore_index is not None:
            differs &= (labels[upper] != ignore_index) & (labels[lower] != ignore_index)
        found[upper] |= differs
        found[lower] |= differs
    return found


def distance_to_other_labels(labels: Labels) -> NDArray[np.float32]:
    """Chebyshev distance of every pixel to the nearest one with another label or outside the image, H×W.

    On the way from a pixel to the nearest one with another label, the last but one is a border pixel: so it is the
    distance to the nearest border pixel plus one, for all labels at once.
    """
    outside = int(labels.max()) + 1
    framed = np.pad(labels.astype(np.int64), 1, constant_values=outside)
    return (distance_to(borders(framed)) + 1)[1:-1, 1:-1]
