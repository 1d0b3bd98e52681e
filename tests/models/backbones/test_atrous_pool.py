"""Average pooling with a rate against loops over windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atrous.models.backbones.atrous_pool import AtrousAvgPool2d


def mean_of_windows(
    image: Tensor, kernel: int, stride: int, dilation: int, before: int, after: int, count_padding: bool
) -> Tensor:
    """Average pooling of C×H×W by definition."""
    height, width = image.shape[-2:]
    reach = (kernel - 1) * dilation
    rows = range(-before, height + after - reach, stride)
    columns = range(-before, width + after - reach, stride)
    result = torch.zeros(len(image), len(rows), len(columns), dtype=image.dtype)
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            inside = [
                image[:, top + a * dilation, left + b * dilation]
                for a in range(kernel)
                for b in range(kernel)
                if 0 <= top + a * dilation < height and 0 <= left + b * dilation < width
            ]
            result[:, i, j] = sum(inside) / (kernel**2 if count_padding else len(inside))
    return result


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "before", "after"), [(2, 1, 1, 0, 1), (3, 2, 2, 2, 1), (2, 1, 4, 0, 4)]
)
def test_windows_with_a_rate(
    kernel: int, stride: int, dilation: int, before: int, after: int, count_padding: bool
) -> None:
    image = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pool = AtrousAvgPool2d(kernel, stride, count_include_pad=count_padding)
    pool.dilation = dilation
    pool.margins = (before, after, before, after)
    expected = mean_of_windows(image, kernel, stride, dilation, before, after, count_padding)
    torch.testing.assert_close(pool(image[None])[0], expected)


def test_without_a_rate_it_is_the_ordinary_pooling() -> None:
    image = torch.randn(1, 3, 11, 8, generator=torch.Generator().manual_seed(0))
    for settings in ({"ceil_mode": True, "count_include_pad": False}, {"padding": 1, "stride": 1}, {"stride": 3}):
        ordinary = nn.AvgPool2d(3, **settings)
        assert torch.equal(AtrousAvgPool2d.like(ordinary)(image), ordinary(image))
