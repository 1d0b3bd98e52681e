"""Losses of thirty steps of every member of the family, beside stored ones; ``make golden`` stores them anew.

They are computed in double precision: in single precision, thirty steps of a network with batch norms enlarge another
order of additions to a tenth of a loss, and a change of the code could not be told from another processor. The
tolerance is that of the stored digits; a learning rate that is off by a fiftieth changes losses by a hundredth.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

import atrous
from atrous.commands.train import command as train

pytestmark = pytest.mark.torture

STORED = Path(__file__).parent / "golden" / "losses.json"
TOLERANCE = 1e-4
SMALL = "backbone.name=test_resnet"
MEMBERS = {
    "deeplabv1": ("backbone=vgg16", "backbone.channels=[8,8,16,16,16]", "model.head.channels=16"),
    "deeplabv1_msc": ("backbone=vgg16", "backbone.channels=[8,8,16,16,16]", "model.head.head.channels=16"),
    "deeplabv2": ("backbone=resnet18", SMALL),
    "deeplabv3": ("backbone=resnet18", SMALL, "model.head.aspp_channels=16"),
    "deeplabv3_cascade": ("backbone=resnet18",),
    "deeplabv3plus": ("backbone=xception41", "model.head.aspp_channels=16", "model.head.decoder_channels=16"),
    "dupsampling": ("backbone=mobilenetv2_050", "model.head.aspp_channels=16", "upsampler.weights=random"),
    "hdc_duc": ("backbone=resnet18", SMALL),
    "auto_deeplab": ("backbone=auto_deeplab", "model.head.aspp_channels=16", "model.head.decoder_channels=16"),
}
COMMON = (
    "data.dataset.size=64", "data.dataset.lengths={train: 40, val: 2, test: 2}", "data.batch_size=4",
    "data.num_workers=0", "augment.crop_size=65", "backbone.pretrained=false", "trainer=cpu", "trainer.max_steps=30",
    "validate_every=30", "trainer.log_every_n_steps=1", "trainer.precision=64-true", "logger=csv", "callbacks=minimal",
)  # fmt: skip

Compose = Callable[..., DictConfig]


def losses(composed: Compose, member: str, *words: str) -> list[float]:
    config = composed("train", f"model={member}", *MEMBERS[member], *COMMON, *words)
    train.train(config)
    with (Path(config.paths.run) / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def test_every_member_has_a_curve() -> None:
    assert set(MEMBERS) == set(atrous.list_models())


@pytest.mark.parametrize("member", MEMBERS)
def test_losses_are_those_that_are_stored(member: str, composed: Compose, request: pytest.FixtureRequest) -> None:
    found = losses(composed, member)
    assert len(found) == 30
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else {}
    if request.config.getoption("--store", False):
        STORED.write_text(json.dumps({**stored, member: [float(f"{loss:.6g}") for loss in found]}, indent=1) + "\n")
        return
    assert found == pytest.approx(stored[member], rel=TOLERANCE)
