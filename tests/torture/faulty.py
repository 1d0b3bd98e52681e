"""Parts of a training that fail: ``FAULT=<kind>`` says which."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import get_worker_info

from atrous.data.sets import Shapes


class FaultyShapes(Shapes):
    """Shapes whose loader process dies or hangs at the twentieth image."""

    _seen = 0

    def __getitem__(self, index: int) -> Any:
        self._seen += 1
        if self._seen == 20 and get_worker_info() is not None:
            if os.environ["FAULT"] == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ["FAULT"] == "hangs":
                time.sleep(600)
        return super().__getitem__(index)


class Clock(pl.Callback):
    """A clock that jumps back by an hour and forth by a day."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        real = _time
        time.time = lambda: real() + (-3600, 86400)[trainer.global_step % 2]


_time = time.time
