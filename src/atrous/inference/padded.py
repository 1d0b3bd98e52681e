"""The protocol of the authors' code: every image is padded to one size, which decides what image pooling averages."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.inference.fixed_size import FixedSize
from atrous.inference.inference import Band, InferenceProtocol
from atrous.models.network import Network


class Padded(FixedSize):
    """Class probabilities of the image, padded at the lower and right border to a fixed size.

    TensorFlow DeepLab evaluates in "crops" that cover the largest image: 513×513 on VOC, 1025×2049 on Cityscapes
    (g3doc, ``eval_crop_size``), and tests at several scales of those. The padding is the mean color, which is zero
    after normalization.

    Args:
        size: Height and width in pixels, or one number for both.
        inner: What is done with the padded image; ``None`` for one pass over the whole of it.

    Raises:
        AtrousError: Not one or two positive numbers, or the inner inference gives images a size too.
    """

    @property
    def protocol(self) -> InferenceProtocol:
        """The size, and what is done then."""
        return {**self.inner.protocol, "padded": self.size}

    def bands(self, network: Network, image: Tensor) -> Iterator[Band]:
        """Class probabilities; see ``Inference``.

        Raises:
            AtrousError: The image is larger than the size.
        """
        height, width = size_of(image)
        if height > self.size[0] or width > self.size[1]:
            raise AtrousError(
                f"an image of {height}×{width} pixels cannot be padded to {self.size[0]}×{self.size[1]}: set "
                f"inference.size=[{max(height, self.size[0])},{max(width, self.size[1])}] or more, or "
                "inference=whole_image"
            )
        padded = network.mean.repeat(len(image), 1, *self.size)  # B×3×size of the mean color
        padded[..., :height, :width] = image
        for rows, probabilities in self.inner.bands(network, padded):
            if rows.start >= height:
                return
            kept = slice(rows.start, min(rows.stop, height))
            yield kept, probabilities[:, :, : kept.stop - kept.start, :width]
