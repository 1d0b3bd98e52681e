"""Atrous rate and stride of every layer of a ResNet-50 at output stride 32, 16 and 8: strides become rates."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from atrous.commands.figures.source import Source
from atrous.models.backbones import TimmBackbone
from atrous.reports.theme import Theme, themed_figure

_BACKBONE = "resnet50"


def layers_at(output_stride: int) -> list[tuple[str, int, int]]:
    """Name, rate and stride of every spatial convolution, in order."""
    backbone = TimmBackbone(_BACKBONE, output_stride=output_stride)
    return [
        (name, int(module.dilation[0]), int(module.stride[0]))
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
    ]


def figure(source: Source) -> Callable[[Theme], Figure]:
    """What ``Backbone.set_output_stride`` does (DeepLabv3 §3.1)."""
    layers = {output_stride: layers_at(output_stride) for output_stride in (32, 16, 8)}

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 8.4, 3.2)
        axes = drawn.add_subplot()
        for row, (output_stride, found) in enumerate(layers.items()):
            for place, (_, rate, stride) in enumerate(found):
                color = {1: theme.series[5], 2: theme.series[0], 4: theme.series[2]}[rate]
                axes.add_patch(Rectangle((place - 0.45, row - 0.4), 0.9, 0.8, color=color))
                text = f"{rate}" if stride == 1 else f"{rate}\n÷{stride}"
                axes.text(place, row, text, ha="center", va="center", fontsize=8, color="white", fontweight="bold")
            axes.text(-0.9, row, f"output stride {output_stride}", ha="right", va="center", fontsize=9)
        names = [name for name, _, _ in layers[32]]
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            inside = [place for place, name in enumerate(names) if f".{stage}." in f".{name}"]
            axes.text(sum(inside) / len(inside), -0.85, stage, ha="center", fontsize=9)
            axes.axvline(min(inside) - 0.5, color=theme.faint, linewidth=0.8, linestyle=":")
        axes.text(
            0, 2.85, "rate of each 3×3 (the first is 7×7); ÷2 where it has a stride", fontsize=9, color=theme.faint
        )
        axes.set_xlim(-5.2, len(names) - 0.4)
        axes.set_ylim(3.1, -1.2)
        axes.set_axis_off()
        return drawn

    return draw
