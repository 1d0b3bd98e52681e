"""Where the taps of a convolution lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Size

Pair = tuple[int, int]


@dataclass(frozen=True)
class Taps:
    """Geometry of a convolution; every pair is of rows and columns.

    Attributes:
        kernel: Height and width of the kernel.
        rate: Distance between neighboring taps.
        stride: Distance between neighboring results.
        padding: Zeros before the first and after the last row and column.
    """

    kernel: Pair
    rate: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    @property
    def reach(self) -> Pair:
        """Distance from the first tap to the last."""
        rows, columns = ((kernel - 1) * rate for kernel, rate in zip(self.kernel, self.rate, strict=True))
        return rows, columns

    def size_of_result(self, size: Size) -> Size:
        """Size of the result for a map of a size."""
        height, width = (
            (extent + 2 * padding - reach - 1) // stride + 1
            for extent, padding, reach, stride in zip(size, self.padding, self.reach, self.stride, strict=True)
        )
        return height, width

    def is_usual_for(self, size: Size) -> bool:
        """Whether PyTorch convolves a map of a size in bf16 without looking outside it.

        With AMX instructions it does not where a stride above 1 meets a rate above 1, or where no tap of some result
        is inside the map: results are wrong, and memory beside them is overwritten (torch 2.14). Without a stride, on
        a map that keeps its size or shrinks, every result has a tap inside, unless neighboring taps lie on both sides
        of the map.
        """
        return self.rate == (1, 1) or (
            self.stride == (1, 1)
            and all(
                2 * padding <= reach and (rate <= extent or padding % rate == 0)
                for extent, reach, padding, rate in zip(size, self.reach, self.padding, self.rate, strict=True)
            )
        )

    def seen_by(self, row: int, column: int, size: Size, result: Size) -> tuple[slice, slice, slice, slice] | None:
        """Where one tap looks at a map of a size.

        Args:
            row: Row of the tap in the kernel.
            column: Its column.
            size: Height and width of the map.
            result: Height and width of the result.

        Returns:
            Rows and columns of the results for which the tap is inside the map, and the rows and columns of the map
            that it sees there; ``None`` if it is outside for all of them.
        """
        slices = []
        for axis, tap in enumerate((row, column)):
            stride, offset = self.stride[axis], tap * self.rate[axis] - self.padding[axis]
            first = max(0, -(offset // stride))  # the first result whose tap is not before the map
            last = min(result[axis] - 1, (size[axis] - 1 - offset) // stride)
            if last < first:
                return None
            start = first * stride + offset
            slices.append((slice(first, last + 1), slice(start, last * stride + offset + 1, stride)))
        (rows, seen_rows), (columns, seen_columns) = slices
        return rows, columns, seen_rows, seen_columns


def spread(result: Tensor, stride: Pair) -> Tensor:
    """Put the values of B×C×h×w a stride apart, with zeros between them: B×C×(stride·(h−1)+1)×(stride·(w−1)+1)."""
    if stride == (1, 1):
        return result
    batch, channels, height, width = result.shape
    rows, columns = stride
    size = (batch, channels, rows * (height - 1) + 1, columns * (width - 1) + 1)
    zeros = torch.zeros(size, dtype=result.dtype, device=result.device)
    spread_out = zeros.contiguous(memory_format=memory_format_of(result))
    spread_out[..., ::rows, ::columns] = result
    return spread_out


def flipped(weight: Tensor, groups: int) -> Tensor:
    """The filters whose forward convolution is the input gradient: turned by 180°, with inputs and outputs exchanged.

    Args:
        weight: Filters O×(C/groups)×k×k.
        groups: Number of groups.

    Returns:
        Filters C×(O/groups)×k×k.
    """
    outputs, inputs, *kernel = weight.shape
    exchanged = weight.view(groups, outputs // groups, inputs, *kernel).transpose(1, 2)
    return exchanged.reshape(groups * inputs, outputs // groups, *kernel).flip(2, 3)


def pad_or_cut(feature: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """Add zeros left, right, above and below, or take that much away where a number is negative."""
    return F.pad(feature, margins) if any(margins) else feature


def memory_format_of(feature: Tensor) -> torch.memory_format:
    """The order in memory of a map B×C×h×w; channels first where both orders are the same."""
    channels_last = feature.is_contiguous(memory_format=torch.channels_last) and not feature.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
