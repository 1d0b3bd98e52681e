"""The plain chain of albumentations that does what ``Augmentation`` does: the peer of the benchmark."""

from __future__ import annotations

import albumentations
from albumentations.pytorch import ToTensorV2

from atrous.data.augment.random_scale_crop import MEAN_COLOR


def naive_chain(crop_size: int, *, scale: tuple[float, float] = (0.5, 2.0), seed: int = 0) -> albumentations.Compose:
    """Scale the whole image, pad, crop, flip, normalize to float, make tensors: what most repositories do."""
    return albumentations.Compose(
        [
            albumentations.RandomScale((scale[0] - 1, scale[1] - 1), p=1),
            albumentations.PadIfNeeded(crop_size, crop_size, fill=MEAN_COLOR, fill_mask=255),
            albumentations.RandomCrop(crop_size, crop_size),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Normalize(),
            ToTensorV2(),
        ],
        seed=seed,
    )
