"""COCO's images with the classes of VOC, on which networks are trained before VOC (DeepLabv2 §4.1, v3 §4, v3+ §4)."""

from __future__ import annotations

from pathlib import Path

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.files import ImageMaskFiles, find_folder, parts_of_split, read_list
from atrous.data.sets.voc import VOC_CLASSES
from atrous.errors import AtrousError
from atrous.places import command

COCO_VOC = LabelSpace(name="coco_voc", classes=VOC_CLASSES, palette=voc_color_map(len(VOC_CLASSES)))
"""VOC's classes; pixels of two objects are void."""

NAMES_IN_COCO = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Classes of VOC that COCO calls by another name."""

PARTS_OF_SPLIT = {"train": ("train",), "val": ("val",), "trainval": ("train", "val")}
MASKS = "voc_masks"
PREPARE = f"`{command('prepare')} task=data data=coco_voc`"


def find_coco(root: str | Path, part: str) -> Path:
    """The folder of COCO: ``root`` or its ``coco`` or ``COCO``, with the images of a part such as ``train2017``.

    Raises:
        AtrousError: It is in none of the three.
    """
    return find_folder(
        root,
        ("coco", "COCO", ""),
        holds=(part,),
        name="COCO",
        of="coco_voc",
        otherwise=f"unpack {part}.zip and annotations_trainval{part[-4:]}.zip there, or point data.root to it; then "
        f"run {PREPARE}",
    )


class CocoVOC(ImageMaskFiles):
    """COCO's images that show more than 1,000 pixels of VOC's classes, with masks that ``task=data`` draws.

    Args:
        split: "train", "val" or "trainval" (both).
        root: The folder of COCO, with ``train2017`` and so on, or one that holds it as ``coco`` or ``COCO``.
        year: Of the release: 2017, or 2014.

    Raises:
        AtrousError: Unknown split; folder, list, image or mask missing.
    """

    def __init__(self, split: str, *, root: str | Path, year: int = 2017) -> None:
        names: list[str] = []
        images: list[Path] = []
        masks: list[Path] = []
        for part in (f"{part}{year}" for part in parts_of_split(split, PARTS_OF_SPLIT, of="coco_voc")):
            folder = find_coco(root, part)
            listed = folder / MASKS / f"{part}.txt"
            if not listed.is_file():
                raise AtrousError(
                    f"coco_voc: the masks of {part} are not drawn yet ({listed} is missing): run {PREPARE}"
                )
            stems = read_list(listed, of="coco_voc")
            names += stems
            images += [folder / part / f"{stem}.jpg" for stem in stems]
            masks += [folder / MASKS / part / f"{stem}.png" for stem in stems]
        super().__init__(COCO_VOC, split, names=names, images=images, masks=masks)
