"""One small interface for what is not a number: panels, tables and figures, for every logger that takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray

Cell = str | int | float | None


class ImageLogger(Protocol):
    """Takes what callbacks draw; ``step`` is the number of training steps done."""

    def log_panel(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Log an image: RGB uint8 H×W×3."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table; every row has one cell per column."""

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a matplotlib figure."""


class TensorBoardImages:
    """Images and figures as they are, tables as Markdown text.

    Args:
        logger: Where they go.
    """

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._logger = logger

    def log_panel(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Log an image: RGB uint8 H×W×3."""
        self._logger.experiment.add_image(name, image, global_step=step, dataformats="HWC")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table; every row has one cell per column."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(map(_as_text, line)) + " |" for line in lines)
        self._logger.experiment.add_text(name, text, global_step=step)

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a matplotlib figure."""
        self._logger.experiment.add_figure(name, figure, global_step=step, close=False)


class WeightsAndBiasesImages:
    """Images, tables and figures of W&B.

    Args:
        logger: Where they go.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def log_panel(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Log an image: RGB uint8 H×W×3."""
        import wandb

        self._log(name, wandb.Image(image), step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table; every row has one cell per column."""
        import wandb

        self._log(name, wandb.Table(columns=list(columns), data=[list(row) for row in rows]), step)

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a matplotlib figure."""
        import wandb

        self._log(name, wandb.Image(figure), step)

    def _log(self, name: str, value: Any, step: int) -> None:
        self._logger.experiment.log({name: value, "trainer/global_step": step})


def image_loggers(loggers: Iterable[Logger]) -> list[ImageLogger]:
    """Those of a trainer's loggers that can show images, each behind the common interface.

    Args:
        loggers: Usually all that the trainer has; loggers that hold numbers only are left out.
    """
    found: list[ImageLogger] = []
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            found.append(WeightsAndBiasesImages(logger))
        elif isinstance(logger, TensorBoardLogger):
            found.append(TensorBoardImages(logger))
    return found


def _as_text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
