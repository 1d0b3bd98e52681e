"""Multi-scale testing with flipped images (DeepLabv2 §4.1.2, v3 §4.1, v3+ §4.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.inference.bands import bands_of
from atrous.inference.inference import Band, FreeSize, Inference, InferenceProtocol, Wrapper
from atrous.inference.whole_image import WholeImage
from atrous.models.network import Network

Fusion = Literal["mean", "max"]


class MultiScale(Wrapper):
    """Class probabilities of the image at several scales, mirrored too if asked, fused.

    A side of n pixels has (n − 1)·scale + 1 on a grid of points, n·scale on one of cells, rounded down, so that
    features keep their places in the scene (TensorFlow DeepLab; the papers' 513 becomes 257, 385, 641 and so on).
    Images are resized bilinearly. Scores are enlarged to the image's own size at once, whatever the scale. Scales that
    give an image the same size are computed once and count as often as they are named; an image and its mirror image
    share a batch.

    Args:
        scales: Factors on the image's height and width.
        flip: Whether mirrored images take part.
        fusion: ``mean`` of the probabilities (v3), or softmax of the ``max`` of the logits (v2).
        inner: What is done at every scale; ``None`` for one pass over the whole image.

    Raises:
        AtrousError: No scales or impossible ones, an unknown fusion, an inner inference that has a size of its own, or
            one without logits for ``max``.
    """

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        fusion: Fusion = "mean",
        inner: Inference | None = None,
    ) -> None:
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = flip
        self.fusion = fusion
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            raise AtrousError(
                f"inference.scales={list(scales)} must be factors above 0 and at most 16, such as [0.75, 1, 1.25]"
            )
        if fusion not in get_args(Fusion):
            raise AtrousError(f"inference.fusion={fusion} is unknown: choose mean or max")
        self.inner = self._checked(WholeImage() if inner is None else inner)

    def _checked(self, inner: Inference) -> FreeSize:
        if not isinstance(inner, FreeSize):
            raise AtrousError(
                f"{type(inner).__name__} cannot give the result of a resized image at the image's own size, which "
                "multi-scale testing needs: put it around instead of inside"
            )
        if self.fusion == "max" and not isinstance(inner, WholeImage):
            raise AtrousError(
                f"inference.fusion=max compares logits, but {type(inner).__name__} gives probabilities: set "
                "inference.fusion=mean"
            )
        return inner

    def around(self, inner: Inference) -> MultiScale:
        """The same around another inference; see ``Wrapper``."""
        return super().around(self._checked(inner))

    def wrap(self, inference: Inference) -> Inference:
        """Do with every scale what an inference does; images keep the size that it gives them before.

        Raises:
            AtrousError: It is multi-scale testing already.
        """
        if isinstance(inference, MultiScale):
            raise AtrousError(
                "multi-scale testing is asked for twice: by inference and by callbacks, or by two callbacks"
            )
        if isinstance(inference, Wrapper):
            return inference.around(self.wrap(inference.inner))
        return self.around(inference)

    @property
    def protocol(self) -> InferenceProtocol:
        """Scales, flip and fusion where they change anything, and what is done at every scale."""
        said: InferenceProtocol = {**self.inner.protocol}
        if self.scales != (1.0,):
            said["scales"] = self.scales
            said["fusion"] = self.fusion
        if self.flip:
            said["flip"] = True
        return said

    def bands(self, network: Network, image: Tensor) -> Iterator[Band]:
        """Class probabilities; see ``Inference``.

        Raises:
            AtrousError: The network fuses several scales by itself.
        """
        if self.scales != (1.0,) and network.input_scales != (1.0,):
            raise AtrousError(
                f"the network looks at scales {list(network.input_scales)} by itself: set "
                "inference.scales=[1.0] for flipped images alone"
            )
        grid, own = network.grid, size_of(image)
        sizes = Counter(grid.scaled(own, Fraction(scale).limit_denominator(1000)) for scale in self.scales)
        for size in sizes:
            if min(size) < 1:
                raise AtrousError(
                    f"at inference.scales={list(self.scales)} nothing is left of an image of {own[0]}×{own[1]} pixels"
                )
        views = [self._with_flip(grid.resize(image.float(), size)) for size in sizes]
        weights = [count / len(self.scales) for count in sizes.values()]
        fuse = self._fused_logits if self.fusion == "max" else self._fused_probabilities
        yield from fuse(network, views, weights, image)

    def _with_flip(self, image: Tensor) -> Tensor:
        return torch.cat([image, image.flip(-1)]) if self.flip else image

    def _fused_probabilities(
        self, network: Network, views: list[Tensor], weights: list[float], image: Tensor
    ) -> Iterator[Band]:
        assert isinstance(self.inner, FreeSize)
        of_views = [self.inner.bands(network, view, size_of(image)) for view in views]
        for bands in zip(*of_views, strict=True):
            rows, _ = bands[0]
            fused: Tensor | None = None
            for weight, (_, probabilities) in zip(weights, bands, strict=True):
                if self.flip:
                    straight, mirrored = probabilities.chunk(2)
                    probabilities = straight.add(mirrored.flip(-1)).div_(2)
                fused = probabilities * weight if fused is None else fused.add_(probabilities, alpha=weight)
            assert fused is not None
            yield rows, fused

    def _fused_logits(
        self, network: Network, views: list[Tensor], weights: list[float], image: Tensor
    ) -> Iterator[Band]:
        maps = [network.logit_map(view) for view in views]
        size = size_of(image)
        for rows in bands_of(size, maps[0].batch * maps[0].num_classes, maps[0].device):
            logits = torch.stack([each.rows(rows, size) for each in maps]).amax(dim=0)
            if self.flip:
                straight, mirrored = logits.chunk(2)
                logits = torch.maximum(straight, mirrored.flip(-1))
            yield rows, logits.softmax(dim=1)
