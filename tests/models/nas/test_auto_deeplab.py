"""The network of a genotype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from atrous.errors import AtrousError
from atrous.models import Segmentor
from atrous.models.heads import DeepLabV3Head, DeepLabV3PlusHead
from atrous.models.nas import AutoDeepLab, Genotype, Operation
from atrous.models.nas.decoding import uniform_genotype

STEM = (4, 6, 8)


def millions(genotype: Genotype, size: str) -> float:
    with torch.device("meta"):
        head = partial(DeepLabV3PlusHead, separable=False)
        network = Segmentor(backbone=AutoDeepLab(genotype=genotype, size=size), head=head, num_classes=19)
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_parameters_of_the_paper(paper: Genotype) -> None:
    assert [round(millions(paper, size), 2) for size in "SML"] == [10.15, 21.62, 44.42]


def test_a_first_stride_of_8_has_others(paper: Genotype) -> None:
    """The PyTorch re-implementation's path, which begins at stride 8, does not have the paper's numbers."""
    other = Genotype((8, *paper.strides[1:]), paper.blocks)
    assert [round(millions(other, size), 2) for size in "SML"] == [10.25, 21.87, 44.97]


def test_maps_for_heads(paper: Genotype) -> None:
    backbone = AutoDeepLab(genotype=paper, size="S")
    assert [(spec.channels, spec.stride, spec.name) for spec in backbone.features] == [
        (64, 2, "stem.stride2"),
        (100, 4, "cells.2"),
        (200, 8, "cells.5"),
        (200, 8, "cells.11"),
    ]
    assert (backbone.output_stride, backbone.extension) == (8, 32)


@pytest.mark.parametrize(
    ("strides", "names"),
    [
        ((4,), ["stem.stride2", "stem.stride4", "cells.0"]),
        ((8, 8), ["stem.stride2", "stem.stride4", "cells.0", "cells.1"]),
        ((4, 8, 16, 32), ["stem.stride2", "cells.0", "cells.1", "cells.2", "cells.3"]),
        ((4, 8, 4), ["stem.stride2", "cells.0", "cells.2"]),
    ],
)
def test_maps_of_other_paths(strides: tuple[int, ...], names: list[str], varied: Genotype) -> None:
    backbone = AutoDeepLab(genotype=Genotype(strides, varied.blocks), size=1, stem=STEM)
    assert [spec.name for spec in backbone.features] == names
    maps = backbone(torch.randn(2, 3, 65, 97))
    for spec, each in zip(backbone.features, maps, strict=True):
        assert each.shape == (2, spec.channels, 64 // spec.stride + 1, 96 // spec.stride + 1)


@pytest.mark.parametrize("size", [(33, 33), (40, 57), (1, 1), (2, 70)])
def test_any_size_of_image(size: tuple[int, int], varied: Genotype) -> None:
    backbone = AutoDeepLab(genotype=varied, size=1, stem=STEM).eval()
    network = Segmentor(backbone=backbone, head=partial(DeepLabV3Head, aspp_channels=4), num_classes=3).eval()
    assert network(torch.rand(1, 3, *size) * 255).shape == (1, 3, *size)
    assert all(each.isfinite().all() for each in backbone(torch.randn(1, 3, *size)))


def test_features_stay_in_their_places() -> None:
    """An image that is moved by the coarsest stride has the same features, moved."""
    torch.manual_seed(0)
    small = {"strides": [4, 8, 4, 8], "blocks": [[["separable_3x3", "l-1"], ["atrous_3x3", "l-2"]]]}
    backbone = AutoDeepLab(genotype=small, size=2, stem=STEM).double().eval()
    image = torch.randn(1, 3, 257, 257, dtype=torch.float64)
    whole, moved = backbone(image)[-1], backbone(image[..., 8:, 8:])[-1]
    first, last = 12, -12  # far from the borders
    torch.testing.assert_close(whole[..., 1 + first : last, 1 + first : last], moved[..., first:last, first:last])


def test_every_weight_learns(paper: Genotype, varied: Genotype) -> None:
    for genotype in (paper, varied):
        torch.manual_seed(0)
        backbone = AutoDeepLab(genotype=genotype, size=2, stem=STEM)
        backbone(torch.randn(2, 3, 65, 65))[-1].square().sum().backward()
        assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []


def test_scheduled_drop_path(paper: Genotype) -> None:
    """The probability grows with the layer and with the training; skips stay, and so does evaluation."""
    torch.manual_seed(0)
    backbone = AutoDeepLab(genotype=paper, size=1, stem=STEM, drop_path=0.5)
    seen: list[float] = []
    for cell in backbone.cells:
        cell.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3]))
    image = torch.randn(2, 3, 33, 33)
    backbone(image)
    assert seen == [0.0] * 12
    seen.clear()
    backbone.at_progress(0.5)
    backbone(image)
    assert seen == pytest.approx([0.5 * 0.5 * layer / 12 for layer in range(1, 13)])
    seen.clear()
    backbone.eval()(image)
    assert seen == [0.0] * 12


def test_dropped_paths_are_nothing_and_the_others_make_up_for_them(varied: Genotype) -> None:
    genotype = Genotype((4,), ((varied.blocks[0][0],) * 2,))  # max_pooling_3x3 of l-1, twice
    torch.manual_seed(0)
    cell = AutoDeepLab(genotype=genotype, size=2, stem=STEM).eval().cells[0]
    first, second = torch.randn(4000, 8, 3, 3), torch.randn(4000, 6, 5, 5)
    whole = cell(first, second, (3, 3))
    dropped = cell(first, second, (3, 3), 0.25)
    factors = (dropped / whole)[:, 0, 0, 0]
    for share, factor in ((0.25**2, 0.0), (2 * 0.25 * 0.75, 2 / 3), (0.75**2, 4 / 3)):
        assert float(((factors - factor).abs() < 1e-3).float().mean()) == pytest.approx(share, abs=0.03)
    skips = AutoDeepLab(genotype=uniform_genotype(genotype, Operation.SKIP), size=2, stem=STEM).eval().cells[0]
    assert torch.equal(skips(first, second, (3, 3), 0.9), skips(first, second, (3, 3)))


def test_output_stride_is_refused(paper: Genotype) -> None:
    backbone = AutoDeepLab(genotype=paper, size=1, stem=STEM)
    backbone.set_output_stride(8)
    with pytest.raises(AtrousError, match="its genotype ends at 8"):
        backbone.set_output_stride(16)
    with pytest.raises(AtrousError, match="its genotype ends at 8"):
        AutoDeepLab(genotype=paper, size=1, stem=STEM, output_stride=16)


def test_weights_of_a_file(varied: Genotype, tmp_path: Path) -> None:
    trained = AutoDeepLab(genotype=varied, size=1, stem=STEM)
    expected = trained.state_dict()
    torch.save(expected, tmp_path / "weights.pt")
    loaded = AutoDeepLab(genotype=varied, size=1, stem=STEM, pretrained=str(tmp_path / "weights.pt"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    with pytest.raises(AtrousError, match="not those of backbone 'auto_deeplab'"):
        AutoDeepLab(genotype=varied, size=2, stem=STEM, pretrained=str(tmp_path / "weights.pt"))
    with pytest.raises(AtrousError, match="there are no ImageNet weights"):
        AutoDeepLab(genotype=varied, size=1, stem=STEM, pretrained=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"size": "XL"}, "choose S, M, L"), ({"size": 0}, "backbone.size=0"), ({"drop_path": 1.0}, "backbone.drop_path")],
)
def test_impossible_values(options: dict[str, object], says: str, paper: Genotype) -> None:
    with pytest.raises(AtrousError, match=says):
        AutoDeepLab(genotype=paper, **options)


def test_none_gives_nothing(varied: Genotype, composed: Callable[..., object]) -> None:
    backbone = AutoDeepLab(genotype=uniform_genotype(varied, Operation.NONE), size=1, stem=STEM).eval()
    assert not backbone(torch.randn(1, 3, 65, 65))[-1].any()
