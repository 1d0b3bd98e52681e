"""One small interface for what is not a number: panels, tables and figures, for every logger that takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray

Cell = str | int | float | None


class LabeledImage(NamedTuple):
    """An image with its truth and what a network made of it.

    Attributes:
        group: What it is an example of, such as ``worst``.
        name: What identifies it within its data set.
        numbers: Whatever is known of it, by name.
        image: RGB uint8 H×W×3.
        truth: Train ids H×W.
        prediction: Train ids H×W.
        strip: All of it drawn side by side, RGB uint8.
    """

    group: str
    name: str
    numbers: Mapping[str, float]
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    strip: NDArray[np.uint8]


class ImageLogger(Protocol):
    """Takes what callbacks draw; ``step`` is the number of training steps done."""

    def log_panel(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Log an image: RGB uint8 H×W×3."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table; every row has one cell per column."""

    def log_figure(self, name: str, figure: Figure, step: int) -> None:
        """Log a matplotlib figure."""

    def log_labeled(self, name: str, images: Sequence[LabeledImage], classes: Mapping[int, str], step: int) -> None:
        """Log images with their truth and prediction; all have the same numbers, and ``classes`` names the ids."""


class TensorBoardImages:
    """Images and figures as they are, tables as Markdown text, labeled images as strips.

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

    def log_labeled(self, name: str, images: Sequence[LabeledImage], classes: Mapping[int, str], step: int) -> None:
        """Log each strip, numbered within its group."""
        for number, each in _numbered(images):
            self.log_panel(f"{name}/{each.group}_{number}", each.strip, step)


class WeightsAndBiasesImages:
    """Images, tables and figures of W&B; labeled images are rows of a table, whose masks are switched on and off.

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

    def log_labeled(self, name: str, images: Sequence[LabeledImage], classes: Mapping[int, str], step: int) -> None:
        """Log a table with a row for each image."""
        import wandb

        known = [{"id": index, "name": label} for index, label in classes.items()]
        numbers = list(images[0].numbers) if images else []
        table = wandb.Table(columns=["group", "name", "image", *numbers])
        for each in images:
            masks = {"truth": each.truth, "prediction": each.prediction}
            shown = wandb.Image(
                each.image,
                classes=known,
                masks={key: {"mask_data": mask, "class_labels": dict(classes)} for key, mask in masks.items()},
            )
            table.add_data(each.group, each.name, shown, *each.numbers.values())
        self._log(name, table, step)

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


def _numbered(images: Sequence[LabeledImage]) -> list[tuple[int, LabeledImage]]:
    """Images with their places in their groups, from 1."""
    counts: Counter[str] = Counter()
    found = []
    for each in images:
        counts[each.group] += 1
        found.append((counts[each.group], each))
    return found


def _as_text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
