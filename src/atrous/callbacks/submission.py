"""Predictions of a split, packed as the test server of the data set takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.callbacks.scored_module import ScoredModule
from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import SegmentationDataset
from atrous.data.submission import server_format
from atrous.errors import AtrousError
from atrous.geometry import Size
from atrous.terminal import open_console, say


class Submission(Callback):
    """Writes ``submission/<data set>_<split>.tar.gz`` or ``.zip`` into the run's folder in test, and checks it.

    The masks lie beside the archive, in the folders that they have in it; every process writes those of its own images,
    and the first one packs all of them, in the order of the data set's list.

    Args:
        run_dir: The run's folder.

    Attributes:
        archive: What was written last.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.archive: Path | None = None
        self._folder = Path(run_dir) / "submission"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a data set that no server takes before anything is computed.

        Raises:
            AtrousError: No server is known for the classes, or the images have another size than it asks for, or are
                shrunk.
        """
        dataset = _dataset(trainer)
        form = server_format(dataset.label_space)
        if dataset.shrink != 1:
            raise AtrousError(
                f"a test server takes masks of the images' own size, not of 1/{dataset.shrink}: set data.shrink=1"
            )
        form.require_sizes(_sizes(dataset))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the masks of a batch."""
        dataset = _dataset(trainer)
        form, protocol = server_format(dataset.label_space), str(cast("ScoredModule", pl_module).protocol("test"))
        for name, labels in zip(batch["name"], outputs["prediction"].cpu().numpy(), strict=True):
            form.write(self._folder, dataset.split, name, labels, protocol=protocol)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pack and check.

        Raises:
            AtrousError: The archive is not what the server takes.
        """
        trainer.strategy.barrier("submission")
        if not trainer.is_global_zero:
            return
        dataset = _dataset(trainer)
        form = server_format(dataset.label_space)
        archive = self._folder / f"{dataset.label_space.name}_{dataset.split}{form.suffix}"
        form.pack(self._folder, archive, dataset.split, dataset.names)
        form.verify(archive, dataset.split, _sizes(dataset))
        self.archive = archive
        say(open_console(), f"submission of {len(dataset)} masks, checked: {archive}")


def _dataset(trainer: Trainer) -> SegmentationDataset:
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, SegmentationDataModule):
        raise AtrousError("a submission needs a SegmentationDataModule, which knows the names of the images")
    return data.dataset("test")


def _sizes(dataset: SegmentationDataset) -> dict[str, Size]:
    return {name: dataset.image_size(index) for index, name in enumerate(dataset.names)}
