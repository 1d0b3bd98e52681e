"""``trainer.precision=auto`` from the command line to the record of a run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import DictConfig

from atrous.checkpoints import Card
from atrous.commands.train import command as entry_point
from atrous.composition import continue_recorded_run
from atrous.composition import precision as module
from atrous.composition.precision import decide_precision

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
SMALL = (
    "backbone=timm",
    "backbone.name=test_resnet",
    "model.head.aspp_channels=8",
    "model.head.decoder_channels=8",
    "data.dataset.size=64",
    "data.dataset.lengths={train: 8, val: 2, test: 2}",
    "augment.crop_size=33",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer=cpu",
    "logger=csv",
    "trainer.max_steps=2",
    "validate_every=2",
    "trainer.precision=auto",
)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the trial find that a precision is faster."""

    def pretend(precision: str) -> None:
        seconds = {each: 1.0 if each == precision else 1.5 for each in ("32-true", "bf16-mixed")}
        monkeypatch.setattr(module, "measure_precisions", lambda *arguments: seconds)

    return pretend


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_cpu_takes_the_faster_one(composed: Compose, faster: Callable[[str], None], precision: str) -> None:
    faster(precision)
    config = composed("train", *SMALL)
    before = torch.get_rng_state()
    said = decide_precision(config, 3)
    assert config.trainer.precision == precision
    other = {"32-true": "1.50 s in bf16-mixed", "bf16-mixed": "1.50 s in 32-true"}[precision]
    assert said is not None
    assert said.startswith(f"trainer.precision=auto is {precision}: a step of two images takes")
    assert other in said
    assert torch.equal(torch.get_rng_state(), before), "the run would start from other weights"
    assert decide_precision(config, 3) is None


@pytest.mark.parametrize(
    ("words", "precision", "reason"),
    [
        (["trainer.devices=2", "trainer.strategy=ddp"], "32-true", "several processes"),
        (["trainer.accelerator=mps"], "32-true", "nothing else was tried on mps"),
    ],
)
def test_without_a_trial(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, words: list[str], precision: str, reason: str
) -> None:
    monkeypatch.setattr(module, "measure_precisions", lambda *arguments: pytest.fail("tried"))
    config = composed("train", *SMALL, *words)
    assert reason in str(decide_precision(config, 3))
    assert config.trainer.precision == precision


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "bf16-mixed"), ((7, 5), "32-true")])
def test_a_gpu_has_what_is_native(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    config = composed("train", *SMALL, "trainer.accelerator=auto")
    decide_precision(config, 3)
    assert config.trainer.precision == precision


def test_it_is_recorded_and_kept(
    command: Callable[..., subprocess.CompletedProcess[str]],
    composed: Compose,
    tmp_path: Path,
    faster: Callable[[str], None],
) -> None:
    faster("bf16-mixed")
    done = command("train.py", *SMALL, f"paths.logs={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trainer.precision=auto is bf16-mixed: a step of two images" in " ".join(done.stdout.split())
    (record,) = tmp_path.glob("train/*/*/config.yaml")
    assert yaml.safe_load(record.read_text(encoding="utf-8"))["trainer"]["precision"] == "bf16-mixed"
    card = Card.of(torch.load(record.parent / "checkpoints" / "last.ckpt"))
    assert card.recipe["trainer"]["precision"] == "bf16-mixed"
    assert "trainer.precision=bf16-mixed" in card.overrides
    assert "trainer.precision=auto" not in card.overrides
    assert card.score is not None
    assert card.score["protocol"]["precision"] == "bf16-mixed"
    faster("32-true")  # another machine
    for words in (["trainer.max_steps=4"], ["trainer.max_steps=6", "trainer.precision=auto"]):
        config = composed("train", *continue_recorded_run([f"ckpt_path={record.parent}", *words]))
        config.paths.run = str(record.parent)
        task = entry_point.train(config)
        assert str(task.trainer.precision) == "bf16-mixed"


def test_the_trial_itself(composed: Compose) -> None:
    config = composed("train", *SMALL)
    said = str(decide_precision(config, 3))
    assert config.trainer.precision in said
    assert config.trainer.precision in ("32-true", "bf16-mixed")
