"""Random changes to training samples; the only place that knows albumentations."""

from __future__ import annotations

import os

# albumentations asks a server for its newest version when it is imported, which takes seconds where there is no network
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from atrous.data.augment.pipeline import Augmentation
from atrous.data.augment.random_scale_crop import RandomScaleCrop

__all__ = ["Augmentation", "RandomScaleCrop"]
