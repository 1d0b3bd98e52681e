"""The network of a genotype, as a backbone (Auto-DeepLab §4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid
from atrous.models.backbones.backbone import Backbone, FeatureSpec
from atrous.models.backbones.pretrained import load_fitting, read_pretrained_file
from atrous.models.nas.cell import Cell
from atrous.models.nas.genotype import STRIDES, Genotype
from atrous.models.nas.stem import CHANNELS, MEAN, Stem, sizes_from

WIDTHS = {"S": 20, "M": 32, "L": 48}
"""F of table 2: a block at stride s has F·s/4 channels."""


class AutoDeepLab(Backbone):
    """Stem and cells of a found network. There are no ImageNet weights for it; the paper trains it from scratch.

    Features are, for each stride up to that of the last cell, the last map of that stride before the last cell, from
    the stem's on; then what the last cell gives. Of the paper's network these are the maps of stride 2 and 4, one of
    stride 8, and the last, of stride 8 too.

    Args:
        genotype: What was found: a ``Genotype``, plain data of one, or a YAML file.
        size: S, M or L of table 2 (F = 20, 32 or 48), or F itself.
        stem: Channels of the stem's three convolutions.
        output_stride: That of the genotype, the only one there is; ``None`` not to say it.
        pretrained: ``False`` for random weights, or a file with a state dict of this network.
        drop_path: Probability at which the last cell leaves out an operation's result at the end of training (Scheduled
            Drop Path); less in earlier cells and before, 0 for never.

    Raises:
        AtrousError: The genotype is none, a value is impossible, or the weights do not fit.
    """

    mean = MEAN
    std = MEAN
    grid = Grid.POINTS

    def __init__(
        self,
        *,
        genotype: Genotype | Mapping[str, Any] | str | Path,
        size: str | int = "S",
        stem: Sequence[int] = CHANNELS,
        output_stride: int | None = None,
        pretrained: bool | str = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(size, str) and size not in WIDTHS:
            raise AtrousError(f"backbone.size={size} is unknown; choose {', '.join(WIDTHS)}, or a number of channels F")
        width = WIDTHS[size] if isinstance(size, str) else size
        require_range("backbone.size", width, at_least=1)
        require_range("backbone.drop_path", drop_path, at_least=0, below=1)
        self.genotype = Genotype.of(genotype)
        if output_stride is not None:
            self.set_output_stride(output_stride)
        self.drop_path = drop_path
        self.progress = 0.0
        self.stem = Stem(stem)
        self.cells = nn.ModuleList()
        channels = list(self.stem.channels)  # of every map so far
        strides = [STRIDES[0] // 2, STRIDES[0]]
        for stride in self.genotype.strides:
            cell = width * stride // STRIDES[0]
            self.cells.append(
                Cell(
                    self.genotype.blocks,
                    first=channels[-1],
                    second=channels[-2],
                    channels=cell,
                    reduces=stride > strides[-1],
                )
            )
            channels.append(len(self.genotype.blocks) * cell)
            strides.append(stride)
        names = ["stem.stride2", "stem.stride4", *(f"cells.{layer}" for layer in range(len(self.cells)))]
        last = len(names) - 1
        places = [max((i for i in range(last) if strides[i] == stride), default=-1) for stride in (2, *STRIDES)]
        self._taps = [place for place in places if place >= 0 and strides[place] <= strides[last]] + [last]
        if pretrained is True:
            raise AtrousError(
                "there are no ImageNet weights for Auto-DeepLab, which the paper trains from scratch: set "
                "backbone.pretrained=false, or to a file with weights of its own"
            )
        if isinstance(pretrained, str):
            load_fitting(self, read_pretrained_file(pretrained), source=pretrained, backbone="auto_deeplab")
        self._features = tuple(FeatureSpec(channels[tap], strides[tap], names[tap], strides[tap]) for tap in self._taps)

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """One map a stride, and the last cell's."""
        return self._features

    @property
    def output_stride(self) -> int:
        """Stride of the last cell."""
        return self.genotype.strides[-1]

    @property
    def native_stride(self) -> int:
        """Stride of the last cell."""
        return self.output_stride

    @property
    def extension(self) -> int:
        """The coarsest stride on the path."""
        return max(self.genotype.strides)

    def set_output_stride(self, output_stride: int) -> None:
        """Refuse all but the genotype's own: strides are what the search has found.

        Raises:
            AtrousError: It is another one.
        """
        if output_stride != self.output_stride:
            raise AtrousError(
                f"output stride {output_stride} is impossible for Auto-DeepLab, whose strides were searched: its "
                f"genotype ends at {self.output_stride}; leave output_stride=null"
            )

    def at_progress(self, share: float) -> None:
        """Drop more paths the further the training is."""
        self.progress = share

    def units(self) -> list[nn.Module]:
        """The cells."""
        return list(self.cells)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps of B×3×H×W normalized images."""
        maps = list(self.stem(image))
        sizes = sizes_from(maps[-1])
        before = STRIDES[0]
        for number, (cell, stride) in enumerate(zip(self.cells, self.genotype.strides, strict=True), start=1):
            drop = self.drop_path * self.progress * number / len(self.cells) if self.training else 0.0
            maps.append(cell(maps[-1], maps[-2], sizes[min(before, stride)], drop))
            before = stride
        return [maps[tap] for tap in self._taps]
