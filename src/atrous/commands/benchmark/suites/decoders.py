"""Decoders of DUpsampling's tables 2 and 3: what each costs, in operations as the paper counts them and in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atrous.commands.benchmark.turns import take_turns
from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, Size
from atrous.models.backbones import FeatureMaps, FeatureSpec
from atrous.models.heads import DUpsamplingHead
from atrous.models.upsamplers import Bilinear, DUpsampling, Upsampler

CHANNELS = 256
"""Channels of the ASPP's result, which a decoder begins with."""

STRIDE = 16

_CONV1_3 = FeatureSpec(128, 2, "conv1_3")  # slim's stem
_B1U2C3 = FeatureSpec(256, 4, "b1u2c3")
_B3U6C3 = FeatureSpec(1024, 16, "b3u6c3")
_EFB2U1C2 = FeatureSpec(256, 4, "efb2u1c2")
_MFB1U16C3 = FeatureSpec(728, 16, "mfb1u16c3")


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables.

    Attributes:
        backbone: Whose maps they are.
        maps: Low-level maps, in the order of fusion.
        fusion: ``downsample``, followed by DUpsampling, or ``vanilla``, followed by interpolation.
        width: Numbers in a code of DUpsampling.
        operations: In billions, as printed.
        miou: VOC val, as printed; ``None`` where the authors ran out of memory.
    """

    backbone: str
    maps: tuple[FeatureSpec, ...]
    fusion: Literal["downsample", "vanilla"]
    width: int
    operations: float
    miou: float | None

    @property
    def name(self) -> str:
        """The row in words."""
        maps = " + ".join(each.name for each in self.maps) or "no low-level map"
        return f"{self.backbone}, {'proposed' if self.fusion == 'downsample' else 'vanilla'}, {maps}"


_R50, _X65 = "ResNet-50", "Xception-65"
ROWS = (
    Row(_R50, (), "downsample", 64, 0.80, 73.15),
    Row(_R50, (_CONV1_3,), "downsample", 64, 1.13, 72.70),
    Row(_R50, (_B1U2C3,), "downsample", 64, 1.15, 74.03),
    Row(_R50, (_B3U6C3,), "downsample", 64, 1.23, 73.43),
    Row(_R50, (_B1U2C3, _B3U6C3), "downsample", 64, 1.58, 73.82),
    Row(_R50, (_CONV1_3, _B3U6C3), "downsample", 64, 1.56, 74.20),
    Row(_R50, (_B1U2C3,), "vanilla", 64, 5.53, 73.26),
    Row(_R50, (_B3U6C3, _CONV1_3), "vanilla", 64, 22.34, None),
    Row(_X65, (_EFB2U1C2,), "downsample", 128, 1.93, 79.09),
    Row(_X65, (_MFB1U16C3,), "downsample", 128, 1.98, 79.67),
    Row(_X65, (_EFB2U1C2,), "vanilla", 128, 5.53, 78.70),
    Row(_X65, (_MFB1U16C3,), "vanilla", 128, 0.41, 78.74),
)


class Decoder(nn.Module):
    """What comes after the ASPP: fusion with low-level maps, the last convolution, and the way to the pixels.

    Args:
        row: Which one.
        classes: Number of classes.
    """

    def __init__(self, row: Row, *, classes: int) -> None:
        super().__init__()
        maps = FeatureMaps((*row.maps, FeatureSpec(CHANNELS, STRIDE, "aspp")), Grid.POINTS, STRIDE)
        upsampler: Callable[..., Upsampler] = Bilinear
        if row.fusion == "downsample":
            upsampler = partial(DUpsampling, ratio=STRIDE, width=row.width, weights="random")
        self.upsampler = upsampler(grid=Grid.POINTS, num_classes=classes)
        self.head = DUpsamplingHead(
            maps,
            self.upsampler.score_channels,
            rates=(),
            low_level=[each.name for each in row.maps],
            fusion=row.fusion,
        )
        self.head.register_module("aspp", nn.Identity())

    def forward(self, features: list[Tensor], size: Size) -> Tensor:
        """Compute logits B×C×H×W from the low-level maps and the ASPP's result."""
        logits: Tensor = self.upsampler(self.head(features), size)
        return logits


def inputs_of(row: Row, size: Size, *, batch: int = 1, device: str = "cpu") -> list[Tensor]:
    """Random maps for images of a size, one pixel more than whole strides as in the papers."""
    generator = None if device == "meta" else torch.Generator().manual_seed(0)
    return [
        torch.randn(
            batch,
            each.channels,
            *((extent - 1) // each.stride + 1 for extent in size),
            generator=generator,
            device=device,
        )
        for each in (*row.maps, FeatureSpec(CHANNELS, STRIDE, "aspp"))
    ]


def operations(row: Row, size: Size, *, classes: int) -> float:
    """Billions of multiplications and additions in the convolutions, without computing anything."""
    decoder = Decoder(row, classes=classes).eval().to("meta")
    counted: list[int] = []

    def add(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted.append(2 * module.weight.numel() * output.shape[-2] * output.shape[-1])

    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    with torch.no_grad():
        decoder(inputs_of(row, size, device="meta"), size)
    return sum(counted) / 1e9


def run(
    console: Console,
    *,
    size: Sequence[int] = (513, 513),
    classes: int = 21,
    batch: int = 1,
    rounds: int = 7,
    seconds: float = 60,
    threads: int = 2,
) -> dict[str, Any]:
    """Count the operations of every decoder, time all of them in turn, and print a table.

    Args:
        console: Where the table goes.
        size: Height and width of the images.
        classes: Number of classes.
        batch: Images at a time.
        rounds: How often decoders take turns.
        seconds: Rounds end early after this time, but not before the third.
        threads: Of PyTorch.

    Returns:
        A row for each decoder; ``ratio`` is by how much the vanilla one with the same maps takes longer.

    Raises:
        AtrousError: An option is impossible.
    """
    require_range("decoders.size", size, at_least=STRIDE)
    if len(size) != 2:
        raise AtrousError(f"decoders.size={list(size)} must be height and width")
    for option, value in (("classes", classes), ("batch", batch), ("rounds", rounds), ("threads", threads)):
        require_range(f"decoders.{option}", value, at_least=1)
    pixels = (size[0], size[1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            work = {
                row.name: partial(Decoder(row, classes=classes).eval(), inputs_of(row, pixels, batch=batch), pixels)
                for row in ROWS
            }
            times = take_turns(work, rounds=rounds, seconds=seconds)
    finally:
        torch.set_num_threads(before)
    vanilla = {(row.backbone, frozenset(row.maps)): times[row.name].median for row in ROWS if row.fusion == "vanilla"}
    title = f"decoders of DUpsampling, {pixels[0]}×{pixels[1]} pixels, {batch} at a time"
    table = Table("decoder", "paper's mIoU", "B operations", "paper", "ms", "images/s", "vanilla's time", title=title)
    rows = []
    for row in ROWS:
        time = times[row.name]
        theirs = vanilla.get((row.backbone, frozenset(row.maps))) if row.fusion == "downsample" else None
        found = {
            "case": row.name,
            "operations": operations(row, pixels, classes=classes),
            "paper_operations": row.operations,
            "paper_miou": row.miou,
            "ms": time.to_dict(),
            "images_per_second": 1000 * batch / time.median,
            "ratio": None if theirs is None else theirs / time.median,
        }
        rows.append(found)
        table.add_row(
            row.name,
            "–" if row.miou is None else f"{row.miou:.2f}",
            f"{found['operations']:.2f}",
            f"{row.operations:.2f}",
            str(time),
            f"{found['images_per_second']:.1f}",
            "" if theirs is None else f"{found['ratio']:.2f}x",
        )
    console.print(table)
    return {"suite": "decoders", "rows": rows}
