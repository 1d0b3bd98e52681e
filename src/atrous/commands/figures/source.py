"""Images and networks that figures are drawn from: real ones where they are, shapes otherwise."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from atrous.checkpoints.load import load_segmentor
from atrous.checkpoints.recipe import build_data_module
from atrous.commands.prepare.tasks import import_weights
from atrous.commands.sweep.plan import arms_of
from atrous.composition import compose
from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.label_space import LabelSpace
from atrous.data.sets import VOC2012, Shapes
from atrous.errors import AtrousError
from atrous.inference import WholeImage
from atrous.models import Segmentor
from atrous.places import command, quoted
from atrous.runs import CHECKPOINTS, newest_run

_WEIGHTS = Path("weights") / "deeplabv3_257_mv_gpu.tflite"
_DEVKIT = Path("data") / "VOCdevkit"


class Missing(AtrousError):
    """There is no network, or there are no images, to draw a figure from."""


class Source:
    """Images and networks for figures.

    Args:
        real: Folder with ``data/VOCdevkit`` and ``weights/deeplabv3_257_mv_gpu.tflite``; both may be missing.
        ckpt_path: Checkpoint or run folder of the network; ``None`` for those weights, or the newest demo.
        runs: Folder of runs, where the demo is looked for.
        sweeps: Folder of sweeps, where the networks that figures compare are looked for.
    """

    def __init__(self, real: str | Path, *, ckpt_path: str | None = None, runs: str | Path, sweeps: str | Path) -> None:
        self._real = Path(real)
        self._ckpt_path = ckpt_path
        self._demo = Path(runs) / "demo"
        self._sweeps = Path(sweeps)

    @functools.cached_property
    def images(self) -> SegmentationDataset:
        """Images with their truth: VOC's validation images, or shapes."""
        if (self._real / _DEVKIT).is_dir():
            return VOC2012("val", root=self._real / _DEVKIT)
        return Shapes("val", size=257, lengths={"train": 1, "val": 60, "test": 1})

    @functools.cached_property
    def _loaded(self) -> tuple[Segmentor, LabelSpace]:
        """Network and classes."""
        if self._ckpt_path is not None:
            segmentor, card = load_segmentor(self._ckpt_path)
            return segmentor, card.label_space
        if (self._real / _WEIGHTS).is_file():
            with tempfile.TemporaryDirectory() as folder:
                out = str(Path(folder) / "imported.ckpt")
                import_weights.run(Console(quiet=True), source="tflite", path=str(self._real / _WEIGHTS), out=out)
                segmentor, card = load_segmentor(out)
            return segmentor, card.label_space
        run = newest_run(self._demo)
        if run is None:
            raise Missing(
                f"this figure looks at a network, and there is none: train one with `{command('train')} "
                "experiment=demo`, or give ckpt_path=<run folder>"
            )
        segmentor, card = load_segmentor(run)
        return segmentor, card.label_space

    @property
    def network(self) -> Segmentor:
        """A trained network.

        Raises:
            AtrousError: There is none.
        """
        return self._loaded[0]

    @property
    def classes(self) -> LabelSpace:
        """What the network's classes are."""
        return self._loaded[1]

    @functools.cached_property
    def seen(self) -> SegmentationDataset:
        """Images whose classes the network knows.

        Raises:
            AtrousError: There are none.
        """
        for dataset in (self.images, Shapes("val", size=129, lengths={"train": 1, "val": 60, "test": 1})):
            if dataset.label_space.classes == self.classes.classes:
                return dataset
        raise Missing(f"there are no images of {self.classes.name} to show: give a network of VOC or of shapes")

    def trained(self, sweep: str, arm: str) -> tuple[Segmentor, SegmentationDataset]:
        """The network of an arm of a sweep on shapes, with seed 0, and the images that it was scored on.

        Raises:
            Missing: It has not been trained, or its checkpoint was not kept.
        """
        with compose("sweep", [f"sweep={sweep}", f"arms=[{quoted(arm)}]"]) as config:
            (found,) = arms_of(config)
            folder = found.folder(self._sweeps / "runs", 0)
        last = folder / CHECKPOINTS / "last.ckpt"
        if not last.is_file():
            raise Missing(
                f"the arm {arm!r} of sweep={sweep} has no checkpoint for seed 0: train it with "
                f"`{command('sweep')} sweep={sweep}`"
            )
        segmentor, card = load_segmentor(last)
        return segmentor, build_data_module(card.recipe["data"]).dataset("val")

    @torch.inference_mode()
    def probabilities(self, sample: RawSample) -> Tensor:
        """What the network says about an image: 1×C×H×W."""
        return WholeImage()(self.network, image_of(sample))


def image_of(sample: RawSample) -> Tensor:
    """The image of a sample as networks take it: uint8 1×3×H×W."""
    return torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))[None]


def largest_class(mask: NDArray[np.uint8], *, background: int = 0) -> int:
    """The class with most pixels besides the background and void."""
    counts = np.bincount(mask[(mask != 255) & (mask != background)], minlength=1)
    return int(counts.argmax()) if counts.any() else background
