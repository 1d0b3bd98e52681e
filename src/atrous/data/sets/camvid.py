"""CamVid, the 11-class version of the SegNet tutorial (480x360 frames of driving scenes)."""

from __future__ import annotations

from pathlib import Path

from atrous.data.label_space import LabelSpace
from atrous.data.sets.files import ImageMaskFiles, parts_of_split
from atrous.errors import AtrousError

CAMVID = LabelSpace(
    name="camvid",
    classes=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    palette=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    ignored_raw_ids=(11,),
)
"""Class order and colors of the SegNet tutorial; void is 11 in the files."""

_PARTS_OF_SPLIT = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}
_PUBLISHED = {"train": 367, "val": 101, "test": 233}
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class CamVid(ImageMaskFiles):
    """CamVid with 11 classes; void is ignored in training and evaluation.

    Two layouts are known: ``images/<split>`` + ``masks/<split>``, and the SegNet tutorial's ``<split>`` +
    ``<split>annot``.

    Args:
        split: "train", "val", "test" or "trainval" (both together).
        root: The folder with one of the two layouts, or one that holds it as ``camvid`` or ``CamVid``.

    Raises:
        AtrousError: Unknown split; folder, image or mask missing.
    """

    def __init__(self, split: str, *, root: str | Path) -> None:
        images: list[Path] = []
        masks: list[Path] = []
        for part in parts_of_split(split, _PARTS_OF_SPLIT, of="camvid"):
            image_folder, mask_folder = _find_part(Path(root), part)
            found = sorted(path for path in image_folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
            if not found:
                raise AtrousError(f"camvid: no .jpg or .png image in {image_folder}")
            images += found
            masks += [mask_folder / f"{path.stem}.png" for path in found]
        published = sum(_PUBLISHED[part] for part in _PARTS_OF_SPLIT[split])
        names = [path.stem for path in images]
        super().__init__(CAMVID, split, names=names, images=images, masks=masks, published=published)


def _find_part(root: Path, part: str) -> tuple[Path, Path]:
    """Folders of the images and the masks of train, val or test."""
    for folder in (root / "camvid", root / "CamVid", root):
        for images, masks in (("images/" + part, "masks/" + part), (part, part + "annot")):
            if (folder / images).is_dir() and (folder / masks).is_dir():
                return folder / images, folder / masks
    raise AtrousError(
        f"camvid: no split {part!r} in {root.absolute()}; expected images/{part} and masks/{part}, or {part} and "
        f"{part}annot as in the SegNet tutorial, there or in camvid: put the data set there or point data.root to it"
    )
