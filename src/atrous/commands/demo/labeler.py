"""One photograph at a time becomes labels and confidence, in the way that a visitor asks for."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from atrous.crf import Bilateral, DenseCRF, Gaussian
from atrous.data.dataset import as_tensor
from atrous.data.decoding import decode_image, image_size
from atrous.errors import AtrousError, require_range
from atrous.inference import Inference, MultiScale, Refined, WholeImage
from atrous.models import Network, Segmentor


@dataclass(frozen=True)
class Smoothing:
    """A dense CRF after the network (DeepLabv1 equation 3).

    Attributes:
        sigma_xy: σ_α, the standard deviation of the place in pixels.
        sigma_rgb: σ_β, that of the color in levels of 0…255.
        weight: w₁ of both together.
        sigma: σ_γ, the standard deviation of the place alone.
    """

    sigma_xy: float = 67
    sigma_rgb: float = 3
    weight: float = 4
    sigma: float = 3


@dataclass(frozen=True)
class Choices:
    """What a visitor has set.

    Attributes:
        output_stride: One of those that the labeler offers.
        scales: Factors on the photograph's size.
        flip: Whether mirrored photographs take part.
        smoothing: The CRF, if there is one.
    """

    output_stride: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    smoothing: Smoothing | None = None


@dataclass(frozen=True)
class Labeled:
    """A photograph with what the network says of it.

    Attributes:
        photograph: uint8 H×W×3, as the network saw it.
        labels: Train ids H×W.
        confidence: Probability of these, in percent, uint8 H×W.
        own_size: Height and width of the photograph before it was shrunk.
        seconds: How long the network took.
    """

    photograph: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    own_size: tuple[int, int]
    seconds: float

    def mask(self) -> NDArray[np.uint8]:
        """The labels at the photograph's own size."""
        height, width = self.own_size
        return np.asarray(cv2.resize(self.labels, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


class Labeler:
    """Labels photographs with one network, one at a time.

    Args:
        network: In evaluation mode; it is moved to the device.
        device: Where to compute.
        mixed: Whether to compute in bfloat16 where that is precise enough.
        longest_side: Longer photographs are shrunk to it.
        megapixels: Photographs with more are refused.

    Attributes:
        output_strides: Those that the network can have.
        several_scales: Whether it can be asked at several scales.
    """

    def __init__(
        self, network: Network, *, device: torch.device, mixed: bool, longest_side: int, megapixels: float
    ) -> None:
        require_range("longest_side", longest_side, at_least=16)
        require_range("max_megapixels", megapixels, above=0)
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._device = device
        self._mixed = mixed
        self._longest_side = longest_side
        self._megapixels = megapixels
        self._one_at_a_time = threading.Lock()
        self.output_strides = _possible_strides(network)
        self.several_scales = network.input_scales == (1.0,)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Decode a photograph upright, uint8 H×W×3.

        Raises:
            AtrousError: It is no picture, is damaged, or has too many pixels, which is found before it is decoded.
        """
        height, width = image_size(path)
        if height * width > 1e6 * self._megapixels:
            raise AtrousError(
                f"the picture has {width}×{height} pixels; at most {self._megapixels:g} million are taken here"
            )
        return decode_image(path.read_bytes(), upright=True)

    @torch.inference_mode()
    def __call__(self, photograph: NDArray[np.uint8], choices: Choices) -> Labeled:
        """Label a photograph.

        Args:
            photograph: uint8 H×W×3.
            choices: How.

        Raises:
            AtrousError: What was chosen is impossible.
        """
        own_size = photograph.shape[:2]
        share = self._longest_side / max(own_size)
        if share < 1:
            height, width = (max(1, round(share * side)) for side in own_size)
            photograph = np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        image = as_tensor(photograph.transpose(2, 0, 1)).to(self._device).unsqueeze(0)  # 1×3×H×W
        inference = _inference(choices)
        labels = torch.empty(photograph.shape[:2], dtype=torch.uint8)
        confidence = torch.empty_like(labels)
        with self._one_at_a_time, self._precision():
            if isinstance(self._network, Segmentor) and choices.output_stride is not None:
                self._network.set_output_stride(choices.output_stride)
            start = time.perf_counter()
            for rows, probabilities in inference.bands(self._network, image):
                best = probabilities[0].max(dim=0)
                labels[rows] = best.indices.to("cpu", torch.uint8)
                confidence[rows] = (100 * best.values).round().to("cpu", torch.uint8)
            seconds = time.perf_counter() - start
        return Labeled(photograph, labels.numpy(), confidence.numpy(), (own_size[0], own_size[1]), seconds)

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16) if self._mixed else nullcontext()


def _inference(choices: Choices) -> Inference:
    inference: Inference = WholeImage()
    if choices.scales != (1.0,) or choices.flip:
        inference = MultiScale(scales=choices.scales or (1.0,), flip=choices.flip)
    if choices.smoothing is None:
        return inference
    given = choices.smoothing
    kernels = {
        "bilateral": Bilateral(sigma_xy=given.sigma_xy, sigma_rgb=given.sigma_rgb, weight=given.weight),
        "gaussian": Gaussian(sigma=given.sigma),
    }
    return Refined(refiner=DenseCRF(kernels=kernels), inner=inference)


def _possible_strides(network: Network) -> list[int]:
    """Output strides that a network can have; that of an exported file is fixed."""
    if not isinstance(network, Segmentor):
        return [] if network.output_stride is None else [network.output_stride]
    own, possible = network.output_stride, []
    for stride in (8, 16, 32):
        try:
            network.set_output_stride(stride)
        except AtrousError:
            continue
        possible.append(stride)
    network.set_output_stride(own)
    return possible
