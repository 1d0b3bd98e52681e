"""The largest batch that fits, and the settings that keep the recipe's batch with it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rich.console import Console

from atrous.commands.prepare.command import run_task
from atrous.commands.prepare.tasks import fit_batch
from atrous.commands.prepare.tasks.fit_batch import largest_that_fits
from atrous.commands.prepare.trial import Trial
from atrous.errors import AtrousError
from atrous.memory import free_memory

WORDS = "model.head.aspp_channels=16 model.head.decoder_channels=16 trainer.precision=32-true trainer=cpu"


class Device:
    """Trials as of a device on which so many images fit."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []
        self.words: Sequence[str] = ()
        self.memory: int | None = None

    def __call__(self, words: Sequence[str], batch: int, *, steps: int, memory: int | None, on_gpu: bool) -> Trial:
        self.tried.append(batch)
        self.words, self.memory = words, memory
        assert not on_gpu
        assert steps == 2
        fits = batch <= self.room
        return Trial(batch, fits=fits, bytes=batch * 2**30 if fits else None, seconds=0.5 if fits else None)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    found = Device(room=11)
    monkeypatch.setattr(fit_batch, "try_batch", found)
    return found


def run(words: str = "", **options: Any) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=400)
    options = {"train": f"{WORDS} {words}", **options}
    result = run_task("fit_batch", options, console, data=lambda: pytest.fail("the training's own data are asked for"))
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 8, 64, 100])
def test_the_search_finds_every_limit(largest: int) -> None:
    """Against trying all sizes one by one, with few trials."""
    for smallest in {1, min(2, largest)}:
        for room in range(largest + 3):
            tried: list[int] = []

            def fits(number: int, room: int = room, tried: list[int] = tried) -> bool:
                tried.append(number)
                return number <= room

            wanted = max((number for number in range(smallest, largest + 1) if number <= room), default=0)
            assert largest_that_fits(fits, smallest, largest) == wanted
            assert len(tried) == len(set(tried)) <= 2 * largest.bit_length()
            assert all(smallest <= number <= largest for number in tried)


@pytest.mark.parametrize(
    ("words", "room", "settings"),
    [
        ("data.batch_size=16", 11, ["data.batch_size=8", "trainer.accumulate_grad_batches=2"]),
        ("data.batch_size=16", 64, ["data.batch_size=16", "trainer.accumulate_grad_batches=1"]),
        ("data.batch_size=12", 11, ["data.batch_size=6", "trainer.accumulate_grad_batches=2"]),
        (
            "data.batch_size=4 trainer.accumulate_grad_batches=4",
            8,
            ["data.batch_size=8", "trainer.accumulate_grad_batches=2"],
        ),
        ("data.batch_size=16 trainer.devices=2", 4, ["data.batch_size=8", "trainer.accumulate_grad_batches=2"]),
        ("data.batch_size=16 trainer.devices=2", 11, ["data.batch_size=16", "trainer.accumulate_grad_batches=1"]),
    ],
)
def test_settings_keep_the_recipes_batch(device: Device, words: str, room: int, settings: list[str]) -> None:
    device.room = room
    result, said = run(words)
    assert result["settings"] == settings
    assert f"  {' '.join(settings)}\n" in said
    assert result["largest"] == min(room, 64)


def test_every_trial_is_told(device: Device) -> None:
    result, said = run("data.batch_size=16", memory=12.5)
    assert device.tried == [2, 4, 8, 16, 12, 10, 11]
    assert device.memory == int(12.5 * 2**30) == result["memory"]
    assert [trial["batch"] for trial in result["trials"]] == device.tried
    assert "8 images: 8.00 GiB, 0.50 s a step, 16.0 images/s" in said
    assert "16 images: too many" in said
    assert "11 images fit on a device; 16 a step are" in said
    assert "batch norms then see 8 images instead of 16: take a smaller augment.crop_size, or task.checkpoint" in said
    assert list(device.words) == [*WORDS.split(), "data.batch_size=16"]


def test_what_is_free_is_the_limit(device: Device) -> None:
    result, _ = run()
    assert 0.5 * free_memory() < result["memory"] < free_memory()


def test_the_precision_is_decided_once(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(config: Any, num_classes: int) -> str:
        config.trainer.precision = "bf16-mixed"
        return f"trainer.precision=auto is bf16-mixed: {num_classes} classes"

    monkeypatch.setattr(fit_batch, "decide_precision", decide)
    _, said = run("trainer.precision=auto")
    assert device.words[-1] == "trainer.precision=bf16-mixed"
    assert "trainer.precision=auto is bf16-mixed: 8 classes" in said


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ("data.batch_size=16", {}, "not even 2 images of .* fit into .*, or task.checkpoint_activations=true"),
        ("data.batch_size=5 trainer.devices=2", {}, "5 images a step cannot be shared by 2 devices"),
        ("model=unet", {}, "model=unet: In .train.: Could not find"),
        ("", {"largest": 0}, "fit_batch.largest=0 must be at least 1"),
        ("", {"memory": 0.0}, "fit_batch.memory=0.0 must be greater than 0"),
        ("", {"steps": 1}, "fit_batch.steps=1 must be at least 2"),
    ],
)
def test_impossible_options(device: Device, words: str, options: dict[str, Any], message: str) -> None:
    device.room = 0
    with pytest.raises(AtrousError, match=message):
        run(words, **options)


def test_a_batch_that_cannot_be_divided_is_told(device: Device) -> None:
    """A single image would be a divisor, but image pooling cannot train on it."""
    device.room = 4
    with pytest.raises(AtrousError, match="4 images fit on a device, but no number from 2 to 4 divides the recipe's 7"):
        run("data.batch_size=7")


def test_a_checkpointing_recipe_is_not_told_to_checkpoint(device: Device) -> None:
    _, said = run("data.batch_size=16 task.checkpoint_activations=true")
    assert "take a smaller augment.crop_size to change that" in said
    assert torch.cuda.is_available() or "GiB; the recipe has 16 a step" in said
