"""Some training steps in a process of their own, to see what memory they take."""

from __future__ import annotations

import logging
import multiprocessing
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from atrous.composition import Config, build, compose
from atrous.composition.parts import build_data, build_untrained_task
from atrous.errors import AtrousError
from atrous.memory import keep_freed_memory, peak_memory, resident_memory

_BETWEEN_LOOKS = 0.05  # seconds
_KILLED = -9  # by the system, as a last resort


@dataclass(frozen=True)
class Trial:
    """What some training steps took.

    Attributes:
        batch: Images of a step.
        fits: Whether they stayed within the memory.
        bytes: The most memory that they took; ``None`` if they were stopped before the end.
        seconds: Time of the last step; ``None`` likewise.
    """

    batch: int
    fits: bool
    bytes: int | None = None
    seconds: float | None = None


def try_batch(words: Sequence[str], batch: int, *, steps: int, memory: int | None, on_gpu: bool) -> Trial:
    """Train for some steps on random images, and give all memory back.

    The steps are those of training: network, loss, optimizer, precision and clipping are the configuration's. Callbacks
    and loggers are left out, weights are random, and one device stands for all.

    Args:
        words: Overrides of the training configuration.
        batch: Images of a step.
        steps: Optimizer steps; from the second on, the optimizer has its state.
        memory: Bytes that they may take; ``None`` for all that a GPU has.
        on_gpu: Whether that is the memory of a GPU.

    Raises:
        AtrousError: Training fails for another reason than memory.
    """
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_report, args=(theirs, tuple(words), batch, steps, memory), daemon=True)
    process.start()
    theirs.close()
    said: dict[str, Any] = {}
    try:
        stopped = _takes_too_much(process, ours, None if on_gpu else memory)
        if not stopped:
            try:
                said = ours.recv()
            except EOFError:  # it ends by itself, and its status tells why
                process.join(timeout=10)
    finally:
        process.kill()
        process.join()
        ours.close()
    if "error" in said:
        raise AtrousError(said["error"])
    if stopped or said.get("out_of_memory") or (not said and process.exitcode == _KILLED):
        return Trial(batch, fits=False)
    if not said:
        raise AtrousError(
            f"a trial with {batch} images ended with status {process.exitcode} and no reason; try the same settings "
            "with src/train.py"
        )
    return Trial(batch, fits=memory is None or said["bytes"] <= memory, bytes=said["bytes"], seconds=said["seconds"])


def _takes_too_much(process: Any, connection: Connection, memory: int | None) -> bool:
    """Wait for a process's report or its end, or until it has more memory than it may."""
    while not connection.poll(_BETWEEN_LOOKS) and process.is_alive():
        taken = resident_memory(process.pid)
        if memory is not None and taken is not None and taken > memory:
            return True
    return False


def _report(connection: Connection, words: Sequence[str], batch: int, steps: int, memory: int | None) -> None:
    """What the process does."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with suppress(OSError):  # if the system has to end a process, let it be this one
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    try:
        with compose("train", words) as config:
            connection.send(_train(config, batch, steps, memory))
    except AtrousError as error:
        connection.send({"error": str(error)})
    except (MemoryError, RuntimeError) as error:  # of PyTorch, torch.OutOfMemoryError on a GPU
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        connection.send({"out_of_memory": True})


def _train(config: Config, batch: int, steps: int, memory: int | None) -> dict[str, Any]:
    data = build_data(config.data)
    task = build_untrained_task(config, data)
    watch = _Watch(steps)
    trainer: Trainer = build(
        config.trainer,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        devices=1,
        num_nodes=1,
        strategy="auto",
        sync_batchnorm=False,
        accumulate_grad_batches=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    device = trainer.strategy.root_device
    if device.type != "cuda":
        keep_freed_memory()
    elif memory is not None:
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.memory.set_per_process_memory_fraction(min(1.0, memory / whole), device)
    side = int(config.augment.crop_size)
    images = {
        "image": torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8),
        "mask": torch.randint(0, data.label_space.num_classes, (batch, side, side), dtype=torch.uint8),
    }
    trainer.fit(task, train_dataloaders=_Batches([images] * steps))
    taken = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_memory()
    return {"bytes": taken, "seconds": watch.seconds}


class _Batches(list[dict[str, Tensor]]):
    """What Lightning takes for one loader; a plain list it would take for several."""


class _Watch(Callback):
    """Stops training after some steps, whatever the length of its schedule, and times the last of them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._synchronize(pl_module)
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, and the training after its last step."""
        self._synchronize(pl_module)
        self.seconds = time.perf_counter() - self._start
        trainer.should_stop = batch_idx + 1 >= self.steps

    def _synchronize(self, module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
