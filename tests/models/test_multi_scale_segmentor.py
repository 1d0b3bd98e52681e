"""Multi-scale input: one network at several scales, fused by the maximum."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import VGG16, TimmBackbone
from atrous.models.heads import FCNHead
from atrous.models.heads.aspp_sum import ASPPSumHead
from atrous.models.multi_scale_segmentor import MultiScaleSegmentor
from atrous.models.segmentor import Segmentor
from atrous.models.upsamplers import SubPixel

HEAD = partial(ASPPSumHead, rates=(2, 4))


def built(kind: type[Segmentor] = MultiScaleSegmentor, *, name: str = "vgg16", **options: Any) -> Segmentor:
    torch.manual_seed(0)
    backbone = VGG16(channels=(3, 4, 5, 6, 7)) if name == "vgg16" else TimmBackbone(name, output_stride=8)
    network = kind(backbone=backbone, head=HEAD, num_classes=3, **options).eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.uniform_(-0.5, 0.5)
    return network


def picture(height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("name", "extra"), [("vgg16", 1), ("test_convnext", 0)])
@pytest.mark.parametrize(("height", "width"), [(65, 97), (50, 83), (9, 64)])
def test_the_largest_score_of_all_scales_wins(name: str, extra: int, height: int, width: int) -> None:
    """The loop over scales written out, from the image to the logits; place by place, class by class."""
    network = built(name=name)
    image = picture(height, width)
    rows, columns = (-(-(pixels - extra) // 32) * 32 for pixels in (height, width))
    with torch.no_grad():
        normalized = (image.float() - network.mean) / network.std
        extended = torch.zeros(2, 3, rows + extra, columns + extra)
        extended[..., :height, :width] = normalized
        align = extra == 1
        maps = []
        for quarters in (4, 3, 2):
            size = (rows * quarters // 4 + extra, columns * quarters // 4 + extra)
            scaled = nn.functional.interpolate(extended, size=size, mode="bilinear", align_corners=align)
            scores = network.head(network.backbone(scaled))
            assert scores.shape[-2:] == (rows * quarters // 32 + extra, columns * quarters // 32 + extra)
            maps.append(scores)
        first = maps[0]
        larger = [
            nn.functional.interpolate(m, size=first.shape[-2:], mode="bilinear", align_corners=align) for m in maps
        ]
        fused = torch.empty_like(first)
        for place in torch.cartesian_prod(*map(torch.arange, first.shape)):
            at = tuple(place.tolist())
            fused[at] = max(float(each[at]) for each in larger)
        assert not any(torch.allclose(fused, each) for each in larger)
        outputs = network(image, outputs="scores")
        assert isinstance(outputs, dict)
        torch.testing.assert_close(outputs["main"], fused)
        torch.testing.assert_close(outputs["scale_1"], maps[0])
        torch.testing.assert_close(outputs["scale_0.75"], larger[1])
        torch.testing.assert_close(outputs["scale_0.5"], maps[2])
        logits = network(image)
        wanted = nn.functional.interpolate(fused, size=extended.shape[-2:], mode="bilinear", align_corners=align)
        torch.testing.assert_close(logits, wanted[..., :height, :width])


def test_every_output_has_a_loss_of_equal_weight() -> None:
    """v2: the fused scores and those of each scale."""
    network = built()
    assert network.loss_weights == {"main": 1.0, "scale_1": 1.0, "scale_0.75": 1.0, "scale_0.5": 1.0}
    outputs = network(picture(40, 61), outputs="all")
    assert isinstance(outputs, dict)
    assert set(outputs) == set(network.loss_weights)
    assert all(logits.shape == (2, 3, 40, 61) for logits in outputs.values())


@pytest.mark.parametrize("scales", [None, [1.0], (1,)])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_single_scale_is_a_plain_segmentor(scales: Any, auxiliary: bool) -> None:
    options: dict[str, Any] = {"auxiliary": partial(FCNHead, channels=4)} if auxiliary else {}
    network, plain = built(scales=scales, **options), built(Segmentor, **options)
    image = picture(40, 61)
    assert network.loss_weights == plain.loss_weights
    assert network.extension == plain.extension == 8
    with torch.no_grad():
        assert torch.equal(network(image), plain(image))
        for outputs in ("all", "scores"):
            ours, theirs = network(image, outputs=outputs), plain(image, outputs=outputs)
            assert ours.keys() == theirs.keys() == network.loss_weights.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_auxiliary_head_sees_the_first_scale() -> None:
    options: dict[str, Any] = {"auxiliary": partial(FCNHead, channels=4), "auxiliary_weight": 0.3}
    network, plain = built(**options), built(Segmentor, **options)
    image = picture(65, 97)
    with torch.no_grad():
        outputs, expected = network(image, outputs="scores"), plain(image, outputs="scores")
    assert network.loss_weights["auxiliary"] == 0.3
    torch.testing.assert_close(outputs["auxiliary"], expected["auxiliary"])
    assert set(outputs) == set(network.loss_weights)


@pytest.mark.parametrize(("scales", "multiple"), [((1, 0.75, 0.5), 32), ((1, 0.5), 16), ((1, 0.8), 40), (None, 8)])
def test_features_of_every_scale_end_on_the_border(scales: Any, multiple: int) -> None:
    network = built(scales=scales)
    assert network.extension == multiple
    prepared = network.preprocess(picture(50, 2 * multiple + 1))
    assert prepared.shape[-2:] == (-(-49 // multiple) * multiple + 1, 2 * multiple + 1)


def test_output_stride_of_every_scale() -> None:
    network = built()
    network.set_output_stride(16)
    outputs = network(picture(65, 129), outputs="scores")
    assert isinstance(outputs, dict)
    sizes = {name: tuple(scores.shape[-2:]) for name, scores in outputs.items()}
    assert sizes == {"main": (5, 9), "scale_1": (5, 9), "scale_0.75": (5, 9), "scale_0.5": (3, 5)}


def test_every_parameter_gets_a_gradient() -> None:
    network = built().train()
    outputs = network(picture(65, 65), outputs="scores")
    assert isinstance(outputs, dict)
    sum(scores.square().sum() for scores in outputs.values()).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_the_state_dict_is_the_plain_networks() -> None:
    assert built().state_dict().keys() == built(Segmentor).state_dict().keys()


@pytest.mark.parametrize("scales", [[], [0.5], [1, 1.5], [1, 0], [1, -0.5], [0.5, 1], [1, 0.5, 0.5], [1, 0.001]])
def test_impossible_scales(scales: list[float]) -> None:
    with pytest.raises(AtrousError, match=r"model\.scales=\[.*\] must begin with 1, followed by different values"):
        built(scales=scales)


def test_codes_have_no_maximum() -> None:
    with pytest.raises(AtrousError, match=r"but a SubPixel takes 192 channels for 3 classes: set upsampler=bilinear"):
        built(upsampler=partial(SubPixel, ratio=8))
    assert built(upsampler=partial(SubPixel, ratio=8), scales=None)(picture(20, 30)).shape == (2, 3, 20, 30)


def test_resize_is_what_the_scales_use() -> None:
    """Half the scale on a grid of points: every second pixel of a map that is linear in its place."""
    ramp = torch.arange(17.0).view(1, 1, 1, 17).expand(1, 1, 17, 17)
    torch.testing.assert_close(Grid.POINTS.resize(ramp, (9, 9)), ramp[..., ::2, ::2])
