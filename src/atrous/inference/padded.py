"""The protocol of the authors' code: every image is padded to one size, which decides what image pooling averages."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atrous.errors import AtrousError
from atrous.inference.fixed_size import fixed_size
from atrous.inference.inference import Inference, InferenceProtocol
from atrous.models.segmentor import Segmentor


class Padded(Inference):
    """Class probabilities from one pass over the image, padded at the lower and right border to a fixed size.

    TensorFlow DeepLab evaluates in "crops" that cover the largest image: 513×513 on VOC, 1025×2049 on Cityscapes
    (g3doc, ``eval_crop_size``). The padding is the mean color, which is zero after normalization.

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
        return {"padded": self.size}

    def __call__(self, segmentor: Segmentor, image: Tensor) -> Tensor:
        """Class probabilities; see ``Inference``.

        Raises:
            AtrousError: The image is larger than the size.
        """
        height, width = image.shape[-2:]
        if height > self.size[0] or width > self.size[1]:
            raise AtrousError(
                f"an image of {height}×{width} pixels cannot be padded to {self.size[0]}×{self.size[1]}: set "
                f"inference.size=[{max(height, self.size[0])},{max(width, self.size[1])}] or more, or "
                "inference=whole_image"
            )
        padded = segmentor.mean.repeat(len(image), 1, *self.size)  # B×3×size of the mean color
        padded[..., :height, :width] = image
        logits: Tensor = segmentor(padded)[..., :height, :width]
        return logits.float().softmax(dim=1)
