"""Pascal VOC 2012 segmentation, with or without the additional masks of SBD ("trainaug")."""

from __future__ import annotations

from pathlib import Path

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.files import ImageMaskFiles, find_folder, read_list
from atrous.errors import AtrousError
from atrous.places import command

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

VOC_2012 = LabelSpace(name="voc", classes=VOC_CLASSES, palette=voc_color_map(len(VOC_CLASSES)))
"""Background and 20 object classes; 255 is the border of objects, which is neither trained on nor scored."""

PUBLISHED = {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "trainval_aug": 12031, "test": 1456}
"""Images of every split."""

_PREPARE = f"`{command('prepare')} task=data data=voc_aug` makes it from VOC and SBD"
_MASK_FOLDER_OF_SPLIT: dict[str, str | None] = {
    "train": "SegmentationClass",
    "val": "SegmentationClass",
    "trainval": "SegmentationClass",
    "trainaug": "SegmentationClassAug",
    "trainval_aug": "SegmentationClassAug",
    "test": None,
}


def find_voc(root: str | Path) -> Path:
    """The folder ``VOC2012``: ``root`` itself, or in it, or in its ``VOCdevkit``.

    Raises:
        AtrousError: It is in none of the three.
    """
    return find_folder(
        root,
        ("VOCdevkit/VOC2012", "VOC2012", ""),
        holds=("JPEGImages", "ImageSets/Segmentation"),
        name="VOC 2012",
        of="voc",
        otherwise="unpack VOCtrainval_11-May-2012.tar there or point data.root to it",
    )


class VOC2012(ImageMaskFiles):
    """Pascal VOC 2012 in the layout of the devkit.

    The 255 border of the official masks stays 255 in training and in evaluation, as in the devkit's own score.

    Args:
        split: "train", "val" or "trainval" (masks in ``SegmentationClass``), "trainaug" or "trainval_aug"
            (masks in ``SegmentationClassAug``), or "test", whose masks the test server keeps; the list is
            ``ImageSets/Segmentation/<split>.txt``.
        root: The folder ``VOC2012``, or one that holds ``VOC2012`` or ``VOCdevkit/VOC2012``.

    Raises:
        AtrousError: Unknown split; folder, list, image or mask missing; empty list.
    """

    def __init__(self, split: str, *, root: str | Path) -> None:
        if split not in _MASK_FOLDER_OF_SPLIT:
            raise AtrousError(f"voc: unknown split {split!r}; choose one of {', '.join(_MASK_FOLDER_OF_SPLIT)}")
        folder = find_voc(root)
        mask_folder = _MASK_FOLDER_OF_SPLIT[split]
        masks = None if mask_folder is None else folder / mask_folder
        listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        if split.endswith("aug") and not listed.is_file():
            raise AtrousError(f"voc: the list {listed} does not exist; {_PREPARE}")
        if masks is not None and not masks.is_dir():
            hint = f"; {_PREPARE}" if split.endswith("aug") else ""
            raise AtrousError(f"voc: split {split!r} needs the folder {masks}, which does not exist{hint}")
        names = [Path(line).stem for line in read_list(listed, of="voc")]  # DeepLab's own lists hold paths
        super().__init__(
            VOC_2012,
            split,
            names=names,
            images=[folder / "JPEGImages" / f"{name}.jpg" for name in names],
            masks=None if masks is None else [masks / f"{name}.png" for name in names],
            published=PUBLISHED[split],
        )
