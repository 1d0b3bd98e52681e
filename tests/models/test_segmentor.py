"""The network that users hold: sizes, alignment, normalization."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.crf import Bilateral, DenseCRF
from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.inference import Refined, WholeImage
from atrous.losses import CrossEntropy
from atrous.models.backbones import Backbone, FeatureMaps, FeatureSpec, TimmBackbone
from atrous.models.heads import DeepLabV3Head, DeepLabV3PlusHead, FCNHead
from atrous.models.heads.head import Head
from atrous.models.segmentor import Segmentor
from atrous.models.upsamplers import Bilinear, Deconvolution, DUpsampling, SubPixel
from atrous.models.upsamplers.upsampler import Upsampler
from atrous.training.full_size_loss import full_size_losses
from atrous.training.parameter_groups import parameter_groups


def small_segmentor(name: str = "test_resnet", *, output_stride: int = 16, **options: Any) -> Segmentor:
    torch.manual_seed(0)
    head = partial(DeepLabV3PlusHead, aspp_channels=8, low_level_channels=4, decoder_channels=8)
    backbone = TimmBackbone(name, output_stride=output_stride)
    return Segmentor(backbone=backbone, head=head, num_classes=3, **options).eval()


@pytest.fixture(params=["test_resnet", "test_convnext"], ids=["points", "cells"])
def segmentor(request: pytest.FixtureRequest) -> Iterator[Segmentor]:
    built = small_segmentor(request.param)
    with torch.no_grad():
        yield built


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


SIZES = [(97, 129), (96, 128), (90, 121), (33, 17), (16, 16), (5, 40), (1, 1), (2, 3)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_logits_have_the_image_size(segmentor: Segmentor, height: int, width: int) -> None:
    logits = segmentor(picture(height, width, batch=2))
    assert logits.shape == (2, 3, height, width)
    assert bool(torch.isfinite(logits).all())


def test_uint8_and_float_images_mean_the_same(segmentor: Segmentor) -> None:
    image = picture(40, 61)
    assert torch.equal(segmentor(image), segmentor(image.float()))


def test_images_of_a_batch_do_not_see_each_other(segmentor: Segmentor) -> None:
    batch = picture(40, 61, batch=3)
    together = segmentor(batch)
    for i in range(3):
        torch.testing.assert_close(segmentor(batch[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def mean_color(segmentor: Segmentor, height: int, width: int) -> Tensor:
    return (255 * torch.tensor(segmentor.backbone.mean)).view(1, 3, 1, 1).repeat(1, 1, height, width)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (82, 113), (97, 115), (85, 129)])
def test_logits_do_not_depend_on_the_parity_of_the_size(height: int, width: int) -> None:
    """Every size between two multiples of the stride is extended to the same grid, by the mean color."""
    segmentor = small_segmentor()
    image = picture(height, width).float()
    enlarged = mean_color(segmentor, 97, 129)
    enlarged[..., :height, :width] = image
    with torch.no_grad():
        torch.testing.assert_close(segmentor(image), segmentor(enlarged)[..., :height, :width])


@pytest.mark.parametrize(("name", "extended"), [("test_resnet", (97, 129)), ("test_convnext", (96, 128))])
def test_images_are_extended_to_the_grid_of_the_backbone(name: str, extended: tuple[int, int]) -> None:
    segmentor = small_segmentor(name)
    prepared = segmentor.preprocess(picture(90, 120))
    assert prepared.shape[-2:] == extended
    assert torch.count_nonzero(prepared[..., 90:, :]) == 0
    assert torch.count_nonzero(prepared[..., 120:]) == 0
    assert segmentor.preprocess(picture(*extended)).shape[-2:] == extended


def test_the_papers_crops_need_no_extension() -> None:
    for output_stride in (8, 16, 32):
        segmentor = small_segmentor(output_stride=output_stride)
        for size in (321, 513, 769):
            assert segmentor.preprocess(picture(size, size)).shape[-1] == size


class _Samples(Backbone):
    """Every sixteenth pixel, or the mean of every cell of sixteen, as the one feature map."""

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    features = (FeatureSpec(3, 16, "samples"),)
    output_stride = native_stride = 16

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def set_output_stride(self, output_stride: int) -> None: ...

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[..., ::16, ::16] if self.grid is Grid.POINTS else F.avg_pool2d(image, 16)]


class _FirstChannel(Head):
    """The feature itself as the score of one class."""

    def __init__(self, maps: FeatureMaps, num_classes: int) -> None:
        super().__init__()
        self.stride = maps.output_stride

    def set_output_stride(self, output_stride: int) -> None: ...

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1][:, :1]


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("size", [(97, 129), (96, 128), (90, 120), (83, 101)])
@pytest.mark.parametrize(("row", "column"), [(32, 48), (64, 16), (0, 80)])
def test_scores_come_out_where_the_image_has_its_object(
    grid: Grid, size: tuple[int, int], row: int, column: int
) -> None:
    """Bilinear weights to the nearest sample (or cell) of the image, whatever its size."""
    segmentor = Segmentor(backbone=_Samples(grid), head=_FirstChannel, num_classes=1)
    image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    extent = 1 if grid is Grid.POINTS else 16
    image[..., row : row + extent, column : column + extent] = 255
    scores = segmentor(image)[0, 0]
    middle = 0 if grid is Grid.POINTS else 7.5
    down = (1 - (torch.arange(size[0]) - row - middle).abs() / 16).clamp(min=0)
    across = (1 - (torch.arange(size[1]) - column - middle).abs() / 16).clamp(min=0)
    if grid is Grid.CELLS and row == 0:
        down[:8] = 1  # nothing lies beyond the outermost middle
    torch.testing.assert_close(scores, down[:, None] * across, rtol=0, atol=1e-5)


def test_normalization_is_the_backbones() -> None:
    for name in ("resnet18", "tf_efficientnet_lite0"):
        backbone = TimmBackbone(name)
        segmentor = Segmentor(backbone=backbone, head=_FirstChannel, num_classes=1)
        prepared = segmentor.preprocess(picture(17, 33))
        for channel in range(3):
            expected = (picture(17, 33)[:, channel].double() / 255 - backbone.mean[channel]) / backbone.std[channel]
            torch.testing.assert_close(prepared[:, channel].double(), expected, rtol=1e-5, atol=1e-6)


def test_output_stride_of_the_whole_network() -> None:
    segmentor = small_segmentor(output_stride=16)
    image = picture(97, 129)
    with torch.no_grad():
        at_16 = segmentor(image)
        segmentor.set_output_stride(8)
        assert segmentor.output_stride == 8
        assert segmentor.backbone.output_stride == 8
        assert [branch[0].dilation[0] for branch in segmentor.head.aspp.atrous] == [12, 24, 36]
        at_8 = segmentor(image)
        assert at_8.shape == at_16.shape
        assert not torch.equal(at_8, at_16)
        segmentor.set_output_stride(16)
        assert torch.equal(segmentor(image), at_16)


def test_an_impossible_output_stride_leaves_the_network_whole() -> None:
    segmentor = small_segmentor("resnetblur18", output_stride=32)
    image = picture(65, 65)
    with torch.no_grad():
        before = segmentor(image)
        with pytest.raises(AtrousError, match="output stride 16 is impossible"):
            segmentor.set_output_stride(16)
        assert segmentor.output_stride == 32
        assert torch.equal(segmentor(image), before)


def test_preprocessing_is_plain_data() -> None:
    described = small_segmentor("resnet18").preprocessing()
    assert json.loads(json.dumps(described)) == described
    assert described["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert described["std"] == pytest.approx([58.395, 57.12, 57.375])
    assert "plus 1" in str(described["extension"])
    assert "plus 1" not in str(small_segmentor("test_convnext").preprocessing()["extension"])


def test_batch_norm_momentum_reaches_every_batch_norm() -> None:
    def momenta(segmentor: Segmentor) -> set[float | None]:
        norms = [m for m in segmentor.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        assert len(norms) > 10
        return {norm.momentum for norm in norms}

    assert momenta(small_segmentor(batch_norm_momentum=0.0003)) == {0.0003}
    assert momenta(small_segmentor()) == {0.1}


def test_state_dict_holds_weights_only() -> None:
    """Mean and deviation belong to the backbone's recipe, not to its weights."""
    assert {name.split(".")[0] for name in small_segmentor().state_dict()} == {"backbone", "head"}


def test_half_precision_network_takes_uint8() -> None:
    logits = small_segmentor().to(torch.bfloat16)(picture(33, 33))
    assert logits.dtype == torch.float32  # enlarged in it
    assert bool(torch.isfinite(logits).all())


def test_training_sees_the_auxiliary_output_and_use_does_not() -> None:
    segmentor = small_segmentor(auxiliary=partial(FCNHead, channels=4), auxiliary_weight=0.3)
    image = picture(40, 61)
    with torch.no_grad():
        outputs = segmentor(image, outputs="all")
        assert {name: tuple(logits.shape) for name, logits in outputs.items()} == {
            "main": (1, 3, 40, 61),
            "auxiliary": (1, 3, 40, 61),
        }
        assert torch.equal(outputs["main"], segmentor(image))
        scores = segmentor(image, outputs="scores")
    assert scores["main"].shape[-2:] == (13, 17)
    assert scores["auxiliary"].shape[-2:] == (49 // 16 + 1, 65 // 16 + 1)
    assert segmentor.loss_weights == {"main": 1.0, "auxiliary": 0.3}


def test_upsamplers_decide_what_the_head_gives() -> None:
    segmentor = small_segmentor(upsampler=partial(SubPixel, ratio=4))
    with torch.no_grad():
        assert segmentor(picture(40, 61)).shape == (1, 3, 40, 61)
    assert segmentor.head.classifier.out_channels == 3 * 16
    with pytest.raises(AtrousError, match=r"scores of a SubPixel are no class scores.*set task.loss_resolution=labels"):
        segmentor(picture(40, 61), outputs="scores")


def test_an_upsampler_of_another_ratio_is_refused() -> None:
    with pytest.raises(AtrousError, match=r"upsampler.ratio=16 does not fit.*stride 4: set upsampler.ratio=4"):
        small_segmentor(upsampler=partial(Deconvolution, ratio=16))


def test_an_upsampler_with_weights_keeps_the_output_stride() -> None:
    segmentor = Segmentor(
        backbone=TimmBackbone("test_resnet", output_stride=16),
        head=partial(DeepLabV3Head, aspp_channels=8),
        num_classes=3,
        upsampler=partial(Deconvolution, ratio=16),
    ).eval()
    with pytest.raises(AtrousError, match="was trained to enlarge scores 16 times; keep output stride 16"):
        segmentor.set_output_stride(8)
    assert segmentor.output_stride == 16
    with torch.no_grad():
        assert segmentor(picture(33, 50)).shape == (1, 3, 33, 50)


def test_batch_norm_epsilon_reaches_every_batch_norm() -> None:
    norms = [m for m in small_segmentor(batch_norm_eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


@pytest.mark.parametrize(
    "upsampler",
    [Bilinear, partial(Deconvolution, ratio=4), partial(DUpsampling, ratio=4, weights="random")],
    ids=["bilinear", "deconvolution", "dupsampling"],
)
def test_logits_are_computed_in_float32_under_autocast(upsampler: Callable[..., Upsampler]) -> None:
    """Scores are rounded to bf16, what is made of them is not: a last bf16 would let classes tie at many pixels."""
    segmentor = small_segmentor(upsampler=upsampler)
    image = picture(65, 49)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = segmentor(image)
        scores = segmentor.scores(segmentor.preprocess(image))
        assert scores.dtype == torch.bfloat16
    exact = segmentor.upsampler.double()(scores.double(), (65, 49))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(logits.argmax(dim=1), exact.argmax(dim=1))


@pytest.fixture
def with_crf() -> tuple[Segmentor, Segmentor]:
    """The same network twice: as it is, and with a CRF that learns."""
    crf = DenseCRF(kernels=[Bilateral(weight=4, sigma_xy=8, sigma_rgb=30)], trainable=["weights", "compatibility"])
    networks = []
    for layer in (None, crf):
        torch.manual_seed(0)
        head = partial(DeepLabV3Head, aspp_channels=8)
        networks.append(Segmentor(backbone=TimmBackbone("test_resnet"), head=head, num_classes=3, crf=layer).eval())
    plain, refined = networks
    refined.load_state_dict(plain.state_dict(), strict=False)
    return plain, refined


@torch.no_grad()
def test_a_crf_is_the_last_layer(with_crf: tuple[Segmentor, Segmentor]) -> None:
    plain, refined = with_crf
    assert set(refined.state_dict()) - set(plain.state_dict()) == {"crf.weight_0", "crf.compatibility"}
    image = torch.randint(0, 256, (2, 3, 41, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    logits = refined(image)
    assert refined.crf is not None
    assert torch.equal(logits, refined.crf(plain(image), image))
    assert not torch.equal(logits, plain(image))
    assert torch.equal(refined(image, outputs="all")["main"], logits)
    # whoever reads rows, or another size, reads the refined logits
    assert torch.equal(refined.logit_map(image).rows(slice(5, 30)), logits[:, :, 5:30])
    larger = refined.logit_map(image).rows(slice(0, 81), (81, 99))
    wanted = torch.nn.functional.interpolate(logits, size=(81, 99), mode="bilinear", align_corners=True)
    torch.testing.assert_close(larger, wanted)
    torch.testing.assert_close(WholeImage()(refined, image), logits.softmax(dim=1))
    with pytest.raises(AtrousError, match=r"so the loss cannot be taken on scores: set task\.loss_resolution=labels"):
        refined(image, outputs="scores")
    with pytest.raises(AtrousError, match=r"the network has a CRF .* of its own: leave out the one"):
        Refined(refiner=DenseCRF())(refined, image)


def test_all_parts_of_a_network_with_a_crf_learn(with_crf: tuple[Segmentor, Segmentor]) -> None:
    plain, refined = with_crf
    image = torch.randint(0, 256, (2, 3, 97, 97), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    target = torch.randint(0, 3, (2, 97, 97), generator=torch.Generator().manual_seed(2))
    refined.train()
    torch.manual_seed(3)  # dropout
    losses = full_size_losses(refined, CrossEntropy(), image, target)
    torch.manual_seed(3)
    wanted = torch.nn.functional.cross_entropy(refined(image), target)
    torch.testing.assert_close(losses["main"], wanted, atol=1e-4, rtol=1e-4)
    losses["main"].backward()
    torch.nn.functional.cross_entropy(plain.train()(image), target).backward()
    still = [{name for name, each in network.named_parameters() if not each.grad.any()} for network in with_crf]
    assert still[0] == still[1]  # what is behind dead units
    assert "backbone.network.conv1.weight" not in still[1]


def test_a_crf_learns_as_new_layers_do_and_does_not_decay(with_crf: tuple[Segmentor, Segmentor]) -> None:
    _, refined = with_crf
    groups = {group["name"]: set(group["params"]) for group in parameter_groups(refined, 0.01, weight_decay=1e-4)}
    learned = set(refined.crf.parameters())
    assert len(learned) == 2  # the weights of the kernel, and the compatibility
    assert learned <= groups["head_no_decay"]


@pytest.mark.long
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@torch.no_grad()
def test_a_network_with_a_crf_can_be_folded_and_compiled(backend: str) -> None:
    """One layer, a batch norm and two steps of the CRF: how long their code is built grows with every operation."""
    torch.manual_seed(0)
    crf = DenseCRF(kernels=[Bilateral(weight=4, sigma_xy=8, sigma_rgb=30)], iterations=2, trainable=["weights"])
    head = partial(FCNHead, feature=-1, channels=4)
    refined = Segmentor(backbone=_Samples(Grid.POINTS), head=head, num_classes=3, crf=crf).eval()
    image = torch.randint(0, 256, (1, 3, 41, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    wanted = refined(image).softmax(dim=1)
    torch.testing.assert_close(refined.folded()(image).softmax(dim=1), wanted, atol=1e-3, rtol=0)
    refined.compile(backend=backend)
    torch.testing.assert_close(refined(image).softmax(dim=1), wanted, atol=1e-3, rtol=0)
    torch.compiler.reset()
