"""The simplest protocol: the whole image, once, at its own scale."""

from __future__ import annotations

from torch import Tensor

from atrous.segmentor import Segmentor


class WholeImage:
    """Class probabilities from one forward pass over the whole image (DeepLabv3 §4.1)."""

    def __call__(self, segmentor: Segmentor, image: Tensor) -> Tensor:
        """Predict.

        Args:
            segmentor: Network in evaluation mode.
            image: B×3×H×W, RGB, 0…255.

        Returns:
            Probabilities B×C×H×W, float32.
        """
        logits: Tensor = segmentor(image)
        return logits.float().softmax(dim=1)
