"""The simplest protocol: the whole image, once, at its own scale."""

from __future__ import annotations

from torch import Tensor

from atrous.inference.inference import Inference
from atrous.models.segmentor import Segmentor


class WholeImage(Inference):
    """Class probabilities from one forward pass over the whole image (DeepLabv3 §4.1)."""

    def __call__(self, segmentor: Segmentor, image: Tensor) -> Tensor:
        """Class probabilities; see ``Inference``."""
        logits: Tensor = segmentor(image)
        return logits.float().softmax(dim=1)
