"""Average pooling with a rate: what a strided pooling becomes when its neighbors are dilated."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.models.atrous_convolution import Taps, atrous_convolution


class AtrousAvgPool2d(nn.AvgPool2d):
    """Average pooling whose window samples its input every ``dilation`` pixels.

    With ``dilation`` 1 and no ``margins`` it is ``nn.AvgPool2d``. Otherwise windows that reach over the border average
    only the samples inside, unless ``count_include_pad`` asks for the zeros to count.

    Attributes:
        dilation: Distance between samples.
        margins: Padding (left, right, top, bottom) that replaces ``padding``, or ``None``.
    """

    dilation: int = 1
    margins: tuple[int, int, int, int] | None = None

    @classmethod
    def like(cls, pool: nn.AvgPool2d) -> AtrousAvgPool2d:
        """Copy the settings of an ordinary average pooling."""
        return cls(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, pool.count_include_pad)

    def forward(self, input: Tensor) -> Tensor:
        """Pool B×C×H×W."""
        if self.dilation == 1 and self.margins is None:
            return super().forward(input)
        kernel = self.kernel_size if isinstance(self.kernel_size, tuple) else (self.kernel_size,) * 2
        padding = self.padding if isinstance(self.padding, tuple) else (self.padding,) * 2
        margins = self.margins or (padding[1], padding[1], padding[0], padding[0])
        channels = input.shape[1]
        box = input.new_ones(1, 1, *kernel)
        stride = self.stride if isinstance(self.stride, tuple) else (self.stride,) * 2
        total = atrous_convolution(
            F.pad(input, margins),
            box.expand(channels, 1, *kernel),
            taps=Taps(kernel, (self.dilation, self.dilation), stride),
            groups=channels,
        )
        if self.count_include_pad:
            return total / box.numel()
        inside = F.pad(input.new_ones(1, 1, *input.shape[-2:]), margins)
        return total / F.conv2d(inside, box, stride=self.stride, dilation=self.dilation).clamp(min=1)
