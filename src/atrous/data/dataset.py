"""What every data set provides and what the rest of the program receives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple, NotRequired, TypedDict

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
        index: Place in the data set's list, where every sample is seen once.
    """

    image: Tensor
    mask: Tensor
    name: str
    size: tuple[int, int]
    index: NotRequired[int]


class SegmentationDataset(Dataset[RawSample], ABC):
    """Images with dense class masks.

    Attributes:
        label_space: What the numbers in the masks mean.
        split: Which part of the data set this is, e.g. "train".
        names: Identifies each sample; in the order of the indices.
        labeled: Whether there is truth; test servers keep theirs, and all masks are ignored then.
        shrink: Whole number that the sides of images and masks were divided by.
        published: Samples of the split as the data set was published; ``None`` where there is no such number.
    """

    label_space: LabelSpace
    split: str
    names: list[str]
    labeled: bool = True
    shrink: int = 1
    published: int | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> RawSample:
        """Read one sample; the same index always gives the same values."""

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Truth of one sample, uint8 HxW, for statistics that do not look at images."""
        return self[index].mask

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of one sample; data sets that can tell without decoding it override this."""
        height, width = self.mask(index).shape
        return height, width

    def fingerprint(self, *, images: bool = False) -> str:
        """A string that changes when the truth of any sample does, for results kept for later runs.

        Reads all masks; data sets that can get by with less override it.

        Args:
            images: Whether it also changes when an image does.
        """
        digest = hashlib.sha256(repr((self.label_space, self.split, self.names)).encode())
        for index in range(len(self)):
            sample = self[index] if images else None
            mask = self.mask(index) if sample is None else sample.mask
            for pixels in (mask,) if sample is None else (mask, sample.image):
                digest.update(repr(pixels.shape).encode())
                digest.update(pixels.tobytes())
        return digest.hexdigest()


class WrappedDataset(SegmentationDataset):
    """The same samples, read in another way.

    Args:
        dataset: Where they come from.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset
        self.label_space = dataset.label_space
        self.split = dataset.split
        self.names = dataset.names
        self.labeled = dataset.labeled
        self.shrink = dataset.shrink
        self.published = dataset.published


def to_sample(raw: RawSample) -> Sample:
    """Turn a raw sample into tensors without changing a value, for evaluation."""
    height, width = raw.mask.shape
    return {
        "image": as_tensor(raw.image.transpose(2, 0, 1)),
        "mask": as_tensor(raw.mask),
        "name": raw.name,
        "size": (height, width),
    }


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Pixels as a contiguous tensor; a copy where the memory is laid out otherwise or must not be written to."""
    whole = np.ascontiguousarray(pixels)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())
