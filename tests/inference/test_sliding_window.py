"""Windows against a loop that adds up whole maps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.inference import MultiScale, SlidingWindow, WholeImage
from atrous.models import Segmentor


def weights_of(side: int, blend: str) -> Tensor:
    if blend == "flat":
        return torch.ones(side)
    return torch.tensor([np.exp(-((pixel - (side - 1) / 2) ** 2) / (2 * (side / 8) ** 2)) for pixel in range(side)])


def starts(side: int, window: int, stride: int) -> list[int]:
    """Every stride, as long as a window fits, and the one that ends on the border."""
    found = [start for start in range(0, side, stride) if start + window < side]
    return [*found, side - window]


@torch.no_grad()
@pytest.mark.parametrize("blend", ["flat", "gaussian"])
@pytest.mark.parametrize(
    ("shape", "window", "stride"),
    [((60, 83), (33, 33), (22, 22)), ((49, 49), (33, 17), (20, 17)), ((30, 70), (65, 33), (40, 32)), ((33, 33), 33, 5)],
)
@pytest.mark.parametrize("at_once", [1, 3])
def test_equals_a_loop_over_windows(
    network: Segmentor, pictures: Callable[..., Tensor], shape: Any, window: Any, stride: Any, blend: Any, at_once: int
) -> None:
    images = pictures(*shape)
    method = SlidingWindow(size=window, stride=stride, blend=blend, windows_at_once=at_once)
    height, width = (min(pair) for pair in zip(shape, method.size, strict=True))
    total, count = torch.zeros(2, 4, *shape), torch.zeros(shape)
    weights = torch.outer(weights_of(height, blend), weights_of(width, blend)).float()
    for top in starts(shape[0], height, method.stride[0]):
        for left in starts(shape[1], width, method.stride[1]):
            place = (..., slice(top, top + height), slice(left, left + width))
            total[place] += network(images[place]).softmax(dim=1) * weights
            count[place] += weights
    torch.testing.assert_close(method(network, images), total / count, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_window_as_large_as_the_image_is_the_whole_image(network: Segmentor, pictures: Callable[..., Tensor]) -> None:
    images = pictures(40, 61)
    blends: tuple[Any, ...] = ("flat", "gaussian")
    for blend in blends:
        whole = SlidingWindow(size=[64, 61], blend=blend)(network, images)
        torch.testing.assert_close(whole, WholeImage()(network, images))
    assert (SlidingWindow(size=33)(network, images) - WholeImage()(network, images)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("stride", [33, 20])
def test_windows_of_scales(network: Segmentor, pictures: Callable[..., Tensor], stride: int, oracle: Any) -> None:
    """Every pixel of the image takes its probabilities from the windows of the resized image in which it lies."""
    (image,) = images = pictures(45, 60, batch=1)
    scale, window = 1.5, 33
    size = tuple(int((side - 1) * scale + 1) for side in (45, 60))
    view = oracle.resized(image.double().numpy(), *size)
    down, across = (np.linspace(0, new - 1, old) for old, new in zip((45, 60), size, strict=True))
    total, count = np.zeros((4, 45, 60)), np.zeros((45, 60))
    for top in starts(size[0], window, stride):
        for left in starts(size[1], window, stride):
            scores = oracle.scores_of(network, view[:, top : top + window, left : left + window])
            rows = np.flatnonzero((down >= top - 0.5) & (down < top + window - 0.5))
            columns = np.flatnonzero((across >= left - 0.5) & (across < left + window - 0.5))
            places = [(down[rows] - top) / 16, (across[columns] - left) / 16]
            total[:, rows[:, None], columns] += oracle.softmax(oracle.sampled(scores, *places))
            count[rows[:, None], columns] += 1
    assert count.min() >= 1
    method = MultiScale(scales=[scale], inner=SlidingWindow(size=window, stride=stride))
    np.testing.assert_allclose(method(network, images)[0].numpy(), total / count, atol=1e-5)


@torch.no_grad()
def test_windows_of_several_scales_and_mirror_images_are_averaged(
    network: Segmentor, pictures: Callable[..., Tensor]
) -> None:
    images, window = pictures(45, 60), SlidingWindow(size=33, blend="gaussian")
    found = MultiScale(scales=[0.75, 1.5], flip=True, inner=window)(network, images)
    parts = [
        MultiScale(scales=[scale], inner=window)(network, images.flip(-1) if mirrored else images).flip([-1] * mirrored)
        for scale in (0.75, 1.5)
        for mirrored in (False, True)
    ]
    torch.testing.assert_close(found, torch.stack(parts).mean(dim=0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_every_window_is_computed_once(network: Segmentor, pictures: Callable[..., Tensor], monkeypatch: Any) -> None:
    """Whatever the number of bands that read it."""
    monkeypatch.setattr("atrous.inference.bands._PART", {"cpu": 1})
    seen: list[int] = []
    handle = network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    bands = list(SlidingWindow(size=33, stride=16, windows_at_once=2).bands(network, pictures(97, 65)))
    handle.remove()
    assert len(bands) == 13
    assert sum(seen) == 2 * 5 * 3
    assert max(seen) == 2 * 2


@torch.no_grad()
def test_windows_above_are_let_go(network: Segmentor, pictures: Callable[..., Tensor], monkeypatch: Any) -> None:
    """The first rows are given before the last windows are looked at, and nobody keeps windows that lie above."""
    monkeypatch.setattr("atrous.inference.bands._PART", {"cpu": 1})
    seen: list[int] = []
    handle = network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(1))
    bands = SlidingWindow(size=33, stride=32, windows_at_once=1).bands(network, pictures(161, 33))
    next(bands)
    assert len(seen) == 1
    maps: list[weakref.ref[Any]] = []
    made = type(network).logit_map

    def watched(segmentor: Any, image: Tensor) -> Any:
        logits = made(segmentor, image)
        maps.append(weakref.ref(logits._scores))
        return logits

    monkeypatch.setattr(type(network), "logit_map", watched)
    for _ in bands:
        assert sum(each() is not None for each in maps) <= 2
    assert len(seen) == 5
    assert len(maps) == 4
    handle.remove()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "window size=0 must be one or two positive numbers"),
        ({"size": 33, "stride": 34}, "leave gaps at a stride of 34×34"),
        ({"size": [65, 33], "stride": [60, 40]}, "leave gaps"),
        ({"blend": "round"}, "inference.blend=round is unknown"),
        ({"windows_at_once": 0}, "windows_at_once"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        SlidingWindow(**options)


def test_a_score_says_so() -> None:
    from atrous.metrics import Protocol

    protocol = Protocol("cityscapes", "val", 16, **SlidingWindow(size=[512, 1024], blend="gaussian").protocol)
    assert "window 512×1024 · every 341×682 px · gaussian weights" in str(protocol)
    assert Protocol.from_dict(protocol.to_dict()) == protocol
