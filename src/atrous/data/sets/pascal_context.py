"""PASCAL-Context: the images of VOC 2010 with every pixel labeled, scored on the 59 most frequent classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.files import ImageMaskFiles, parts_of_split, read_list
from atrous.data.sets.matlab import read_variable
from atrous.data.sets.voc2010 import SPLITS, find_annotations, find_voc2010
from atrous.errors import AtrousError

# The authors' order (59_labels.txt). Ids are those of their labels.txt, whose 459 names stand in alphabetical order:
# sorting the ids would sort the names.
_CLASSES: tuple[tuple[str, int], ...] = (
    ("aeroplane", 2),
    ("bicycle", 23),
    ("bird", 25),
    ("boat", 31),
    ("bottle", 34),
    ("bus", 45),
    ("car", 59),
    ("cat", 65),
    ("chair", 72),
    ("cow", 98),
    ("table", 397),
    ("dog", 113),
    ("horse", 207),
    ("motorbike", 258),
    ("person", 284),
    ("pottedplant", 308),
    ("sheep", 347),
    ("sofa", 368),
    ("train", 416),
    ("tvmonitor", 427),
    ("bag", 9),
    ("bed", 18),
    ("bench", 22),
    ("book", 33),
    ("building", 44),
    ("cabinet", 46),
    ("ceiling", 68),
    ("cloth", 80),
    ("computer", 85),
    ("cup", 104),
    ("door", 115),
    ("fence", 144),
    ("floor", 158),
    ("flower", 159),
    ("food", 162),
    ("grass", 187),
    ("ground", 189),
    ("keyboard", 220),
    ("light", 232),
    ("mountain", 259),
    ("mouse", 260),
    ("curtain", 105),
    ("platform", 296),
    ("sign", 355),
    ("plate", 295),
    ("road", 324),
    ("rock", 326),
    ("shelves", 349),
    ("sidewalk", 354),
    ("sky", 360),
    ("snow", 366),
    ("bedclothes", 19),
    ("track", 415),
    ("tree", 420),
    ("truck", 424),
    ("wall", 440),
    ("water", 445),
    ("window", 454),
    ("wood", 458),
)
_PUBLISHED = {"train": 4998, "val": 5105}
_KNOWN_IDS = 460
_OTHER_IDS = tuple(sorted(set(range(_KNOWN_IDS)) - {raw for _, raw in _CLASSES}))

PASCAL_CONTEXT = LabelSpace(
    name="pascal_context",
    classes=("background", *(name for name, _ in _CLASSES)),
    palette=voc_color_map(1 + len(_CLASSES)),
    raw_ids=(0, *(raw for _, raw in _CLASSES)),
    ignored_raw_ids=(),
)
"""Background and 59 classes (DeepLabv2 §4.2); there is no void."""

PASCAL_CONTEXT_59 = LabelSpace(
    name="pascal_context_59",
    classes=PASCAL_CONTEXT.classes[1:],
    palette=PASCAL_CONTEXT.palette[1:],
    raw_ids=PASCAL_CONTEXT.raw_ids[1:],
    ignored_raw_ids=_OTHER_IDS,
)
"""The 59 classes alone; every other pixel is void."""


class PascalContext(ImageMaskFiles):
    """PASCAL-Context: images of ``VOC2010`` and a MATLAB file ``trainval/<id>.mat`` with the ``LabelMap`` of each.

    Label maps hold 459 classes, and 0 where nothing is labeled. Everything outside the 59 classes is background.

    Args:
        split: "train" (4,998 images), "val" (5,105) or "trainval" (both), by the lists in ``ImageSets/Main``.
        root: The folder ``VOC2010``, or one that holds ``VOC2010`` or ``VOCdevkit/VOC2010``; the folder ``trainval``
            lies in ``VOC2010``, beside it, or beside ``VOCdevkit``.
        background: Whether background is a class, the first, as in the papers; otherwise it is void.

    Raises:
        AtrousError: Unknown split; folder, list, image or annotation missing; empty list.
    """

    def __init__(self, split: str, *, root: str | Path, background: bool = True) -> None:
        parts = parts_of_split(split, SPLITS, of="pascal_context")
        voc = find_voc2010(root, of="pascal_context")
        maps = find_annotations(
            voc, "trainval", of="pascal_context", archive="PASCAL-Context's trainval.tar.gz (the label maps)"
        )
        lists = voc / "ImageSets" / "Main"
        names = [name for part in parts for name in read_list(lists / f"{part}.txt", of="pascal_context")]
        super().__init__(
            PASCAL_CONTEXT if background else PASCAL_CONTEXT_59,
            split,
            names=names,
            images=[voc / "JPEGImages" / f"{name}.jpg" for name in names],
            masks=[maps / f"{name}.mat" for name in names],
            published=sum(_PUBLISHED[part] for part in parts),
        )
        self.background = background

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read one mask without its image.

        Raises:
            AtrousError: The file cannot be read, holds no label map, or ids beyond 459.
        """
        path = self.masks[index]
        raw = read_variable(path, "LabelMap")
        if raw.ndim != 2 or raw.size == 0 or not np.issubdtype(raw.dtype, np.integer):
            raise AtrousError(
                f"{path}: LabelMap must be a map of integer ids, but it is {raw.dtype} of shape {raw.shape}"
            )
        if self.background:
            raw = np.where(np.isin(raw, _OTHER_IDS), 0, raw)
        return self.label_space.encode(raw, str(path))
