"""From a folder or an archive to a description of it."""

from __future__ import annotations

import dataclasses
import tarfile
import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

from atrous.data.description import Description, picture_files
from atrous.data.description.yaml_file import safe_name
from atrous.data.label_space import LabelSpace
from atrous.data.preparation.archives import unpack
from atrous.data.preparation.describe.classes import find_classes
from atrous.data.preparation.describe.contents import Contents, look_at
from atrous.data.preparation.describe.drawing import DRAWN, draw_labels
from atrous.data.preparation.describe.labels import find_tool, read_labels
from atrous.data.preparation.describe.layout import find_layout
from atrous.data.preparation.describe.splits import find_splits
from atrous.data.sets.folder import find_pairs
from atrous.errors import AtrousError
from atrous.places import setting

Kind = Literal["auto", "masks", "coco", "yolo", "labelme"]


class Found(NamedTuple):
    """What a folder was found to hold.

    Attributes:
        root: The folder.
        description: Its description.
        said: What is worth knowing, one sentence each.
        problems: What is wrong with single files, one sentence each.
        side: The median of the shorter sides of the images in pixels.
    """

    root: Path
    description: Description
    said: list[str]
    problems: list[str]
    side: int


def describe(
    root: Path,
    *,
    labels: Kind = "auto",
    images: str | None = None,
    masks: str | None = None,
    workers: int | None = None,
) -> Found:
    """Find images, masks, classes and splits; labels of tools are drawn into masks.

    Args:
        root: The folder, or a zip or tar archive, which is unpacked beside itself.
        labels: What the labels are: "masks", or outlines of "coco", "yolo" or "labelme"; "auto" to look.
        images: The pattern of the images, if it is not to be found.
        masks: The pattern of the masks, if it is not to be found.
        workers: Processes; ``None`` for one on each core.

    Raises:
        AtrousError: There are no images with masks or labels, or what they hold makes no sense.
    """
    said: list[str] = []
    if root.is_file():
        root = _unpacked(root, said)
    if not root.is_dir():
        raise AtrousError(f"there is no folder or archive {root.absolute()}: point data.root to your images")
    pictures = [path for path in picture_files(root) if not path.startswith(DRAWN)]
    if not pictures:
        raise AtrousError(f"{root.absolute()}: there is no picture in this folder")
    if labels == "masks" or (labels == "auto" and (images or masks)):
        tool = None
    elif images or masks:
        raise AtrousError(
            f"describe.images and describe.masks are patterns of masks; leave out describe.labels={labels}"
        )
    else:
        tool = find_tool(root, pictures) if labels == "auto" else labels
    name = safe_name(root.resolve().name)
    if tool is None:
        description = _of_masks(root, pictures, name, images, masks)
    else:
        found = read_labels(root, tool, pictures, workers=workers)
        drawn = draw_labels(root, tool, found, name, workers=workers)
        said.append(f"{len(found.images):,} masks are drawn from labels ({tool}) in {drawn.masks}")
        orientation: Literal["stored", "upright"] | None = (
            None if found.upright is None else "upright" if found.upright else "stored"
        )
        description = Description(drawn.label_space, drawn.images, drawn.masks, drawn.splits, orientation=orientation)
    of_images, of_masks = find_pairs(root, description)
    names = sorted(of_images.keys() & of_masks.keys())
    pairs = [root / of_images[each] for each in names], [root / of_masks[each] for each in names]
    contents = look_at(*pairs, workers=workers)
    unlabeled = len(of_images) - len(names)
    if tool is None:
        classes = find_classes(root, name, contents)
        said.append(classes.said)
        description = dataclasses.replace(
            description,
            label_space=classes.label_space,
            color_code=classes.color_code,
            orientation=_orientation(contents, said),
        )
    if unlabeled:
        said.append(f"{unlabeled:,} of {len(of_images):,} images have no mask and are left out (unlabeled: skip)")
        description = dataclasses.replace(description, unlabeled="skip")
    if not description.splits.keys() >= {"train", "val"}:
        kept = {split: parts for split, parts in description.splits.items() if split == "test"}
        description = dataclasses.replace(description, splits={**kept, **find_splits(root, names)})
    return Found(root, description, said, contents.problems, contents.side)


def _unpacked(archive: Path, said: list[str]) -> Path:
    """The folder beside an archive in which it is unpacked; of one whose files are all in one folder, that folder."""
    if not (zipfile.is_zipfile(archive) or tarfile.is_tarfile(archive)):
        raise AtrousError(f"{archive}: neither a folder nor a zip or tar archive")
    name = archive.name
    for suffix in (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz"):
        name = name.removesuffix(suffix)
    folder = archive.with_name(name if name != archive.name else f"{name}_unpacked")
    unpack(archive, folder)
    inside = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX"]
    if len(inside) == 1 and inside[0].is_dir():
        folder = inside[0]
    said.append(f"{archive.name} is unpacked: give {setting('data.root', folder)} from now on")
    return folder


def _of_masks(root: Path, pictures: list[str], name: str, images: str | None, masks: str | None) -> Description:
    """Patterns and splits; what masks hold is not known yet."""
    layout = find_layout(root, pictures, images=images, masks=masks)
    unknown = LabelSpace(name, ("unknown",), ((0, 0, 0),))
    return Description(unknown, layout.images, layout.masks, {})


def _orientation(contents: Contents, said: list[str]) -> Literal["stored", "upright"] | None:
    if not contents.turned or contents.fits_stored == contents.fits_upright:
        if contents.turned:
            said.append(
                f"{contents.turned:,} images have an EXIF tag that turns them, and masks fit them either way: "
                "say in the description which is right, orientation: stored or orientation: upright"
            )
        return None
    orientation: Literal["stored", "upright"] = "stored" if contents.fits_stored else "upright"
    said.append(f"masks of {contents.turned:,} images with an EXIF tag that turns them fit them {orientation}")
    return orientation
