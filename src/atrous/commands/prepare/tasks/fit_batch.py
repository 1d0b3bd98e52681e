"""The largest batch that a device can train, and how to reach the recipe's batch with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console

from atrous.commands.prepare.trial import Trial, try_batch
from atrous.composition import Config, compose
from atrous.composition.parts import build_data
from atrous.composition.precision import decide_precision, device_of
from atrous.errors import AtrousError, require_range
from atrous.memory import free_memory
from atrous.terminal import say

_SHARE = 0.9  # of what is free on a CPU; loaders and the system need some too


def run(
    console: Console, *, train: str = "", largest: int = 64, memory: float | None = None, steps: int = 2
) -> dict[str, Any]:
    """Try batches of random images, each in a process of its own, and say which settings to train with.

    Sizes are doubled until one does not fit or is the largest, and halved between that one and the last that fits, so
    there are at most twice as many trials as ``largest`` has binary digits.

    Args:
        console: Where trials and settings are told.
        train: What follows ``python src/train.py``.
        largest: The most images to try on a device.
        memory: GiB that training may take on a device; ``None`` for a GPU's whole memory, or for 90 % of what is free
            where there is none.
        steps: Optimizer steps of a trial.

    Returns:
        The largest batch, the settings and all trials, for JSON.

    Raises:
        AtrousError: The words are no training configuration, or not even the smallest batch fits.
    """
    require_range("fit_batch.largest", largest, at_least=1)
    require_range("fit_batch.memory", memory, above=0)
    require_range("fit_batch.steps", steps, at_least=2)
    words = shlex.split(train)
    with compose("train", words) as config:
        note = decide_precision(config, build_data(config.data).label_space.num_classes)
        words += [f"trainer.precision={config.trainer.precision}"] if note else []
        side, wanted, devices = config.augment.crop_size, _images_a_step(config), _devices(config.trainer)
        on_gpu = device_of(config.trainer) == "cuda"
        can_checkpoint = not config.task.checkpoint_activations and not config.task.compile
    if wanted % devices:
        raise AtrousError(f"{wanted} images a step cannot be shared by {devices} devices: change data.batch_size")
    limit = None if on_gpu and memory is None else int(_SHARE * free_memory() if memory is None else memory * 2**30)
    if note is not None:
        say(console, note)
    room = "the GPU's memory" if limit is None else f"{limit / 2**30:.1f} GiB"
    say(console, f"batches of up to {largest} images of {side}x{side} in {room}; the recipe has {wanted} a step")
    trials: list[Trial] = []

    def fits(batch: int) -> bool:
        trials.append(try_batch(words, batch, steps=steps, memory=limit, on_gpu=on_gpu))
        say(console, _describe(trials[-1]))
        return trials[-1].fits

    share = wanted // devices
    smallest = min(2, share, largest)  # image pooling cannot train its batch norm on a single image
    found = largest_that_fits(fits, smallest, largest)
    advice = ", or task.checkpoint_activations=true" if can_checkpoint else ""
    if found == 0:
        raise AtrousError(
            f"not even {smallest} images of {side}x{side} fit into {room}: choose a smaller augment.crop_size or "
            f"backbone{advice}"
        )
    batch = max((size for size in range(smallest, min(found, share) + 1) if share % size == 0), default=None)
    if batch is None:
        raise AtrousError(
            f"{found} images fit on a device, but no number from {smallest} to {found} divides the recipe's {share}: "
            "choose another data.batch_size"
        )
    settings = [f"data.batch_size={batch * devices}", f"trainer.accumulate_grad_batches={share // batch}"]
    say(console, f"{found} images fit on a device{' at least' if found == largest else ''}; {wanted} a step are")
    say(console, f"  {' '.join(settings)}")
    if batch < share:
        seen = f"batch norms then see {batch} images instead of {share}"
        say(console, f"  {seen}: take a smaller augment.crop_size{advice} to change that")
    return {
        "largest": found,
        "settings": settings,
        "memory": limit,
        "trials": [vars(trial) for trial in trials],
    }


def largest_that_fits(fits: Callable[[int], bool], smallest: int, largest: int) -> int:
    """The largest number that fits, if all below it do; 0 if not even the smallest does.

    Args:
        fits: Asked for at most two numbers per binary digit of ``largest``.
        smallest: The first number that is tried.
        largest: The last one.
    """
    fitting, failing = 0, largest + 1
    number = smallest
    while True:
        if fits(number):
            fitting = number
        else:
            failing = number
        if failing - fitting == 1 or fitting == 0:
            return fitting
        number = min(2 * fitting, largest) if failing > largest else (fitting + failing) // 2


def _images_a_step(config: Config) -> int:
    return int(config.data.batch_size) * int(config.trainer.accumulate_grad_batches)


def _devices(trainer: Config) -> int:
    devices = trainer.devices
    if isinstance(devices, int) and devices > 0:
        each = devices
    elif isinstance(devices, Sequence) and not isinstance(devices, str):
        each = len(devices)
    else:  # auto, or all
        each = torch.cuda.device_count() if device_of(trainer) == "cuda" else 1
    return max(1, each) * int(trainer.num_nodes)


def _describe(trial: Trial) -> str:
    images = f"{trial.batch} images"
    if trial.bytes is None or trial.seconds is None:
        return f"{images}: too many"
    speed = f"{trial.bytes / 2**30:.2f} GiB, {trial.seconds:.2f} s a step, {trial.batch / trial.seconds:.1f} images/s"
    return f"{images}: {speed}{'' if trial.fits else ', too many'}"
