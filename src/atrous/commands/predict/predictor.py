"""From a batch of images to label maps, on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.inference import Inference, most_probable
from atrous.models import Network

PRECISIONS = ("32", "bf16")
"""Full precision, and automatic mixed precision with bfloat16."""


class Predictor:
    """The most probable class of every pixel.

    Args:
        network: In evaluation mode; it is moved to the device.
        inference: From network and images to probabilities.
        device: Where to compute.
        precision: One of ``PRECISIONS``.

    Raises:
        AtrousError: Unknown precision.
    """

    def __init__(
        self,
        network: Network,
        inference: Inference,
        *,
        device: torch.device,
        precision: str = "32",
    ) -> None:
        if precision not in PRECISIONS:
            raise AtrousError(f"precision={precision} is unknown: choose one of {', '.join(PRECISIONS)}")
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._inference = inference
        self._device = device
        self._mixed = precision == "bf16"

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Predict.

        Args:
            images: B×H×W×3, RGB.

        Returns:
            Train ids B×H×W.

        Raises:
            MemoryError: The device's memory is too small for the batch.
        """
        try:
            # B×H×W×3 seen as B×3×H×W is channels-last already
            batch = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
            labels = batch.new_empty(len(batch), *batch.shape[2:])  # uint8 B×H×W
            with self._precision():
                for rows, probabilities in self._inference.bands(self._network, batch):
                    labels[:, rows] = most_probable(probabilities).to(torch.uint8)
            result: NDArray[np.uint8] = labels.cpu().numpy()
        except RuntimeError as error:
            if any(words in str(error) for words in ("out of memory", "can't allocate memory")):
                raise MemoryError(f"needs more memory than {self._device} has") from error
            raise
        return result

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16) if self._mixed else nullcontext()


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` (Apple's GPU) means.

    Raises:
        AtrousError: There is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if count else "mps" if apple else "cpu")
    valid = ["cpu"] + ["cuda"] * bool(count) + [f"cuda:{index}" for index in range(count)] + ["mps"] * apple
    if name not in valid:
        raise AtrousError(f"device={name} is not on this machine: choose one of auto, {', '.join(valid)}")
    return torch.device(name)
