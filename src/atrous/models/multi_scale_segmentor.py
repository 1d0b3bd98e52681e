"""Multi-scale input in training and test: the MSC of DeepLabv2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.models.segmentor import Segmentor


class MultiScaleSegmentor(Segmentor):
    """One network looks at the image at several scales; the largest score of each class and place wins (v2 §4.1.2).

    In training every scale has its own loss besides that of the fused scores. Images are extended until the
    features of every scale end on the border, so that the maps of all scales cover the same pixels. With the scale 1
    alone it is a plain ``Segmentor``, with a single loss.

    Args:
        scales: Scales of the input; the first is 1. ``None`` for that one alone.
        parts: Arguments of ``Segmentor``.

    Raises:
        AtrousError: The scales do not begin with 1, lie outside (0, 1] or repeat; or the upsampler makes its logits
            from something other than class scores, whose maximum would mean nothing.
    """

    def __init__(self, *, scales: Sequence[float] | None = (1.0, 0.75, 0.5), **parts: Any) -> None:
        given = [1.0] if scales is None else [float(scale) for scale in scales]
        self.scales = tuple(Fraction(scale).limit_denominator(100) for scale in given)
        valid = all(0 < scale <= 1 for scale in self.scales) and len(set(self.scales)) == len(given)
        if not valid or not self.scales or self.scales[0] != 1:
            raise AtrousError(
                f"model.scales={given} must begin with 1, followed by different values between 0 and 1, such as "
                "[1.0, 0.75, 0.5]"
            )
        super().__init__(**parts)
        self.input_scales = tuple(float(scale) for scale in self.scales)
        if len(self.scales) == 1:
            return
        if self.upsampler.score_channels != self.num_classes:
            raise AtrousError(
                f"model.scales={given} fuses class scores by their maximum, but a {type(self.upsampler).__name__} "
                f"takes {self.upsampler.score_channels} channels for {self.num_classes} classes: set "
                "upsampler=bilinear or model.scales=null"
            )
        self.loss_weights: Mapping[str, float] = dict(self.loss_weights) | {self._name(s): 1.0 for s in self.scales}

    @property
    def extension(self) -> int:
        """The smallest number of pixels that is a multiple of the output stride at every scale."""
        return self.output_stride * math.lcm(*(scale.denominator for scale in self.scales))

    def scores(self, extended: Tensor) -> Tensor:
        """Scores of all scales, fused by their maximum."""
        return self._fuse([self.head(features) for features in self._features(extended)])

    def training_scores(self, extended: Tensor) -> dict[str, Tensor]:
        """Fused scores and those of every scale (v2: labels of the half scale are shrunk with it)."""
        features = list(self._features(extended))
        of_scale = [self.head(maps) for maps in features]  # B×C×h×w each; of scale 0.5 half as high and wide
        scores = {"main": self._fuse(of_scale)}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(features[0])
        if len(self.scales) == 1:
            return scores
        size = size_of(of_scale[0])
        for scale, score in zip(self.scales, of_scale, strict=True):
            # labels can be shrunk by a whole number of pixels only; other maps are interpolated to the first one's size
            fits = (Fraction(self.head.stride) / scale).denominator == 1
            scores[self._name(scale)] = score if fits else self.backbone.grid.resize(score, size)
        return scores

    def _features(self, extended: Tensor) -> list[list[Tensor]]:
        grid = self.backbone.grid
        sizes = (grid.scaled(size_of(extended), scale) for scale in self.scales)
        return [self.backbone(grid.resize(extended, size)) for size in sizes]

    def _fuse(self, scores: list[Tensor]) -> Tensor:
        size = size_of(scores[0])
        at_one_size = [self.backbone.grid.resize(score, size) for score in scores]  # scales × B×C×h×w
        return torch.stack(at_one_size).amax(dim=0)

    @staticmethod
    def _name(scale: Fraction) -> str:
        return f"scale_{float(scale):g}"
