"""What 8 bits cost: the score of a checkpoint, and of the file that was made from it."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from atrous.data import SegmentationDataModule
from atrous.data.dataset import to_sample
from atrous.errors import AtrousError
from atrous.exports import Description, ExportedNetwork, FileFormat
from atrous.inference import Inference, Padded, WholeImage, most_probable
from atrous.metrics.segmentation_score import SegmentationScore
from atrous.models import Network
from atrous.terminal import track


def require_labels(data: SegmentationDataModule) -> None:
    """Refuse a split that nothing can be scored on.

    Raises:
        AtrousError: It has no labels.
    """
    if not data.dataset("test").labeled:
        raise AtrousError(f"{data.label_space.name} {data.split('test')} has no labels: choose another split")


def score_both(
    network: Network, path: Path, data: SegmentationDataModule, form: FileFormat, console: Console
) -> tuple[float, float]:
    """MIoU of a checkpoint's network and of an exported file, on all images of the split that is scored."""
    inference = WholeImage() if form.size is None else Padded(size=form.size)
    run, said = form.load(path)
    exported = ExportedNetwork(run, Description.from_json(said, str(path)), str(path), labels=True)
    before = _score(network, inference, data, "scoring the checkpoint", console)
    return before, _score(exported, inference, data, "scoring the file", console)


@torch.inference_mode()
def _score(network: Network, inference: Inference, data: SegmentationDataModule, what: str, console: Console) -> float:
    dataset, space = data.dataset("test"), data.label_space
    metric = SegmentationScore(space.num_classes, ignore_index=space.ignore_index)
    for index in track(range(len(dataset)), what, total=len(dataset), console=console):
        sample = to_sample(dataset[index])
        for rows, probabilities in inference.bands(network, sample["image"].unsqueeze(0)):
            metric.update(most_probable(probabilities), sample["mask"].unsqueeze(0)[:, rows].long())
    return metric.compute().miou
