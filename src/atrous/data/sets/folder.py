"""A user's own folder of images and masks, as the description in it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.decoding import decode_colors, decode_ids, decode_image, image_size, is_turned
from atrous.data.description import FILE, Description, Pattern, picture_files, read_description
from atrous.data.problems import report
from atrous.data.sets.files import ImageMaskFiles, naming
from atrous.errors import AtrousError
from atrous.places import command, setting


class Folder(ImageMaskFiles):
    """Images and masks of a user.

    A split in which no image has a mask has no labels; such images can be labeled, not trained on.

    Args:
        split: One of those that the description names.
        root: The folder.
        description: The description; ``None`` for ``atrous.yaml`` in the folder, which ``task=describe`` writes.

    Raises:
        AtrousError: The description is missing or wrong; there is no such split; an image has no mask, or two.
    """

    def __init__(self, split: str, *, root: str | Path, description: str | Path | None = None) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise AtrousError(f"folder: there is no folder {folder.absolute()}: point data.root to that of your images")
        self.description = read_description(find_description(folder, description))
        images, masks = find_pairs(folder, self.description)
        shared = masks if self.description.unlabeled == "skip" else None
        chosen = self.description.choose(split, sorted(images), root=folder, labeled=shared)
        labeled = [name for name in chosen if name in masks]
        if labeled:
            if self.description.unlabeled == "error":
                _require_masks([name for name in chosen if name not in masks], images, folder, self.description)
            chosen = labeled
        super().__init__(
            self.description.label_space,
            split,
            names=chosen,
            images=[folder / images[name] for name in chosen],
            masks=[folder / masks[name] for name in chosen] if labeled else None,
        )

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read one image, turned upright where the masks fit it so.

        Raises:
            AtrousError: The file cannot be decoded, or has an EXIF tag that turns it and the description does not say
                which way masks fit.
        """
        path, orientation = self.images[index], self.description.orientation
        with naming(path, "image"):
            content = path.read_bytes()
            if not is_turned(content):
                return decode_image(content)
            if orientation is None and self.labeled:
                raise AtrousError(
                    "it has an EXIF tag that turns it: say in the description whether masks fit images as they are "
                    "stored or as they are shown, orientation: stored or orientation: upright"
                )
            return decode_image(content, upright=orientation == "upright")

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read one mask, of ids or of colors; all of it is ignored where there is none."""
        if not self.labeled:
            return super().mask(index)
        path, code = self.masks[index], self.description.color_code
        with naming(path, "mask"):
            content = path.read_bytes()
            ids = decode_ids(content, gray_rgb=True) if code is None else None
            colors = decode_colors(content) if code is not None else None
        if code is not None and colors is not None:
            return code.encode(colors, str(path))
        assert ids is not None
        return self.label_space.encode(ids, str(path))

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width, as ``image`` gives it."""
        with naming(self.images[index], "image"):
            return image_size(self.images[index], upright=self.description.orientation == "upright")

    def fingerprint(self, *, images: bool = False) -> str:
        """That of the files, and what the description says about reading them."""
        said = (super().fingerprint(images=images), self.description.color_code is None, self.description.orientation)
        return hashlib.sha256(repr(said).encode()).hexdigest()


def find_description(folder: Path, description: str | Path | None = None) -> Path:
    """The file that describes a folder.

    Raises:
        AtrousError: There is none.
    """
    path = folder / FILE if description is None else Path(description)
    if not path.is_file():
        raise AtrousError(
            f"folder: {path} is missing, which describes the images: `{command('prepare')} task=describe "
            f"{setting('data.root', folder)}` looks at them and writes it"
        )
    return path


def find_pairs(folder: Path, description: Description) -> tuple[dict[str, str], dict[str, str]]:
    """The image and the mask of every sample by its name, as paths in the folder.

    A file that fits both patterns belongs to the one that says more.

    Raises:
        AtrousError: No file fits, two files are the image or the mask of a sample, or the patterns are the same.
    """
    of_images, of_masks = description.images, description.masks
    if of_images.text == of_masks.text:
        raise AtrousError(f"folder: images and masks are the same files, {of_images}")
    images_say_more = of_images.literal_length > of_masks.literal_length
    images: dict[str, list[str]] = {}
    masks: dict[str, list[str]] = {}
    for path in picture_files(folder):
        image, mask = of_images.name(path), of_masks.name(path)
        if image is not None and (mask is None or images_say_more):
            images.setdefault(image, []).append(path)
        elif mask is not None:
            masks.setdefault(mask, []).append(path)
    for found, pattern, what in ((images, of_images, "image"), (masks, of_masks, "mask")):
        if not found:
            raise AtrousError(f"folder: there is no {what} {pattern} in {folder.absolute()}")
    return _only(images, "images", folder), _only(masks, "masks", folder)


def _only(found: Mapping[str, list[str]], what: str, folder: Path) -> dict[str, str]:
    for name, paths in found.items():
        if len(paths) > 1:
            sentence = f"{folder / paths[0]} and {paths[1]} are both {what} of {name!r}; keep one of them"
            report([sentence], otherwise=sentence)
    return {name: paths[0] for name, paths in found.items()}


def _require_masks(lacking: list[str], images: Mapping[str, str], folder: Path, description: Description) -> None:
    if not lacking:
        return
    problems = [f"{folder / images[name]}: it has no mask {_expected(description.masks, name)}" for name in lacking]
    more = f" (and {len(lacking) - 1} more of {len(images)})" if len(lacking) > 1 else ""
    remedy = "add it, or leave such images out with unlabeled: skip in the description"
    report(problems, otherwise=f"{problems[0]}{more}; {remedy}")


def _expected(pattern: Pattern, name: str) -> str:
    """The path of a sample's mask."""
    if "{folder}" in pattern.text:
        first, _, rest = name.partition("/")
        return pattern.text.replace("{folder}", first).replace("{name}", rest)
    return pattern.text.replace("{name}", name)
