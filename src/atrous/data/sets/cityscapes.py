"""Cityscapes, with fine and coarse annotations: 19 classes, 2048x1024 frames of driving scenes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from atrous.data.label_space import LabelSpace
from atrous.data.sets.files import ImageMaskFiles, find_folder
from atrous.errors import AtrousError

_CLASSES: tuple[tuple[str, int, tuple[int, int, int]], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_KNOWN_IDS = 34

CITYSCAPES = LabelSpace(
    name="cityscapes",
    classes=tuple(name for name, _, _ in _CLASSES),
    palette=tuple(color for _, _, color in _CLASSES),
    raw_ids=tuple(raw for _, raw, _ in _CLASSES),
    ignored_raw_ids=tuple(sorted(set(range(_KNOWN_IDS)) - {raw for _, raw, _ in _CLASSES})),
)
"""The 19 classes that are scored, as train ids; the other label ids are void."""

_FINE, _COARSE = "gtFine", "gtCoarse"


class _Part(NamedTuple):
    """Frames of one folder of ``leftImg8bit``, with one kind of annotation, and how many there are."""

    frames: str
    annotations: str
    published: int


_TRAIN, _VAL, _TEST = _Part("train", _FINE, 2975), _Part("val", _FINE, 500), _Part("test", _FINE, 1525)
_EXTRA = _Part("train_extra", _COARSE, 19_998)
_PARTS_OF_SPLIT: dict[str, tuple[_Part, ...]] = {
    "train": (_TRAIN,),
    "val": (_VAL,),
    "trainval": (_TRAIN, _VAL),
    "test": (_TEST,),
    "train_extra": (_EXTRA,),
    "train_coarse": (_TRAIN._replace(annotations=_COARSE),),
    "trainval_extra": (_TRAIN, _VAL, _EXTRA),
}
_IMAGE_END, _IMAGES = "_leftImg8bit.png", "leftImg8bit"
_ARCHIVES = {"train_extra": "leftImg8bit_trainextra.zip"}


class Cityscapes(ImageMaskFiles):
    """Cityscapes in its own layout: ``<part>/<city>`` in ``leftImg8bit``, ``gtFine`` and ``gtCoarse``.

    Args:
        split: "train" (2,975 frames), "val" (500), "trainval" (both) or "test" (1,525), whose masks the test server
            keeps: those in ``gtFine/test`` hold nothing. With coarse annotations "train_extra" (19,998 frames more),
            "train_coarse" (those of "train"), and "trainval_extra": "trainval" with fine and "train_extra" with coarse
            ones, on which entries to the test server were trained (DeepLabv3+ §4.4).
        root: The folder that holds ``leftImg8bit`` and the annotations, or one that holds it as ``cityscapes`` or
            ``Cityscapes``.

    Raises:
        AtrousError: Unknown split; folder, image or mask missing.
    """

    def __init__(self, split: str, *, root: str | Path) -> None:
        if split not in _PARTS_OF_SPLIT:
            raise AtrousError(f"cityscapes: unknown split {split!r}; choose one of {', '.join(_PARTS_OF_SPLIT)}")
        folder = find_folder(
            root,
            ("cityscapes", "Cityscapes", ""),
            holds=(_IMAGES, *sorted({part.annotations for part in _PARTS_OF_SPLIT[split]}, reverse=True)),
            name="Cityscapes",
            of="cityscapes",
            otherwise="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there, for coarse annotations "
            "leftImg8bit_trainextra.zip and gtCoarse.zip too, or point data.root there",
        )
        images: list[Path] = []
        names: list[str] = []
        masks: list[Path] = []
        for part in _PARTS_OF_SPLIT[split]:
            found = sorted((folder / _IMAGES / part.frames).glob(f"*/*{_IMAGE_END}"))
            if not found:
                archive = _ARCHIVES.get(part.frames, "leftImg8bit_trainvaltest.zip")
                raise AtrousError(
                    f"cityscapes: no frame in {folder / _IMAGES / part.frames}: unpack {archive} in {folder}"
                )
            for image in found:
                name = image.name.removesuffix(_IMAGE_END)
                city = folder / part.annotations / part.frames / image.parent.name
                masks.append(city / f"{name}_{part.annotations}_labelIds.png")
                names.append(name)
            images += found
        super().__init__(
            CITYSCAPES,
            split,
            names=names,
            images=images,
            masks=None if split == "test" else masks,
            published=sum(part.published for part in _PARTS_OF_SPLIT[split]),
        )
