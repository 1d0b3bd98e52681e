"""The segmentation network that users hold, save and export."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.backbone import Backbone
from atrous.heads.head import Head
from atrous.upsamplers.bilinear import Bilinear


class Segmentor(nn.Module):
    """Preprocessing, backbone, head and upsampler in one module.

    Images are RGB with values 0…255, of any size. They are normalised as the backbone's weights expect and extended at
    the lower and right border with the mean colour until the outermost features lie on the border (a multiple of the
    output stride plus one pixel: the papers' 513 and 769 need no extension). So features lie at the same place relative
    to the pixels whatever the image's size, and logits are cut back to the image's own size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Callable[..., Head],
        num_classes: int,
        upsampler: Callable[..., nn.Module] = Bilinear,
        batch_norm_momentum: float | None = None,
    ) -> None:
        """Join the parts.

        Args:
            backbone: The feature extractor.
            head: Called with ``features``, ``grid``, ``output_stride`` and ``num_classes``.
            num_classes: Number of classes.
            upsampler: Called with ``grid``.
            batch_norm_momentum: Weight of a new batch in the running statistics of every batch norm (1 − decay in
                TensorFlow's terms: 0.0003 in the papers); ``None`` keeps PyTorch's 0.1.
        """
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone
        self.head = head(
            features=backbone.features,
            grid=backbone.grid,
            output_stride=backbone.output_stride,
            num_classes=num_classes,
        )
        self.upsampler = upsampler(grid=backbone.grid)
        if batch_norm_momentum is not None:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.momentum = batch_norm_momentum
        self.register_buffer("mean", _per_channel(backbone.mean), persistent=False)
        self.register_buffer("std", _per_channel(backbone.std), persistent=False)

    @property
    def output_stride(self) -> int:
        """Stride of the backbone's last feature map."""
        return self.backbone.output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Trade strides for atrous rates throughout, with the same weights (v3 §4.1: train at 16, test at 8).

        Raises:
            AtrousError: The backbone cannot have this output stride.
        """
        self.backbone.set_output_stride(output_stride)
        self.head.set_output_stride(output_stride)

    def preprocessing(self) -> dict[str, object]:
        """How images become inputs, as plain data for a checkpoint."""
        return {
            "channels": "RGB",
            "range": [0, 255],
            "mean": [255 * value for value in self.backbone.mean],
            "std": [255 * value for value in self.backbone.std],
            "extension": "lower and right border, mean colour, to a multiple of the output stride"
            + (" plus 1" if self.backbone.grid == "points" else ""),
        }

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits.

        Args:
            image: B×3×H×W, RGB, uint8 or float, 0…255.

        Returns:
            Logits B×C×H×W.
        """
        height, width = image.shape[-2:]
        extended = self.preprocess(image)
        logits: Tensor = self.upsampler(self.head(self.backbone(extended)), (extended.shape[-2], extended.shape[-1]))
        return logits[..., :height, :width]

    def preprocess(self, image: Tensor) -> Tensor:
        """Normalise and extend images B×3×H×W; see the class."""
        normalised = (image.to(self.mean.dtype) - self.mean) / self.std
        extra = 1 if self.backbone.grid == "points" else 0
        bottom, right = ((extra - extent) % self.output_stride for extent in image.shape[-2:])
        extended = F.pad(normalised, (0, right, 0, bottom)) if bottom or right else normalised
        return extended


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return 255 * torch.tensor(values).view(1, 3, 1, 1)
