"""What figures show, against the numbers that they stand for, and that each of them is drawn."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import atrous
from atrous.commands.figures import drawings
from atrous.commands.figures.drawings.gridding import paths_to_the_center
from atrous.commands.figures.drawings.rates import layers_at
from atrous.commands.figures.drawings.receptive_fields import effective_field, side_holding, sides
from atrous.commands.figures.drawings.sampling import responses
from atrous.commands.figures.drawings.valid_weights import valid_counts
from atrous.commands.figures.source import Missing, Source, image_of
from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.label_space import LabelSpace
from atrous.data.sets import Shapes
from atrous.data.sets.shapes import SHAPES
from atrous.models import Segmentor
from atrous.models.backbones.hdc import share_of_pixels_used
from atrous.reports.theme import THEMES


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Without any real image, network or sweep."""
    return Source(tmp_path / "real", runs=tmp_path / "runs", sweeps=tmp_path / "sweeps")


def test_fields_of_view_are_those_of_the_paper() -> None:
    assert sides((1, 2, 4)) == [3, 7, 15]
    assert sides((1, 1, 1)) == [3, 5, 7]


@pytest.mark.parametrize("rates", [(2, 2, 2), (1, 2, 5), (2, 4, 8)])
def test_paths_are_those_that_a_stack_of_ones_counts(rates: tuple[int, ...]) -> None:
    side = 1 + 2 * sum(rates)
    image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    response = image
    for rate in rates:
        response = F.conv2d(response, torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=rate, dilation=rate)
    (slope,) = torch.autograd.grad(response[0, 0, side // 2, side // 2], image)
    paths = paths_to_the_center(rates)
    assert paths.tolist() == slope[0, 0].tolist()
    assert (paths > 0).mean() == pytest.approx(share_of_pixels_used(rates))


def test_valid_weights_are_those_that_a_padded_filter_of_ones_counts() -> None:
    for rate in (1, 6, 24, 64, 65, 70):
        ones = torch.ones(1, 1, 65, 65)
        counts = F.conv2d(ones, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
        assert valid_counts(rate).tolist() == counts[0, 0].tolist()


def test_atrous_responses_agree_with_coarse_ones_where_there_are_any() -> None:
    """The papers' point: the same filter on every second pixel is that of rate 2, at every second place."""
    gray = np.random.default_rng(0).random((40, 52))
    sparse, dense = responses(gray)
    inner = np.s_[12:28:2, 12:40:2]  # away from the border, which each mirrors in its own way
    assert np.allclose(sparse[inner], dense[inner])
    assert np.count_nonzero(sparse[1::2]) == 0


def test_an_effective_field_is_the_field_of_view_of_a_plain_stack() -> None:
    kernel = torch.ones(1, 3, 3, 3)
    field = effective_field(lambda image: F.conv2d(image, kernel, padding=2, dilation=2), [torch.ones(1, 3, 17, 17)])
    reached = {tuple(place) for place in np.argwhere(field > 0).tolist()}
    assert reached == set(itertools.product((6, 8, 10), repeat=2))
    assert side_holding(field) == 5


def test_rates_of_a_resnet_are_those_of_the_paper() -> None:
    """DeepLabv3 §3.1: what loses its stride doubles the rate of what follows; the strided unit keeps the old one."""
    for output_stride, rates in ((32, {1}), (16, {1, 2}), (8, {1, 2, 4})):
        layers = layers_at(output_stride)
        assert {rate for _, rate, _ in layers} == rates
        strides = [stride for _, _, stride in layers]
        assert np.prod(strides) * 2 == output_stride  # and the pooling of the stem


class WithNetworks(Source):
    """One random network for everything that looks at one."""

    def __init__(self) -> None:
        super().__init__("nowhere", runs="nowhere", sweeps="nowhere")
        torch.manual_seed(0)
        network = atrous.create("deeplabv3", "resnet18", num_classes=8, output_stride=16, pretrained=False)
        self._network = network.eval()
        self._shapes = Shapes("val", size=65, lengths={"train": 1, "val": 12, "test": 1})

    @property
    def network(self) -> Segmentor:
        return self._network

    @property
    def classes(self) -> LabelSpace:
        return SHAPES

    @property
    def images(self) -> SegmentationDataset:
        return self._shapes

    @property
    def seen(self) -> SegmentationDataset:
        return self._shapes

    def probabilities(self, sample: RawSample) -> Tensor:
        return self._network(image_of(sample)).softmax(dim=1).detach()

    def trained(self, sweep: str, arm: str) -> tuple[Segmentor, SegmentationDataset]:
        return self._network, self._shapes


@pytest.mark.parametrize("name", ["borders", "crf_iterations", "receptive_fields", "thin_structures", "upsamplers"])
def test_without_a_network_there_is_a_command_that_trains_one(name: str, source: Source) -> None:
    with pytest.raises(Missing, match=r"python src/(train.py experiment=demo|sweep.py sweep=\w+)`"):
        importlib.import_module(f"{drawings.__name__}.{name}").figure(source)


@pytest.mark.long
@pytest.mark.parametrize("name", drawings.NAMES)
def test_every_figure_is_drawn_on_both_pages(name: str) -> None:
    draw = importlib.import_module(f"{drawings.__name__}.{name}").figure(WithNetworks())
    for theme in THEMES:
        figure = draw(theme)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20, "an empty picture"
        assert tuple(pixels[0, 0, :3]) == tuple(int(theme.page[place : place + 2], 16) for place in (1, 3, 5))
