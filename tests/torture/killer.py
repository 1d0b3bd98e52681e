"""A training that kills itself at the n-th moment of a kind; ``KILL=<kind>:<n>`` says which."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch

MOMENTS = {
    "writing": 6,  # a checkpoint is half written
    "renaming": 30,  # a file is whole, but has another name still
    "renamed": 30,
    "logging": 12,
    "drawing": 6,
    "validating": 5,
    "stepping": 12,
    "loading": 12,  # some milliseconds after a step
}
"""How often each kind of moment comes in the training at least."""


class Killer(pl.Callback):
    """Ends its process by SIGKILL."""

    def __init__(self) -> None:
        kind, _, number = os.environ.get("KILL", "never:0").partition(":")
        self._kind, self._left = kind, int(number)
        if kind in ("renaming", "renamed"):
            vars(os)["replace"] = self._around(os.replace, before=kind == "renaming")
        elif kind == "writing":
            torch.save = self._during(torch.save)
        elif kind == "logging":
            from atrous.loggers import metrics_csv

            metrics_csv.MetricsCSV._write_last = self._around(metrics_csv.MetricsCSV._write_last, before=True)
        elif kind == "drawing":
            from atrous.callbacks import panels

            panels._draw = self._around(panels._draw, before=False)

    def on_train_batch_start(self, *args: Any) -> None:
        if self._kind == "stepping":
            self._count()

    def on_train_batch_end(self, *args: Any) -> None:
        if self._kind == "loading" and self._is_now():
            threading.Timer(0.004, self._kill).start()

    def on_validation_batch_end(self, *args: Any) -> None:
        if self._kind == "validating":
            self._count()

    def _around(self, function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if before:
                self._count()
            result = function(*args, **options)
            if not before:
                self._count()
            return result

        return call

    def _during(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._is_now():
                threading.Timer(0.001, self._kill).start()
            return function(*args, **options)

        return call

    def _is_now(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _count(self) -> None:
        if self._is_now():
            self._kill()

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
