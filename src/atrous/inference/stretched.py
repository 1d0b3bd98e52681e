"""The protocol of networks with a fixed input: the image is stretched to one size, and the classes back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import size_of
from atrous.inference.fixed_size import fixed_size
from atrous.inference.inference import Inference, InferenceProtocol
from atrous.models.segmentor import Segmentor


class Stretched(Inference):
    """Class probabilities from one pass over the image at a fixed size, whatever its aspect ratio.

    The image is resized as Pillow's ``BILINEAR`` does, with a wider kernel where it shrinks, and rounded to whole
    numbers; every pixel of the image then has the probabilities of the nearest pixel of the result, so that the most
    probable classes are those of the small map resized by Pillow's ``NEAREST``.

    Args:
        size: Height and width in pixels, or one number for both.

    Raises:
        AtrousError: Not one or two positive numbers.
    """

    def __init__(self, *, size: int | Sequence[int]) -> None:
        self.size = fixed_size(size)

    @property
    def protocol(self) -> InferenceProtocol:
        """The size."""
        return {"stretched": self.size}

    def __call__(self, segmentor: Segmentor, image: Tensor) -> Tensor:
        """Class probabilities; see ``Inference``."""
        logits: Tensor = segmentor(_resized_like_pillow(image, self.size))
        return F.interpolate(logits.float().softmax(dim=1), size=size_of(image), mode="nearest-exact")


def _resized_like_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Width first, then height, each rounded to 0…255; Pillow's order depends on its version and changes one level."""
    pixels = image.float()
    for extent in ((pixels.shape[-2], size[1]), size):
        if pixels.shape[-2:] != torch.Size(extent):
            pixels = F.interpolate(pixels, size=extent, mode="bilinear", antialias=True, align_corners=False)
            pixels = pixels.add(0.5).floor().clamp(0, 255)
    return pixels
