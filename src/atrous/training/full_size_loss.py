"""Losses of a network's outputs against labels at full size."""

from __future__ import annotations

from torch import Tensor

from atrous.geometry import size_of
from atrous.losses import Loss, MeanOverPixels, loss_of_enlarged
from atrous.models import Segmentor
from atrous.models.upsamplers import Bilinear


def full_size_losses(segmentor: Segmentor, loss: Loss, image: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compute the loss of every output that has one, by name.

    Where scores are enlarged bilinearly, no CRF follows, and the loss is a mean over pixels, the logits never exist as
    a whole: at 513×513, with 16 images and 21 classes, they would take 350 MB, and their gradient as much again.

    Args:
        segmentor: The network.
        loss: Called with logits and labels.
        image: B×3×H×W, RGB, 0…255.
        target: Class ids B×H×W.
    """
    upsampler = segmentor.upsampler
    if not isinstance(loss, MeanOverPixels) or not isinstance(upsampler, Bilinear) or segmentor.crf is not None:
        outputs = segmentor(image, outputs="all")
        return {name: loss(logits, target) for name, logits in outputs.items()}
    size = segmentor.extended_size(size_of(image))
    losses = {}
    for name, scores in segmentor(image, outputs="scores").items():
        grid = upsampler.grid if name == "main" else segmentor.backbone.grid
        losses[name] = loss_of_enlarged(loss, scores, target, grid=grid, size=size)
    return losses
