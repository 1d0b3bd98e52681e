"""The protocol of networks with a fixed input: the image is stretched to one size, and the classes back."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Grid, interpolate, pixels_of, size_of
from atrous.inference.bands import bands_of
from atrous.inference.fixed_size import FixedSize
from atrous.inference.inference import Band, Inference, InferenceProtocol
from atrous.models.network import Network


class Stretched(FixedSize):
    """Class probabilities of the image at a fixed size, whatever its aspect ratio.

    The image is resized as Pillow's ``BILINEAR`` does, with a wider kernel where it shrinks, and rounded to whole
    numbers; every pixel of the image then has the probabilities of the nearest pixel of the result, so that the most
    probable classes are those of the small map resized by Pillow's ``NEAREST``. A refiner gets them interpolated.

    Args:
        size: Height and width in pixels, or one number for both.
        inner: What is done with the stretched image; ``None`` for one pass over the whole of it.
        interpolated: Whether probabilities are brought back bilinearly instead.

    Raises:
        AtrousError: Not one or two positive numbers, or the inner inference gives images a size too.
    """

    def __init__(
        self, *, size: int | Sequence[int], inner: Inference | None = None, interpolated: bool = False
    ) -> None:
        super().__init__(size=size, inner=inner)
        self.interpolated = interpolated

    def smooth(self) -> Inference:
        """See ``Inference``."""
        changed = copy.copy(self)
        changed.interpolated = True
        return changed

    @property
    def protocol(self) -> InferenceProtocol:
        """The size, and what is done then."""
        return {**self.inner.protocol, "stretched": self.size}

    def bands(self, network: Network, image: Tensor) -> Iterator[Band]:
        """Class probabilities; see ``Inference``."""
        stretched = self.inner(network, _resized_like_pillow(image, self.size))  # B×C×size
        size = size_of(image)
        sides = list(zip(size, self.size, strict=True))
        bands = bands_of(size, stretched.shape[0] * stretched.shape[1], stretched.device)
        if self.interpolated:
            down, across = (Grid.CELLS.places(pixels_of(pixels), pixels, features) for pixels, features in sides)
            for rows in bands:
                yield rows, interpolate(stretched, down[rows], across)
        else:
            down, across = (_nearest(*side, stretched.device) for side in sides)
            for rows in bands:
                yield rows, stretched[:, :, down[rows]][..., across]


def _nearest(pixels: int, features: int, device: torch.device) -> Tensor:
    """The feature nearest to every pixel of a side, as Pillow and ``nearest-exact`` choose it."""
    line = torch.arange(features, dtype=torch.float32).view(1, 1, -1)
    return F.interpolate(line, size=pixels, mode="nearest-exact").flatten().long().to(device)


def _resized_like_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Width first, then height, each rounded to 0…255; Pillow's order depends on its version and changes one level."""
    pixels = image.float()
    for extent in ((pixels.shape[-2], size[1]), size):
        if pixels.shape[-2:] != torch.Size(extent):
            pixels = F.interpolate(pixels, size=extent, mode="bilinear", antialias=True, align_corners=False)
            pixels = pixels.add(0.5).floor().clamp(0, 255)
    return pixels
