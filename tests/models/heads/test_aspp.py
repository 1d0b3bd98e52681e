"""Atrous spatial pyramid pooling against a statement of it without atrous convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import FeatureMaps, FeatureSpec
from atrous.models.heads import ASPP, ImagePooling
from atrous.models.heads.convolution import conv_block, separable_conv_block

Oracle = dict[str, Callable[..., Tensor]]
Randomize = Callable[[nn.Module], nn.Module]


def feature(batch: int = 2, channels: int = 12, height: int = 9, width: int = 13) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)


def on(channels: int, output_stride: int = 16) -> FeatureMaps:
    return FeatureMaps((FeatureSpec(channels, output_stride, "last"),), Grid.POINTS, output_stride)


def pyramid(*, separable: bool = False, **options: Any) -> ASPP:
    torch.manual_seed(1)
    block = separable_conv_block if separable else conv_block
    return ASPP(on(12), 6, **{"rates": (2, 3, 5), "block": block, **options})


def expected(aspp: ASPP, image: Tensor, rates: tuple[int, ...], oracle: Oracle) -> Tensor:
    """Image pooling, 1×1, one branch a rate; concatenated and projected."""
    block = oracle["block"]
    branches = []
    if aspp.pooling is not None:
        spread = torch.ones(1, 1, *image.shape[-2:], dtype=image.dtype)
        branches.append(block(image.flatten(2).mean(2)[..., None, None], aspp.pooling.block) * spread)
    branches.append(block(image, aspp.pointwise))
    branches += [block(image, branch, rate) for branch, rate in zip(aspp.atrous, rates, strict=True)]
    return block(torch.cat(branches, 1), aspp.projection)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("image_pooling", ["global", None])
def test_branches_and_projection(
    separable: bool, image_pooling: str | None, oracle: Oracle, randomize: Randomize
) -> None:
    aspp = pyramid(separable=separable, image_pooling=image_pooling)
    randomize(aspp)
    image = feature()
    torch.testing.assert_close(aspp(image), expected(aspp, image, (2, 3, 5), oracle))


@pytest.mark.parametrize("separable", [False, True])
def test_rates_follow_the_output_stride(separable: bool, oracle: Oracle, randomize: Randomize) -> None:
    """(6, 12, 18) at 16, doubled at 8 (v3 §3.3), here with smaller rates on a small map."""
    aspp = pyramid(separable=separable, rates=(2, 4))
    randomize(aspp)
    image = feature()
    for output_stride, rates in ((8, (4, 8)), (32, (1, 2)), (16, (2, 4))):
        aspp.set_output_stride(output_stride)
        torch.testing.assert_close(aspp(image), expected(aspp, image, rates, oracle))


def test_default_rates_are_the_papers() -> None:
    def rates(aspp: ASPP) -> list[tuple[int, int]]:
        return [branch[0].dilation for branch in aspp.atrous]

    aspp = ASPP(on(4, 8), 4)
    assert rates(aspp) == [(12, 12), (24, 24), (36, 36)]
    aspp.set_output_stride(16)
    assert rates(aspp) == [(6, 6), (12, 12), (18, 18)]


def test_crop_sized_pooling_slides_the_crop_over_the_map(oracle: Oracle, randomize: Randomize) -> None:
    """A crop of 65×49 pixels has 5×4 features at output stride 16, and 9×7 at 8."""
    pooling = ImagePooling(12, 6, output_stride=16, grid=Grid.POINTS, window=(65, 49))
    randomize(pooling)
    image = feature(height=9, width=13)
    for output_stride, (rows, columns) in ((16, (5, 4)), (8, (9, 7))):
        pooling.output_stride = output_stride
        means = torch.zeros(2, 12, 9 - rows + 1, 13 - columns + 1, dtype=torch.float64)
        for i in range(means.shape[2]):
            for j in range(means.shape[3]):
                means[:, :, i, j] = image[:, :, i : i + rows, j : j + columns].mean(dim=(2, 3))
        wanted = oracle["enlarged"](oracle["block"](means, pooling.block), (9, 13))
        torch.testing.assert_close(pooling(image), wanted)


def test_a_map_no_larger_than_the_crop_is_pooled_globally(randomize: Randomize) -> None:
    crop = ImagePooling(12, 6, output_stride=16, grid=Grid.POINTS, window=513)
    whole = ImagePooling(12, 6, output_stride=16, grid=Grid.POINTS)
    whole.load_state_dict(crop.state_dict())
    randomize(crop)
    randomize(whole)
    torch.testing.assert_close(crop(feature()), whole(feature()))


def test_one_image_is_pooled_in_evaluation_and_refused_in_training() -> None:
    aspp = pyramid().double()
    assert aspp.eval()(feature(batch=1)).shape == (1, 6, 9, 13)
    with pytest.raises(AtrousError, match=r"batch of one image while its batch norm trains: use a batch size of two"):
        aspp.train()(feature(batch=1))
    assert aspp(feature(batch=2)).shape == (2, 6, 9, 13)


def test_one_image_trains_without_image_pooling_or_with_frozen_batch_norm() -> None:
    assert pyramid(image_pooling=None).double().train()(feature(batch=1)).shape == (1, 6, 9, 13)
    aspp = pyramid().double().train()
    assert aspp.pooling is not None
    aspp.pooling.block[1].eval()
    assert aspp(feature(batch=1)).shape == (1, 6, 9, 13)


def test_one_image_trains_where_the_crop_pools_to_several_places() -> None:
    assert pyramid(image_pooling=65).double().train()(feature(batch=1)).shape == (1, 6, 9, 13)


def test_input_is_left_unchanged() -> None:
    aspp = pyramid(separable=True).double().train()
    image = feature()
    before = image.clone()
    aspp(image)
    assert torch.equal(image, before)


def test_dropout_acts_on_the_projection_in_training_only() -> None:
    aspp = pyramid(dropout=0.5).double()
    image = feature()
    torch.manual_seed(0)
    zeros = (aspp.train()(image) == 0).double().mean()
    aspp.projection[-1].p = 0.0
    without = (aspp(image) == 0).double().mean()
    assert zeros - without > 0.15
    aspp.projection[-1].p = 0.5
    assert torch.equal(aspp.eval()(image), aspp(image))
