"""An exported file as a network that inference, prediction and evaluation take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.checkpoints import Card
from atrous.checkpoints.load import load_segmentor
from atrous.errors import AtrousError
from atrous.exports.description import Description
from atrous.exports.file_format import FileFormat, Run
from atrous.exports.onnx_format import Onnx
from atrous.exports.openvino_format import OpenVino
from atrous.geometry import Grid, size_of
from atrous.models import Network
from atrous.models.logit_map import LogitMap
from atrous.models.upsamplers import Bilinear

_SURE = 100.0
"""Logit of a label above all others."""
_FORMATS: dict[str, type[FileFormat]] = {each.suffix: each for each in (Onnx, OpenVino)}
SUFFIXES = tuple(_FORMATS)
"""Of files that stand in for checkpoints."""


class ExportedNetwork(Network):
    """A network that another program runs, on the CPU.

    Args:
        run: Runs it.
        description: What its file says about it.
        where: Name of the file.
        labels: Whether labels alone will do, each as one that is sure.

    Raises:
        AtrousError: It gives nothing that can be averaged, scored or refined.
    """

    def __init__(self, run: Run, description: Description, where: str, *, labels: bool = False) -> None:
        super().__init__()
        if description.result == "labels" and not labels:
            raise AtrousError(
                f"{where} gives labels alone, without what they were chosen by: export the checkpoint with "
                "format.result=logits or format.result=probabilities"
            )
        self._run = run
        self._description = description
        self._where = where
        self.num_classes = description.card.label_space.num_classes
        self.input_scales = description.input_scales
        self.crf = None
        self.precision = description.precision
        self.register_buffer("mean", description.mean.view(1, 3, 1, 1), persistent=False)
        self._upsampler = Bilinear(grid=self.grid, num_classes=self.num_classes)

    @property
    def grid(self) -> Grid:
        """Where features lie in the image."""
        return self._description.grid

    @property
    def output_stride(self) -> int | None:
        """Stride of the backbone's last feature map."""
        return self._description.output_stride

    def logit_map(self, image: Tensor) -> LogitMap:
        """Run the network; all logits are computed at once, and those between pixels are interpolated.

        Args:
            image: B×3×H×W, RGB, 0…255; what lies between whole numbers is rounded.

        Raises:
            AtrousError: The images do not have the size that the file is for, another precision is asked for, or
                the file gives something else than it says.
        """
        if torch.is_autocast_enabled(image.device.type):
            raise AtrousError(f"{self._where} computes in {self.precision} for good: leave precision as it is")
        size = size_of(image)
        if self._description.size not in (None, size):
            height, width = self._description.size or size
            raise AtrousError(
                f"{self._where} takes images of {height}×{width} pixels, not of {size[0]}×{size[1]}: set "
                f"inference=padded inference.size=[{height},{width}], or inference=stretched with that size"
            )
        pixels = image if image.dtype == torch.uint8 else image.round().clamp(0, 255).to(torch.uint8)
        result = torch.from_numpy(self._run(pixels.cpu().numpy())).to(image.device)
        logits = self._logits(result)
        due = (len(image), self.num_classes, *size)
        if logits.shape != due:
            raise AtrousError(f"{self._where} gives {list(logits.shape)} where {list(due)} are due: it is damaged")
        return LogitMap(logits, self._upsampler, num_classes=self.num_classes, grid=self.grid, size=size, extended=size)

    def _logits(self, result: Tensor) -> Tensor:
        if self._description.result == "labels":
            return _SURE * F.one_hot(result.long(), self.num_classes).movedim(-1, 1).float()
        if self._description.result == "probabilities":
            return result.clamp(min=torch.finfo(result.dtype).tiny).log()
        return result


def load_network(path: Path, *, output_stride: int | None = None, trust: Sequence[str] = ()) -> tuple[Network, Card]:
    """The network of a checkpoint or of an exported file, and its card.

    Args:
        path: A checkpoint of ours, or an exported file ``.onnx`` or ``.xml``.
        output_stride: 8, 16 or 32; ``None`` for the one that it has.
        trust: Packages whose classes a checkpoint may name besides ours.

    Raises:
        AtrousError: The file is missing, damaged or not ours; or the output stride is impossible.
    """
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        return load_segmentor(path, output_stride=output_stride, trust=trust)
    run, said = form.load(path)
    description = Description.from_json(said, str(path))
    network = ExportedNetwork(run, description, str(path))
    if output_stride not in (None, network.output_stride):
        raise AtrousError(
            f"{path} has output stride {network.output_stride} for good: export the checkpoint again with "
            f"output_stride={output_stride}"
        )
    return network.eval(), description.card
