"""PASCAL-Person-Part: the persons of VOC 2010 in six parts, merged from the finer ones of Pascal-Part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.files import ImageMaskFiles, parts_of_split, read_list
from atrous.data.sets.matlab import read_variable
from atrous.data.sets.voc2010 import SPLITS, find_annotations, find_voc2010
from atrous.errors import AtrousError
from atrous.terminal import track

_PARTS_OF_CLASS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("background", ()),
    ("head", ("head", "hair", "lear", "rear", "leye", "reye", "lebrow", "rebrow", "nose", "mouth")),
    ("torso", ("torso", "neck")),
    ("upper arm", ("luarm", "ruarm")),
    ("lower arm", ("llarm", "rlarm", "lhand", "rhand")),
    ("upper leg", ("luleg", "ruleg")),
    ("lower leg", ("llleg", "rlleg", "lfoot", "rfoot")),
)
_CLASS_OF_PART = {part: label for label, (_, parts) in enumerate(_PARTS_OF_CLASS) for part in parts}

PERSON_PART = LabelSpace(
    name="person_part",
    classes=tuple(name for name, _ in _PARTS_OF_CLASS),
    palette=voc_color_map(len(_PARTS_OF_CLASS)),
)
"""Background and six parts of a person (DeepLabv2 §4.3)."""


_PUBLISHED = {"train": 1716, "val": 1817}


class PersonPart(ImageMaskFiles):
    """Person-Part: images of ``VOC2010`` and a MATLAB file ``Annotations_Part/<id>.mat`` with the parts of each object.

    Where persons or parts overlap, the later one in the file paints over the earlier ones. A person's pixels in none of
    its parts are background, and so are all other objects.

    A split is the list ``ImageSets/Person-Part/<split>.txt`` where there is one. Otherwise it is those images of
    ``ImageSets/Main/<split>.txt`` that have a person, for which every annotation is read once, with a progress bar.

    Args:
        split: "train" (1,716 images), "val" (1,817) or "trainval" (both).
        root: The folder ``VOC2010``, or one that holds ``VOC2010`` or ``VOCdevkit/VOC2010``; the folder
            ``Annotations_Part`` lies in ``VOC2010``, beside it, or beside ``VOCdevkit``.

    Raises:
        AtrousError: Unknown split; folder, list, image or annotation missing; no image with a person.
    """

    def __init__(self, split: str, *, root: str | Path) -> None:
        parts = parts_of_split(split, SPLITS, of="person_part")
        voc = find_voc2010(root, of="person_part")
        annotations = find_annotations(
            voc, "Annotations_Part", of="person_part", archive="Pascal-Part's trainval.tar.gz (parts of objects)"
        )
        names = [name for part in parts for name in _names_of_part(voc, annotations, part)]
        super().__init__(
            PERSON_PART,
            split,
            names=names,
            images=[voc / "JPEGImages" / f"{name}.jpg" for name in names],
            masks=[annotations / f"{name}.mat" for name in names],
            published=sum(_PUBLISHED[part] for part in parts),
        )

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read one mask without its image.

        Raises:
            AtrousError: The file cannot be read, a person has an unknown part, or sizes differ.
        """
        path = self.masks[index]
        objects = _objects(path)
        if not objects:
            raise AtrousError(f"{path}: the annotation has no object, so its size is unknown; take it from the list")
        labels = np.zeros(objects[0]["mask"].shape, dtype=np.uint8)
        for person in filter(_is_person, objects):
            for name, inside in _parts(person):
                if name not in _CLASS_OF_PART:
                    raise AtrousError(
                        f"{path}: a person has the unknown part {name!r}; known are {', '.join(_CLASS_OF_PART)}"
                    )
                if inside.shape != labels.shape:
                    raise AtrousError(
                        f"{path}: the mask of {name} is {inside.shape[1]}x{inside.shape[0]} pixels, but that of the "
                        f"first object is {labels.shape[1]}x{labels.shape[0]}"
                    )
                labels[inside != 0] = _CLASS_OF_PART[name]
        return labels


def _names_of_part(voc: Path, annotations: Path, part: str) -> list[str]:
    """Images with persons of train or val."""
    own = voc / "ImageSets" / "Person-Part" / f"{part}.txt"
    if own.is_file():
        return read_list(own, of="person_part")
    names = read_list(voc / "ImageSets" / "Main" / f"{part}.txt", of="person_part")
    looked_at = track(names, f"looking for persons in person_part {part}", total=len(names), lines=1)
    return [name for name in looked_at if any(map(_is_person, _objects(annotations / f"{name}.mat")))]


def _objects(path: Path) -> list[Any]:
    """The objects of an annotation: records of ``class``, ``mask`` and ``parts``."""
    annotation = read_variable(path, "anno")
    try:
        objects = annotation[0, 0]["objects"]
        if objects.size and not {"class", "mask", "parts"} <= set(objects.dtype.names or ()):
            raise ValueError("objects without class, mask or parts")
    except (IndexError, ValueError, TypeError) as error:
        raise AtrousError(
            f"{path}: anno is not an annotation of Pascal-Part, which has objects of class, mask and parts"
        ) from error
    return list(objects.ravel())


def _is_person(annotated: Any) -> bool:
    return "person" in annotated["class"]


def _parts(annotated: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and mask of each part of an object, in the order of the file."""
    return ((str(part["part_name"].item()), part["mask"]) for part in annotated["parts"].ravel())
