"""Our networks have the papers' parameters and multiply-adds."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from torch import Tensor, nn

from atrous.commands.benchmark.suites.fidelity import CLAIMS, Claim, count, measure, run
from atrous.geometry import Grid
from atrous.models.backbones import Backbone, FeatureMaps, FeatureSpec
from atrous.models.heads.head import Head
from atrous.models.segmentor import Segmentor


class _Convolution(Backbone):
    """One 3×3 convolution of stride 8."""

    mean, std, grid = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), Grid.POINTS
    features = (FeatureSpec(5, 8, "only"),)
    output_stride = native_stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, stride=8, padding=1, bias=False)

    def set_output_stride(self, output_stride: int) -> None: ...

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layer(image)]


class _Classifier(Head):
    def __init__(self, maps: FeatureMaps, num_classes: int) -> None:
        super().__init__()
        self.stride = maps.output_stride
        self.layer = nn.Conv2d(5, num_classes, 1)

    def set_output_stride(self, output_stride: int) -> None: ...

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.layer(features[-1])


def test_a_network_counted_by_hand() -> None:
    """17×25 pixels have 3×4 features: 27·5 and 5·2 products each."""
    counted = count(Segmentor(backbone=_Convolution(), head=_Classifier, num_classes=2), (17, 25))
    assert counted.parameters * 1e6 == pytest.approx(27 * 5 + 5 * 2 + 2)
    assert counted.multiply_adds * 1e9 == pytest.approx(3 * 4 * (27 * 5 + 5 * 2))


def test_space_to_batch_pads_to_a_multiple_of_the_rate() -> None:
    """A rate of 3 turns the 3×4 places into 3×6."""
    backbone = _Convolution()
    backbone.layer.dilation, backbone.layer.padding = (3, 3), (3, 3)
    counted = count(Segmentor(backbone=backbone, head=_Classifier, num_classes=2), (17, 25))
    assert counted.multiply_adds * 1e9 == pytest.approx(3 * 4 * (27 * 5 + 5 * 2))
    assert counted.padded_multiply_adds * 1e9 == pytest.approx(3 * 6 * 27 * 5 + 3 * 4 * 5 * 2)


def is_quick(claim: Claim) -> bool:
    """Every quantity of every paper once; ResNet-101 is built twice for each of its claims."""
    return "ResNet-101" not in claim.network or "OS 16" in claim.network


@pytest.mark.slow
@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, marks=() if is_quick(c) else pytest.mark.long, id=f"{c.network}, {c.quantity}") for c in CLAIMS],
)
def test_a_claim_holds(claim: Claim) -> None:
    _, alike = measure(claim)
    assert alike == pytest.approx(claim.value, rel=claim.tolerance, abs=5e-7)


def test_the_table_names_network_paper_and_difference() -> None:
    text = io.StringIO()
    result = run(Console(file=text, width=200), only="fc6 3×3")
    (row,) = result["rows"]
    assert row["paper"] == 20.5
    assert row["difference"] == pytest.approx(row["counted_alike"] / 20.5 - 1)
    assert "fc6 3×3" in text.getvalue()
    assert "v1 table 2" in text.getvalue()
