"""Labels at the resolution of the scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.backbones.backbone import Grid


def shrink_labels(
    mask: Tensor, size: tuple[int, int], *, extension: int, grid: Grid, ignore_index: int = 255
) -> Tensor:
    """Take the label of the pixel on which each score lies (DeepLabv1 §3.1: training on labels shrunk by 8).

    Args:
        mask: Class ids B×H×W.
        size: Height and width of the scores.
        extension: Multiple of pixels to which images are extended; see ``Segmentor.extension``.
        grid: Grid of the backbone. On a grid of points scores lie on pixels ``stride·i``, on one of cells in the middle
            of ``stride`` pixels.
        ignore_index: Label of what lies beyond the image.

    Returns:
        Class ids B×h×w.
    """
    extra = 1 if grid == "points" else 0
    bottom, right = ((extra - extent) % extension for extent in mask.shape[-2:])
    extended = F.pad(mask, (0, right, 0, bottom), value=ignore_index)
    strides = [
        (pixels - extra) // max(1, scores - extra) for pixels, scores in zip(extended.shape[-2:], size, strict=True)
    ]
    first = [0 if grid == "points" else stride // 2 for stride in strides]
    shrunk = extended[..., first[0] :: max(1, strides[0]), first[1] :: max(1, strides[1])]
    return shrunk[..., : size[0], : size[1]]
