"""A data set at a fraction of its size: for studies on small machines, and searches such as Auto-DeepLab's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import RawSample, SegmentationDataset, WrappedDataset
from atrous.errors import AtrousError
from atrous.places import setting


class ShrunkDataset(WrappedDataset):
    """Samples whose sides are divided by a whole number.

    A pixel is the mean of those that it stands for, and has the label in the middle of them (below and right of it if
    their number is even), so that labels are never mixed. Rows and columns that do not fill a pixel are cut off.

    Args:
        dataset: Where samples are read from.
        factor: Divisor of both sides, at least 1.
    """

    def __init__(self, dataset: SegmentationDataset, factor: int) -> None:
        super().__init__(dataset)
        self.shrink = factor

    def __getitem__(self, index: int) -> RawSample:
        """Read and shrink one sample.

        Raises:
            AtrousError: The image is smaller than a pixel of the result.
        """
        sample = self.dataset[index]
        height, width = self._shrunk(sample.mask.shape, index)
        whole = sample.image[: height * self.shrink, : width * self.shrink]
        image = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)  # the mean, as the factor is whole
        return RawSample(np.asarray(image, dtype=np.uint8), self._of_mask(sample.mask, (height, width)), sample.name)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Truth of one sample, without its image."""
        mask = self.dataset.mask(index)
        return self._of_mask(mask, self._shrunk(mask.shape, index))

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of one sample after shrinking."""
        return self._shrunk(self.dataset.image_size(index), index)

    def fingerprint(self, *, images: bool = False) -> str:
        """That of the data set, with the factor."""
        return f"{self.dataset.fingerprint(images=images)}/{self.shrink}"

    def _shrunk(self, size: tuple[int, ...], index: int) -> tuple[int, int]:
        height, width = size[0] // self.shrink, size[1] // self.shrink
        if not height or not width:
            raise AtrousError(
                f"nothing is left of {self.names[index]} ({size[0]}x{size[1]} pixels) with "
                f"{setting('data.shrink', str(self.shrink))}: choose a smaller one"
            )
        return height, width

    def _of_mask(self, mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        middle = mask[self.shrink // 2 :: self.shrink, self.shrink // 2 :: self.shrink]
        return np.ascontiguousarray(middle[: size[0], : size[1]])
