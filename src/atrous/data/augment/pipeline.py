"""From a sample on disk to a training sample."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data.augment.random_scale_crop import MEAN_COLOR, RandomScaleCrop
from atrous.data.augment.rotation import rotate
from atrous.data.dataset import RawSample, Sample, as_tensor
from atrous.errors import AtrousError

_COLOR_DEFAULTS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "blur": 0.0, "probability": 1.0}


class Augmentation:
    """Random scale, crop, flip and, if wanted, rotation and color; a seed decides everything.

    Samples stay uint8: the model normalizes them on the device.

    Args:
        crop_size: Height and width of the result, or one number for both.
        scale: Smallest and largest scale factor.
        step: Spacing of the scale factors to choose from; null draws any value in the range.
        flip: Probability of a horizontal flip.
        rotation: Largest angle in degrees, at most 180, of a rotation either way before everything else, drawn
            uniformly; the corners become padding. Null or 0 for none.
        color: Strength of changes of ``brightness``, ``contrast``, ``saturation`` (0.4 means a factor of 0.6 to 1.4)
            and ``hue`` (at most 0.5, in turns of the color wheel), done with ``probability``; ``blur`` is the
            probability of a Gaussian blur. Null leaves colors alone.
        pad_value: RGB (0..255) of padding; its mask is 255.
        max_class_share: See ``RandomScaleCrop``.
        rare_class_probability: See ``RandomScaleCrop``.
        extra: Further albumentations transforms, applied last; they must not change the size.

    Raises:
        AtrousError: A value is outside its range.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        *,
        step: float | None = None,
        flip: float = 0.5,
        rotation: float | None = None,
        color: Mapping[str, float] | None = None,
        pad_value: Sequence[int] = MEAN_COLOR,
        max_class_share: float | None = None,
        rare_class_probability: float = 0.0,
        extra: Sequence[albumentations.BasicTransform] = (),
    ) -> None:
        scale_crop = RandomScaleCrop(
            crop_size,
            scale,
            step=step,
            flip=flip,
            pad_value=pad_value,
            max_class_share=max_class_share,
            rare_class_probability=rare_class_probability,
        )
        if rotation is not None and not 0 <= rotation <= 180:
            raise AtrousError(f"augment.rotation must be an angle in 0..180 degrees or null, got {rotation}")
        self.rotation = rotation
        self.crop_size = scale_crop.crop_size
        self.scale_crop = scale_crop
        self.others = [*_color_transforms(color or {}), *extra]

    def __call__(self, raw: RawSample, seed: int) -> Sample:
        """Augment one sample.

        Args:
            raw: The sample as read from disk.
            seed: The same seed gives the same result, in any process and on any machine.
        """
        # albumentations.Compose would do the same with several times the overhead
        choose = random.Random(seed)
        self.scale_crop.py_random = choose
        image, mask = raw.image, raw.mask
        if self.rotation:
            degrees = choose.uniform(-self.rotation, self.rotation)
            image, mask = rotate(image, mask, degrees, fill=self.scale_crop.pad_value)
        data = self.scale_crop(image=image, mask=mask)
        if self.others:
            generator = np.random.default_rng(seed)
            for transform in self.others:
                transform.set_random_state(generator, choose)
                data = transform(**data)
        return {
            "image": as_tensor(_planes(data["image"])),
            "mask": as_tensor(data["mask"]),
            "name": raw.name,
            "size": self.crop_size,
        }


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """HxWx3 to contiguous 3xHxW; no copy if the memory is already laid out that way."""
    planes = image.transpose(2, 0, 1)
    if not planes.flags.c_contiguous:
        planes = np.empty(planes.shape, dtype=np.uint8)
        cv2.split(image, list(planes))
    return planes


def _color_transforms(color: Mapping[str, float]) -> list[albumentations.BasicTransform]:
    unknown = sorted(set(color) - set(_COLOR_DEFAULTS))
    if unknown:
        raise AtrousError(f"augment.color has no {', '.join(unknown)}; it has {', '.join(_COLOR_DEFAULTS)}")
    strength = {**_COLOR_DEFAULTS, **color}
    for name, value in strength.items():
        largest = 0.5 if name == "hue" else 1.0
        if not 0 <= value <= largest:
            raise AtrousError(f"augment.color.{name} must lie in 0..{largest:g}, got {value}")
    transforms: list[albumentations.BasicTransform] = []
    jitter = {name: strength[name] for name in ("brightness", "contrast", "saturation", "hue")}
    if any(jitter.values()):
        transforms.append(albumentations.ColorJitter(**jitter, p=strength["probability"]))
    if strength["blur"]:
        transforms.append(albumentations.GaussianBlur(blur_limit=(3, 7), p=strength["blur"]))
    return transforms
