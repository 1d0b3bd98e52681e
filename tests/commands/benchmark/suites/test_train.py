"""Training steps of the same network here and at a peer."""

from __future__ import annotations

import copy
import io
import sys
from typing import Any

import pytest
import torch
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.peers import build_pair
from atrous.commands.benchmark.profile import profile_step
from atrous.commands.benchmark.suites.train import multiply_adds, training_step
from atrous.errors import AtrousError

SMALL = {
    "networks": [{"peer": "smp", "model": "deeplabv3plus", "backbone": "resnet18"}],
    "crop": 65,
    "batch": 2,
    "rounds": 2,
    "threads": 1,
}


def run(**options: Any) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=400)
    result = run_suite("train", {**SMALL, **options}, console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


@pytest.mark.long
def test_ratios_are_to_the_faster_layout() -> None:
    result, said = run()
    (row,) = result["rows"]
    medians = {name: timing["median"] for name, timing in row["ms"].items()}
    assert medians.keys() == {"ours", "theirs, channels last", "theirs, channels first", "default form"}
    fastest = min(medians["theirs, channels last"], medians["theirs, channels first"])
    assert medians[row["theirs"]] == fastest
    assert row["ratio"] == fastest / medians["ours"] == pytest.approx(result["means"]["same network"])
    assert row["default_ratio"] == fastest / medians["default form"]
    for name in ("ours", row["theirs"]):
        assert row["memory_gb"][name] > 0
        assert sum(row["kinds"][name].values()) == pytest.approx(1, abs=0.01)
        assert row["kinds"][name]["convolution backward"] > 0.1
    assert f"{row['ratio']:.2f}x" in said
    assert row["case"] == "smp deeplabv3plus resnet18 65 os16 fp32"


def test_activations_computed_again_are_compared_with_activations_kept() -> None:
    small = {
        "peer": "smp",
        "model": "deeplabv3plus",
        "backbone": "mobilenetv2_050",
    }  # few weights, so maps are most of it
    result, said = run(checkpoint_activations=True, default_form=False, networks=[small], crop=129)
    (row,) = result["rows"]
    again = "ours, activations computed again"
    assert row["recomputing"]["time"] == row["ms"][again]["median"] / row["ms"]["ours"]["median"]
    assert row["recomputing"]["memory"] == pytest.approx(row["memory_gb"][again] / row["memory_gb"]["ours"])
    assert 0.2 < row["recomputing"]["memory"] < 0.95
    assert f"{row['recomputing']['memory']:.2f} times the memory" in said
    with pytest.raises(AtrousError, match=r"train\.checkpoint_activations=true needs train\.compile=false"):
        run(checkpoint_activations=True, compile=True)


@pytest.mark.parametrize(
    ("peer", "model", "backbone", "output_stride"),
    [
        ("smp", "deeplabv3plus", "resnet18", 16),
        ("smp", "deeplabv3plus", "mobilenetv2_050", 16),
        ("torchvision", "deeplabv3", "mobilenetv3_large_100", 16),
        ("transformers", "deeplabv3", "mobilenetv2_100", 16),
    ],
)
def test_a_pair_is_the_same_network(peer: str, model: str, backbone: str, output_stride: int) -> None:
    """With the same weights, the same logits; and a step changes both alike."""
    pair = build_pair(peer, model, backbone, output_stride)
    assert pair.whole_strides is (peer == "smp")
    height, width = (96, 64) if pair.whole_strides else (97, 65)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        wanted = pair.theirs.eval()(image)
        assert wanted.shape == (1, 21, height, width)
        assert (pair.ours.eval()(image) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    unused = 320 * 1280 * 5 * 5 if peer == "transformers" else 0  # it computes a last convolution that nothing uses
    assert multiply_adds(pair.ours, width) == multiply_adds(pair.theirs, width) - unused


def test_a_peer_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(AtrousError, match="the peer smp is not installed"):
        build_pair("smp", "deeplabv3plus", "resnet18", 16)


def test_a_step_trains() -> None:
    pair = build_pair("smp", "deeplabv3plus", "resnet18", 16)
    before = copy.deepcopy(pair.ours.state_dict())
    training_step(pair.ours, 2, 64, "fp32", "channels last", compile=False)()
    changed = [name for name, tensor in pair.ours.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == len(before)


def test_memory_at_its_peak() -> None:
    def step() -> None:
        one = torch.ones(2**20)
        two = one + 1
        del one
        torch.ones(2**18)
        del two

    _, peak = profile_step(step)
    assert 2 * 2**22 <= peak < 2 * 2**22 + 2**20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 1}, "train.batch=1 must be at least 2"),
        ({"precisions": ["fp8"]}, "choose among fp32, bf16"),
        ({"networks": [{"peer": "keras", "model": "deeplabv3", "backbone": "resnet18"}]}, "choose one of smp"),
        ({"networks": [{"peer": "smp", "model": "unet", "backbone": "resnet18"}]}, "smp has no unet on resnet18"),
        ({"networks": [{"peer": "transformers", "model": "deeplabv3", "backbone": "resnet18"}]}, "has no deeplabv3"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        run(**options)
