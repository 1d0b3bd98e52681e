"""Scores near the borders of objects only (DeepLabv1 §5.2, figure "trimap"; v3+ §4.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError


def within_trimap(mask: Tensor, width: int, *, ignore_index: int = 255) -> Tensor:
    """Keep the labels of pixels that are near an ignored one, as VOC draws the borders of objects; ignore all others.

    Near means inside the ignored pixels dilated ``width`` times by a 3×3 square.

    Args:
        mask: Class ids B×H×W.
        width: Width of the band in pixels, at least 1.
        ignore_index: Label of ignored pixels.

    Returns:
        Class ids B×H×W.

    Raises:
        AtrousError: The width is not positive.
    """
    if width < 1:
        raise AtrousError(f"trimap_width={width} must be 1 pixel or more, or null for whole images")
    void = (mask == ignore_index).unsqueeze(1).float()
    near = F.max_pool2d(void, 2 * width + 1, stride=1, padding=width).squeeze(1) > 0
    return mask.where(near, mask.new_full((), ignore_index))
