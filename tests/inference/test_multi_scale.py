"""Several scales and mirror images against a loop over single images with SciPy's interpolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.errors import AtrousError
from atrous.inference import MultiScale, Padded, SlidingWindow, Stretched, WholeImage
from atrous.models import MultiScaleSegmentor, Segmentor
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import ASPPSumHead
from atrous.models.upsamplers import Deconvolution, SubPixel

Floats = NDArray[np.float64]

SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def logits_of_views(oracle: Any, network: Segmentor, image: Tensor, scales: list[float], *, flip: bool) -> list[Floats]:
    """Logits C×H×W of one image at its own size, for every scale, and mirrored."""
    height, width = image.shape[-2:]
    views = []
    for scale in scales:
        size = int((height - 1) * scale + 1), int((width - 1) * scale + 1)
        for mirrored in [False, True][: 1 + flip]:
            view = oracle.resized(image.double().numpy()[:, :, :: -1 if mirrored else 1], *size)
            places = [np.linspace(0, new - 1, old) / 16 for old, new in zip((height, width), size, strict=True)]
            logits = oracle.sampled(oracle.scores_of(network, view), *places)
            views.append(logits[:, :, ::-1] if mirrored else logits)
    return views


@torch.no_grad()
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(49, 65), (75, 50)])
def test_the_mean_of_probabilities(
    network: Segmentor, pictures: Callable[..., Tensor], shape: tuple[int, int], flip: bool, oracle: Any
) -> None:
    images = pictures(*shape)
    ours = MultiScale(scales=SCALES, flip=flip)(network, images)
    for image, found in zip(images, ours, strict=True):
        wanted = np.mean(
            [oracle.softmax(logits) for logits in logits_of_views(oracle, network, image, SCALES, flip=flip)], axis=0
        )
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
    assert (ours - WholeImage()(network, images)).abs().max() > 1e-3


@torch.no_grad()
def test_the_largest_logit(network: Segmentor, pictures: Callable[..., Tensor], oracle: Any) -> None:
    (image,) = images = pictures(49, 60, batch=1)
    scales = [0.5, 0.75, 1.0]
    for flip in (False, True):
        (found,) = MultiScale(scales=scales, fusion="max", flip=flip)(network, images)
        wanted = oracle.softmax(np.max(logits_of_views(oracle, network, image, scales, flip=flip), axis=0))
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@torch.no_grad()
def test_probabilities_are_those_of_a_batch_of_one(network: Segmentor, pictures: Callable[..., Tensor]) -> None:
    images = pictures(41, 57, batch=3)
    method = MultiScale(scales=[0.75, 1.0], flip=True)
    together = method(network, images)
    for index in range(3):
        torch.testing.assert_close(method(network, images[index : index + 1])[0], together[index], atol=1e-5, rtol=0)


@torch.no_grad()
def test_scale_one_is_the_whole_image(network: Segmentor, pictures: Callable[..., Tensor]) -> None:
    images = pictures(50, 61)
    torch.testing.assert_close(MultiScale(scales=[1.0])(network, images), WholeImage()(network, images))


@torch.no_grad()
def test_the_mirror_image_of_an_image_has_the_mirrored_result(
    network: Segmentor, pictures: Callable[..., Tensor]
) -> None:
    images = pictures(49, 65)  # needs no extension, which would be on another side of the mirror image
    method = MultiScale(scales=[1.0], flip=True)
    torch.testing.assert_close(method(network, images.flip(-1)).flip(-1), method(network, images), atol=1e-5, rtol=0)


@torch.no_grad()
def test_scales_of_one_size_are_computed_once_and_counted_twice(
    network: Segmentor, pictures: Callable[..., Tensor]
) -> None:
    images = pictures(33, 33)
    batches: list[Any] = []
    handle = network.backbone.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].shape))
    repeated = MultiScale(scales=[1.0, 1.01, 0.5], flip=True)(network, images)
    handle.remove()
    assert [tuple(shape) for shape in batches] == [(4, 3, 33, 33), (4, 3, 17, 17)]
    wanted = [MultiScale(scales=[scale], flip=True)(network, images) for scale in (1.0, 0.5)]
    torch.testing.assert_close(repeated, (2 * wanted[0] + wanted[1]) / 3)


@torch.no_grad()
@pytest.mark.parametrize("upsampler", [Deconvolution, SubPixel])
def test_learned_upsamplers_are_enlarged_at_every_scale_before_they_are_resized(
    upsampler: Any, pictures: Callable[..., Tensor], oracle: Any
) -> None:
    torch.manual_seed(0)
    network = Segmentor(
        backbone=TimmBackbone("test_resnet"),
        head=ASPPSumHead,
        num_classes=3,
        upsampler=lambda **parts: upsampler(ratio=16, **parts),
    ).eval()
    (image,) = images = pictures(43, 57, batch=1)
    height, width = 43, 57
    wanted = []
    for scale in (0.75, 1.0, 1.5):
        size = int((height - 1) * scale + 1), int((width - 1) * scale + 1)
        view = torch.from_numpy(oracle.resized(image.double().numpy(), *size))[None].float()
        wanted.append(oracle.softmax(oracle.resized(network(view)[0].double().numpy(), height, width)))
    (found,) = MultiScale(scales=[0.75, 1.0, 1.5])(network, images)
    np.testing.assert_allclose(found.numpy(), np.mean(wanted, axis=0), atol=1e-5)


@torch.no_grad()
def test_scales_of_padded_and_of_stretched_images(network: Segmentor, pictures: Callable[..., Tensor]) -> None:
    """The authors' code pads first and scales then; stretching back comes last."""
    images = pictures(40, 57)
    method = MultiScale(scales=[0.5, 1.0], flip=True)
    canvas = network.mean.repeat(2, 1, 65, 65)
    canvas[..., :40, :57] = images
    torch.testing.assert_close(Padded(size=65, inner=method)(network, images), method(network, canvas)[..., :40, :57])
    stretched = Stretched(size=[40, 57], inner=method)
    torch.testing.assert_close(stretched(network, images), method(network, images))


def test_stages_find_their_place_in_any_order() -> None:
    scales, window = MultiScale(scales=[0.5, 1.0], flip=True), SlidingWindow(size=33)
    for base in (Padded(size=65), Stretched(size=65), WholeImage()):
        one, other = scales.wrap(window.wrap(base)), window.wrap(scales.wrap(base))
        assert one.protocol == other.protocol
        assert one.protocol == {**base.protocol, **window.protocol, **scales.protocol}
        assert type(one) is (MultiScale if isinstance(base, WholeImage) else type(base))
    assert isinstance(scales.inner, WholeImage)  # nothing was changed


def test_a_stage_that_is_there_already_is_refused() -> None:
    with pytest.raises(AtrousError, match="multi-scale testing is asked for twice"):
        MultiScale(flip=True).wrap(Padded(size=65, inner=MultiScale(scales=[0.5])))
    with pytest.raises(AtrousError, match="a sliding window is asked for twice"):
        SlidingWindow(size=33).wrap(MultiScale(inner=SlidingWindow(size=65)))


def test_a_network_that_fuses_scales_itself_takes_mirror_images_alone(pictures: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"backbone": TimmBackbone("test_resnet"), "head": ASPPSumHead, "num_classes": 3}
    network = MultiScaleSegmentor(**parts).eval()
    images = pictures(40, 50)
    with torch.no_grad():
        MultiScale(flip=True)(network, images)
        with pytest.raises(AtrousError, match=r"looks at scales \[1\.0, 0\.75, 0\.5\] by itself"):
            MultiScale(scales=[0.5, 1.0])(network, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": []}, "must be factors above 0"),
        ({"scales": [0.5, 0]}, "must be factors above 0"),
        ({"fusion": "sum"}, "inference.fusion=sum is unknown"),
        ({"inner": Padded(size=65)}, "put it around instead of inside"),
        ({"fusion": "max", "inner": SlidingWindow(size=65)}, "set inference.fusion=mean"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        MultiScale(**options)
