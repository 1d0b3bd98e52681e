"""Rotation of an image and its mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def rotate(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], degrees: float, *, fill: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Rotate both counterclockwise about the image's center, within the image's own size.

    Colors are interpolated bilinearly, labels are the nearest ones. Corners that rotate in from outside are void.

    Args:
        image: uint8 H×W×3.
        mask: uint8 H×W.
        degrees: The angle.
        fill: Color of the corners; their label is 255.
    """
    height, width = mask.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)
    labels = cv2.warpAffine(mask, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=(255,))
    return np.asarray(turned, np.uint8), np.asarray(labels, np.uint8)
