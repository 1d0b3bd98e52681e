"""What every data set gives and what the rest of the program receives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from atrous.data.label_space import LabelSpace


class RawSample(NamedTuple):
    """An image with its truth as read from disk, before any augmentation.

    Attributes:
        image: uint8 HxWx3, RGB.
        mask: uint8 HxW, train ids with 255 = ignore.
        name: What identifies the image within its data set.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    name: str


class Sample(TypedDict):
    """An image with its truth as the model receives it; still uint8, normalization happens on the device.

    Attributes:
        image: uint8 3xHxW, RGB.
        mask: uint8 HxW, train ids with 255 = ignore.
        name: What identifies the image within its data set.
        size: Height and width of ``image``.
    """

    image: Tensor
    mask: Tensor
    name: str
    size: tuple[int, int]


class SegmentationDataset(Dataset[RawSample], ABC):
    """Images with dense class masks.

    Attributes:
        label_space: What the numbers in the masks mean.
        split: Which part of the data set this is, e.g. "train".
        names: Identifies each sample; in the order of the indices.
    """

    label_space: LabelSpace
    split: str
    names: list[str]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> RawSample:
        """Read one sample; the same index always gives the same values."""

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Truth of one sample, uint8 HxW, for statistics that do not look at images."""
        return self[index].mask

    def fingerprint(self) -> str:
        """What differs whenever the truth of any sample does, for results that are kept for later runs.

        All masks are read; data sets that can tell by less override it.
        """
        digest = hashlib.sha256(repr((self.label_space, self.split, self.names)).encode())
        for index in range(len(self)):
            mask = self.mask(index)
            digest.update(repr(mask.shape).encode())
            digest.update(mask.tobytes())
        return digest.hexdigest()


def to_sample(raw: RawSample) -> Sample:
    """Turn a raw sample into tensors without changing a value, for evaluation."""
    height, width = raw.mask.shape
    return {
        "image": torch.from_numpy(np.ascontiguousarray(raw.image.transpose(2, 0, 1))),
        "mask": torch.from_numpy(np.ascontiguousarray(raw.mask)),
        "name": raw.name,
        "size": (height, width),
    }
