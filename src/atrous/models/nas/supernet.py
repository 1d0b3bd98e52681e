"""The network that holds all others: every path of the trellis, every operation on every edge (Auto-DeepLab §3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, Size
from atrous.models.backbones.backbone import Backbone, FeatureSpec
from atrous.models.nas.architecture import Architecture
from atrous.models.nas.decoding import decode
from atrous.models.nas.genotype import STRIDES, Genotype, Operation, source_name
from atrous.models.nas.mixed_cell import MixedCell
from atrous.models.nas.mixture import OPERATIONS, Chosen
from atrous.models.nas.stem import CHANNELS, MEAN, Stem, sizes_from
from atrous.models.nas.trellis import Trellis, neighbors

Sampling = Literal["all", "gumbel"]

Maps = Mapping[int, Tensor]
"""Feature maps by stride."""


@dataclass(frozen=True)
class _Plan:
    """What one forward pass computes.

    Attributes:
        operations: Weights of the operations, a row an edge.
        chosen: The operations of every edge that are computed; ``None`` for all.
        path: Strides of the only cells that are computed, a layer each; ``None`` for all cells.
        steps: Weights of going on: layers×strides×3 for all cells, one number a step of the path, or ``None`` for 1.
    """

    operations: Tensor
    chosen: tuple[tuple[Operation, ...], ...] | None = None
    path: tuple[int, ...] | None = None
    steps: Tensor | Sequence[Tensor] | None = None


class _Use(NamedTuple):
    """One cell in one forward pass.

    Attributes:
        before: Stride of its first input.
        second: Stride of its second input.
        stride: Its own.
        weight: Weight of its result; ``None`` for 1.
    """

    before: int
    second: int
    stride: int
    weight: Tensor | None


class Supernet(Backbone):
    """Stem and a trellis of cells, each of which mixes all operations on all its edges.

    A cell takes what the layer before gives at half, the same and twice its stride, and what the layer before that
    gives at its own stride; where that is missing in the first layers, the map nearest in size. Each of the three has
    weights of its own; alpha is shared by all.

    With ``sampling="gumbel"`` a training step computes one path with one operation an edge, drawn by alpha and beta.
    A cell's second input is then what the path has given two layers before, whatever its stride. In evaluation such a
    network is the one that alpha and beta decode to.

    Features are what the last layer gives at each stride; one that is not computed is a map of no images.

    Args:
        layers: Layers of the trellis.
        width: F: a block at stride s has F·s/4 channels.
        blocks: Blocks of a cell.
        stem: Channels of the stem's three convolutions.
        sampling: ``all`` to compute everything, or ``gumbel``.
        temperature: Of the Gumbel softmax through which gradients of a sample pass.
        partial_channels: Mix operations on one of so many channels, and pass the others on (PC-DARTS, arXiv
            1907.05737).

    Raises:
        AtrousError: A number is impossible.

    Attributes:
        architecture: Alpha and beta.
        held: The genotype that the network computes alone; ``None`` for what ``sampling`` says.
    """

    mean = MEAN
    std = MEAN
    grid = Grid.POINTS

    def __init__(
        self,
        *,
        layers: int = 12,
        width: int = 8,
        blocks: int = 5,
        stem: Sequence[int] = CHANNELS,
        sampling: Sampling = "all",
        temperature: float = 1.0,
        partial_channels: int = 1,
    ) -> None:
        super().__init__()
        require_range("search.layers", layers, at_least=1)
        require_range("search.width", width, at_least=1)
        require_range("search.blocks", blocks, at_least=1)
        require_range("search.temperature", temperature, above=0)
        require_range("search.partial_channels", partial_channels, at_least=1)
        if sampling not in ("all", "gumbel"):
            raise AtrousError(f"search.sampling={sampling} is unknown; choose all or gumbel")
        if width % partial_channels:
            raise AtrousError(
                f"search.partial_channels={partial_channels} does not divide search.width={width}: choose a divisor"
            )
        self.width = width
        self.blocks = blocks
        self.sampling = sampling
        self.temperature = temperature
        self.held: Genotype | None = None
        self.trellis = Trellis(layers)
        self.architecture = Architecture(self.trellis, blocks)
        self.stem = Stem(stem)
        channels = {(layer, stride): self._channels(stride) for layer in range(layers) for stride in STRIDES}
        channels |= {(-1, STRIDES[0]): self.stem.channels[1], (-2, STRIDES[0] // 2): self.stem.channels[0]}
        self.layers = nn.ModuleList()
        for layer in range(layers):
            cells = {
                _step(before, stride): MixedCell(
                    blocks=blocks,
                    first=channels[layer - 1, before],
                    seconds={each: channels[layer - 2, each] for each in self._seconds(layer, before, stride)},
                    channels=self._channels(stride) // blocks,
                    reduces=stride > before,
                    partial_channels=partial_channels,
                )
                for stride in self.trellis.strides(layer)
                for before in self.trellis.before(layer, stride)
            }
            self.layers.append(_Layer(cells))

    def _channels(self, stride: int) -> int:
        return self.blocks * self.width * stride // STRIDES[0]

    def _second(self, layer: int, stride: int) -> int:
        """Stride of the second input of a cell: its own, or the nearest that there is two layers before."""
        if layer == 0:
            return STRIDES[0] // 2
        return min(self.trellis.strides(layer - 2), key=lambda each: abs(math.log2(each / stride)))

    def _seconds(self, layer: int, before: int, stride: int) -> Iterable[int]:
        """Strides that the second input of a cell may have."""
        if self.sampling == "all" or layer <= 1:
            return (self._second(layer, stride),)
        return tuple(each for each in self.trellis.strides(layer - 2) if each in neighbors(before))

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What the last layer gives, fine to coarse."""
        last = self.trellis.layers - 1
        return tuple(
            FeatureSpec(self._channels(stride), stride, f"layers.{last} stride {stride}", stride)
            for stride in self.trellis.strides(last)
        )

    @property
    def output_stride(self) -> int:
        """The coarsest stride."""
        return self.features[-1].stride

    @property
    def native_stride(self) -> int:
        """The coarsest stride."""
        return self.output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Refuse all but the coarsest stride: strides are what is searched.

        Raises:
            AtrousError: It is another one.
        """
        if output_stride != self.output_stride:
            raise AtrousError(
                f"output stride {output_stride} is impossible for a network that is being searched: it has all "
                f"strides to {self.output_stride}; leave output_stride=null"
            )

    def units(self) -> list[nn.Module]:
        """The layers of the trellis."""
        return list(self.layers)

    def hold(self, genotype: Genotype | None) -> None:
        """Compute one network alone, with the weights that are here; ``None`` for all again.

        A second input of a stride that has no weights here counts as nothing, which is what the formula for cells
        gives where beta is 0 or 1.

        Raises:
            AtrousError: The network is not part of this one.
        """
        if genotype is not None:
            self._require_part(genotype)
        self.held = genotype

    def _require_part(self, genotype: Genotype) -> None:
        if (len(genotype.strides), len(genotype.blocks)) != (self.trellis.layers, self.blocks):
            raise AtrousError(
                f"the genotype has {len(genotype.strides)} layers and {len(genotype.blocks)} blocks, the searched "
                f"network {self.trellis.layers} and {self.blocks}"
            )
        if genotype.strides[0] != STRIDES[0]:
            raise AtrousError(f"the genotype begins at stride {genotype.strides[0]}, the searched network at 4")
        for number, block in enumerate(genotype.blocks, start=1):
            if block[0] == block[1]:
                raise AtrousError(
                    f"block {number} of the genotype has {block[0].operation} on {source_name(block[0].source)} twice; "
                    "the searched network has it once"
                )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute what the last layer gives for B×3×H×W normalized images."""
        plan = self._plan()
        half, quarter = self.stem(image)
        sizes = sizes_from(quarter)
        seconds: Maps = {STRIDES[0] // 2: half}
        firsts: Maps = {STRIDES[0]: quarter}
        for number, layer in enumerate(self.layers):
            cells = list(self._cells(plan, number))
            seconds, firsts = firsts, layer(firsts, seconds, cells, sizes, plan.operations, plan.chosen)
        return [
            firsts[spec.stride] if spec.stride in firsts else _nothing(next(iter(firsts.values())), spec, sizes)
            for spec in self.features
        ]

    def _plan(self) -> _Plan:
        held = self.held
        if held is None and self.sampling == "gumbel":
            if self.training:
                operations = self.architecture.sample_operations(self.temperature)
                chosen = tuple((OPERATIONS[column],) for column in operations.argmax(dim=1).tolist())
                path, steps = self.architecture.sample_path(self.temperature)
                return _Plan(operations, chosen, path, steps)
            held = decode(self.architecture)
        if held is None:
            return _Plan(self.architecture.operation_weights(), steps=self.architecture.path_weights())
        table: dict[tuple[int, int], tuple[Operation, ...]] = {}
        for number, block in enumerate(held.blocks):
            for branch in block:
                table[number, branch.source] = (*table.get((number, branch.source), ()), branch.operation)
        return _Plan(
            torch.ones_like(self.architecture.alpha),
            tuple(table.get(edge, ()) for edge in self.architecture.edges),
            held.strides,
        )

    def _cells(self, plan: _Plan, layer: int) -> Iterator[_Use]:
        """The cells of a layer that are computed."""
        steps = plan.steps if layer else None  # from the stem there is one way
        if plan.path is not None:
            second, before, stride = (STRIDES[0] // 2, STRIDES[0], *plan.path)[layer : layer + 3]
            yield _Use(before, second, stride, None if steps is None else steps[layer - 1])
            return
        for stride in self.trellis.strides(layer):
            for before in self.trellis.before(layer, stride):
                place = (STRIDES.index(before), neighbors(before).index(stride))
                weight = None if steps is None else steps[layer - 1][place]
                yield _Use(before, self._second(layer, stride), stride, weight)


class _Layer(nn.Module):
    """The cells of a layer: what is computed again on the way back if memory is scarce."""

    def __init__(self, cells: Mapping[str, MixedCell]) -> None:
        super().__init__()
        self.cells = nn.ModuleDict(cells)

    def forward(
        self,
        firsts: Maps,
        seconds: Maps,
        cells: Sequence[_Use],
        sizes: Mapping[int, Size],
        operations: Tensor,
        chosen: Chosen | None,
    ) -> dict[int, Tensor]:
        """Compute what the layer gives, by stride."""
        given: dict[int, Tensor] = {}
        for before, second, stride, weight in cells:
            cell, size = self.cells[_step(before, stride)], sizes[min(before, stride)]
            result = cell(firsts[before], seconds[second], second, size, operations, chosen)
            result = result if weight is None else result * weight.to(result.dtype)
            given[stride] = given[stride] + result if stride in given else result
        return given


def _step(before: int, stride: int) -> str:
    return f"{before} to {stride}"


def _nothing(like: Tensor, spec: FeatureSpec, sizes: Mapping[int, Size]) -> Tensor:
    return like.new_empty(0, spec.channels, *sizes[spec.stride])
