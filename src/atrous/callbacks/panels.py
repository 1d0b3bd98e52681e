"""Pictures of the same few validation images, redrawn after every validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image

from atrous.callbacks.scored_module import ScoredModule
from atrous.errors import require_range
from atrous.loggers import image_loggers
from atrous.reports import contact_sheet, panel


class Panels(Callback):
    """Draws input, truth, prediction and error of the first validation images.

    Writes ``panels/step_000123.png`` (123 = steps done) and a copy, ``panels/latest.png``, and hands the picture to
    every logger that shows images. Only the first process draws; validation before training (the sanity check) is left
    out.

    Args:
        run_dir: Folder of the run.
        count: Number of images.
        every_n_validations: Draw after every n-th validation; the first one is always drawn.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(self, run_dir: str | Path, *, count: int = 4, every_n_validations: int = 1) -> None:
        require_range("callbacks.panels.count", count, at_least=1)
        require_range("callbacks.panels.every_n_validations", every_n_validations, at_least=1)
        self._folder = Path(run_dir) / "panels"
        self._count = count
        self._every = every_n_validations
        self._validations = 0
        self._drawn: dict[int, NDArray[np.uint8]] = {}  # by place in the data set's list

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the pictures of the last validation."""
        self._drawn = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the images of this batch that are among the first ones."""
        if trainer.sanity_checking or not trainer.is_global_zero or self._validations % self._every:
            return
        module = cast("ScoredModule", pl_module)
        for place, number in enumerate(batch["index"]):
            if number // trainer.world_size < self._count:  # this process has every ``world_size``-th image
                self._drawn[number] = _draw(module, batch, outputs, place)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pictures and hand them to the loggers."""
        if trainer.sanity_checking:
            return
        self._validations += 1
        if not self._drawn:
            return
        sheet = contact_sheet([self._drawn[number] for number in sorted(self._drawn)])
        self._drawn = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(sheet)
        for name in (f"step_{trainer.global_step:06d}.png", "latest.png"):
            picture.save(self._folder / name)
        for logger in image_loggers(trainer.loggers):
            logger.log_panel("panels", sheet, trainer.global_step)


def _draw(module: ScoredModule, batch: Mapping[str, Any], outputs: Mapping[str, Any], index: int) -> NDArray[np.uint8]:
    return panel(
        batch["image"][index],
        batch["mask"][index],
        outputs["prediction"][index],
        module.label_space,
        batch["name"][index],
    )
