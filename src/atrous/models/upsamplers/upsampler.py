"""What the Segmentor expects from every upsampler."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from atrous.geometry import Size


class Upsampler(nn.Module, ABC):
    """Class scores, or a code of them, become logits at full resolution.

    Upsamplers are constructed with the keyword arguments ``grid`` (the backbone's grid) and ``num_classes``, besides
    their own.

    Attributes:
        score_channels: Channels that the head must produce.
        ratio: Image pixels per score that the weights are made for; ``None`` where any will do.
        pretrained_names: Name prefixes of the parameters that were fitted beforehand; they learn as fast
            as the backbone, all others as fast as new layers.
    """

    score_channels: int
    ratio: int | None = None
    pretrained_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Map scores B×D×h×w to logits B×C×H×W of a size.

        Args:
            scores: The head's result, D = ``score_channels``.
            size: Height and width of the extended image: ``s·(h − 1) + 1`` on a grid of points, ``s·h`` of cells.
        """
