"""The two grids on which feature maps lie, and everything that follows from their difference."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
"""Height and width."""


def pixels_of(side: int) -> Tensor:
    """The pixels along a side, 0 to ``side`` − 1, as float64."""
    return torch.arange(side, dtype=torch.float64)


def linear_weights(places: Tensor) -> tuple[slice, Tensor]:
    """Linear interpolation along a side as a matrix.

    Args:
        places: Ascending places among features, float64, of n results.

    Returns:
        The m features that the results are made from, and the weights n×m of each, float64.
    """
    before = places.floor().long()
    share = places - before
    first, last = int(before[0]), int(places[-1].ceil())
    weights = places.new_zeros(len(places), last - first + 1)
    line = torch.arange(len(places))
    weights[line, before - first] = 1 - share
    weights[line, (before - first + 1).clamp(max=last - first)] += share
    return slice(first, last + 1), weights


def interpolate(feature: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Values between the features of a map, by linear interpolation, columns first: B×C×n×m.

    Args:
        feature: B×C×h×w.
        down: n ascending places among its rows, float64.
        across: m ascending places among its columns.
    """
    seen, of_rows = linear_weights(down)
    feature = _mix_columns(feature[:, :, seen].contiguous(), across)  # B×C×h×m
    if _follow_each_other(down):
        return feature
    return torch.matmul(of_rows.to(feature), feature)  # B×C×n×m


_BLOCK = 64
"""Columns that are made together: few, because a matrix that makes all of them is almost empty."""


def _mix_columns(feature: Tensor, places: Tensor) -> Tensor:
    """Values between the columns of a map, B×C×h×m."""
    if _follow_each_other(places):
        return feature[..., int(places[0]) : int(places[-1]) + 1]
    count, width = len(places), feature.shape[-1]
    padded = torch.cat([places, places[-1:].expand(-count % _BLOCK)]).view(-1, _BLOCK)
    before = padded.floor().long()
    share = padded - before
    reach = min(width, int((before[:, -1] - before[:, 0]).max()) + 2)  # columns that a block is made from
    first = before[:, :1].clamp(max=width - reach)
    before = before - first
    weights = places.new_zeros(*padded.shape, reach)
    weights.scatter_add_(2, before.unsqueeze(2), (1 - share).unsqueeze(2))
    weights.scatter_add_(2, (before + 1).clamp(max=reach - 1).unsqueeze(2), share.unsqueeze(2))
    mixers = weights.transpose(1, 2).to(feature)  # blocks×reach×block
    blocks = [
        torch.matmul(feature[..., start : start + reach], mixer)
        for start, mixer in zip(first.flatten().tolist(), mixers, strict=True)
    ]
    return torch.cat(blocks, dim=-1)[..., :count]


def _follow_each_other(places: Tensor) -> bool:
    """Whether places are whole numbers without a gap, so that nothing has to be interpolated."""
    return bool((places == places[0].floor() + pixels_of(len(places))).all())


def size_of(image: Tensor) -> Size:
    """Height and width of a tensor ...×H×W."""
    return image.shape[-2], image.shape[-1]


class Grid(StrEnum):
    """Where feature ``i`` of a map with stride ``s`` lies in the image.

    ``points``: on pixel ``s·i``, because all kernels are odd; an image of ``s·n + 1`` pixels has ``n + 1`` features,
    the outermost on its corners (DeepLab's 513 → 33). ``cells``: in the middle of pixels ``s·i … s·i + s − 1``, because
    kernels are even (patch embeddings); an image of ``s·n`` pixels has ``n`` features.
    """

    POINTS = "points"
    CELLS = "cells"

    @property
    def extra(self) -> int:
        """Features, and pixels, that a map has beyond a whole number of strides: the one on the far corner."""
        return 1 if self is Grid.POINTS else 0

    def features(self, pixels: int, stride: int) -> int:
        """Features along a side of an image that is extended to whole strides."""
        return -(-(pixels - self.extra) // stride) + self.extra

    def pixels(self, features: int, stride: int) -> int:
        """Pixels that a number of features span along a side: the inverse of ``features``."""
        return stride * (features - self.extra) + self.extra

    def stride(self, pixels: int, features: int) -> int:
        """Pixels from one feature to the next along a side; at least 1."""
        steps = features - self.extra if features > self.extra else 1
        return max(1, (pixels - self.extra) // steps)

    def place(self, stride: int) -> int:
        """The pixel on which the first feature lies; on a grid of cells, the one below and right of its middle."""
        return 0 if self is Grid.POINTS else stride // 2

    def overhang(self, side: int) -> int:
        """Pixels of the first feature's window of this side that lie before the image."""
        return side // 2 if self is Grid.POINTS else 0

    def scaled(self, size: Size, scale: Fraction) -> Size:
        """Size of an image at another scale, with its features on the same places; rounded down."""
        height, width = ((extent - self.extra) * scale.numerator // scale.denominator + self.extra for extent in size)
        return height, width

    def missing(self, size: Size, multiple: int) -> Size:
        """Rows and columns to add so that an image's outermost features lie on the border.

        Args:
            size: The image's own.
            multiple: The sides become multiples of this many pixels, plus one on a grid of points.
        """
        height, width = ((self.extra - extent) % multiple for extent in size)
        return height, width

    def resize(self, feature: Tensor, size: Size) -> Tensor:
        """Interpolate B×C×h×w bilinearly to B×C×H×W, so that features keep their places.

        On a grid of points this is TensorFlow's ``align_corners=True`` of the DeepLab papers.
        """
        if size_of(feature) == size:
            return feature
        return F.interpolate(feature, size=size, mode="bilinear", align_corners=self is Grid.POINTS)

    def resize_width(self, feature: Tensor, width: int) -> Tensor:
        """Interpolate the rows of B×C×h×w linearly to B×C×h×W."""
        return self.resize(feature, (feature.shape[-2], width))

    def places(self, pixel: Tensor, pixels: int, features: int) -> Tensor:
        """Where pixels of a side lie among the features that ``resize`` makes them from.

        Args:
            pixel: Places along the side, float64; they need not be whole numbers.
            pixels: Pixels along the side.
            features: Features along it.

        Returns:
            For every pixel a number from 0, the first feature, to ``features`` − 1, the last one.
        """
        if self is Grid.POINTS:
            place = pixel * ((features - 1) / max(1, pixels - 1))
        else:
            place = (pixel + 0.5) * (features / pixels) - 0.5
        return place.clamp(0, features - 1)

    def shrink_labels(self, labels: Tensor, size: Size, *, extension: int, ignore_index: int = 255) -> Tensor:
        """Take the label of the pixel on which each score lies (DeepLabv1 §3.1: training on labels shrunk by 8).

        Args:
            labels: Class ids B×H×W.
            size: Height and width of the scores.
            extension: Multiple of pixels to which images are extended; see ``Segmentor.extension``.
            ignore_index: Label of what lies outside the image.

        Returns:
            Class ids B×h×w.
        """
        bottom, right = self.missing(size_of(labels), extension)
        extended = F.pad(labels, (0, right, 0, bottom), value=ignore_index)  # B×H'×W'
        down, across = (self.stride(*pair) for pair in zip(size_of(extended), size, strict=True))
        shrunk = extended[..., self.place(down) :: down, self.place(across) :: across]
        return shrunk[..., : size[0], : size[1]]

    def lay_out(self, windows: Tensor, size: Size, *, side: int) -> Tensor:
        """Lay out square windows B×(C·side²)×h×w next to each other and cut the image out: B×C×H×W.

        Channels count classes first, then the window's rows, then its columns. On a grid of cells the window of feature
        ``i`` begins at pixel ``side·i``; on one of points, where the feature lies on that pixel, half a window earlier.

        Args:
            windows: The network's output for the window of each feature.
            size: Height and width of the image.
            side: Height and width of a window.
        """
        return self.cut_out(F.pixel_shuffle(windows, side), size, side=side)

    def cut_out(self, laid_out: Tensor, size: Size, *, side: int) -> Tensor:
        """The image B×C×H×W in windows that lie next to each other, B×C×(h·side)×(w·side)."""
        first = self.overhang(side)
        return laid_out[..., first : first + size[0], first : first + size[1]]
