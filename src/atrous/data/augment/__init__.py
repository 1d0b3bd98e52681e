"""Random changes to training samples; the only place that uses albumentations."""

from __future__ import annotations

import os

# on import, albumentations asks a server for its newest version, which takes seconds without a network
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from atrous.data.augment.pipeline import Augmentation
from atrous.data.augment.random_scale_crop import RandomScaleCrop

__all__ = ["Augmentation", "RandomScaleCrop"]
