"""The simplest protocol: the whole image, once, at its own scale."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atrous.geometry import Size
from atrous.inference.bands import bands_of
from atrous.inference.inference import Band, FreeSize
from atrous.models.network import Network


class WholeImage(FreeSize):
    """Class probabilities from one forward pass over the whole image (DeepLabv3 §4.1)."""

    def bands(self, network: Network, image: Tensor, size: Size | None = None) -> Iterator[Band]:
        """Class probabilities; see ``FreeSize``."""
        logits = network.logit_map(image)
        size = size or logits.size
        for rows in bands_of(size, logits.batch * logits.num_classes, logits.device):
            yield rows, logits.rows(rows, size).softmax(dim=1)
