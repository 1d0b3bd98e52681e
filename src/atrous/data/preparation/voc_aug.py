"""VOC's larger training set: the masks of SBD (Hariharan et al. 2011) beside VOC's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.data.preparation.parallel import in_parallel
from atrous.data.sets.files import find_folder, read_list
from atrous.data.sets.matlab import read_variable
from atrous.data.sets.voc import PUBLISHED, VOC_2012, find_voc
from atrous.errors import AtrousError

_FOLDER = "SegmentationClassAug"


class _Mask(NamedTuple):
    source: Path
    target: Path


def build_trainaug(
    root: str | Path, *, workers: int | None = None, say: Callable[[str], None] = print
) -> dict[str, int]:
    """Write VOC's and SBD's masks into ``SegmentationClassAug``, and the lists ``trainaug`` and ``trainval_aug``.

    ``trainaug`` is VOC's train with SBD's train and val, less VOC's val: 10,582 images. Where both have a mask, it is
    VOC's. Masks and images that are there already are kept.

    Args:
        root: Where VOC 2012 is, and SBD (``benchmark_RELEASE/dataset``, or a folder ``SBD`` with ``cls``).
        workers: Processes; ``None`` for one on each core.
        say: Receives what is worth knowing.

    Returns:
        The number of images by list.

    Raises:
        AtrousError: A folder, list or file is missing, or a file cannot be read.
    """
    voc, sbd = find_voc(root), find_sbd(root)
    lists = voc / "ImageSets" / "Segmentation"
    train, val = (_stems(lists / f"{name}.txt", of="voc") for name in ("train", "val"))
    boundaries = [name for part in ("train", "val") for name in _stems(sbd / f"{part}.txt", of="sbd")]
    trainaug = sorted({*train, *boundaries} - {*val})
    trainval_aug = sorted({*trainaug, *val})
    own = {*train, *val}
    _add_images([name for name in trainval_aug if name not in own], voc, sbd)
    copies = [_Mask(voc / "SegmentationClass" / f"{name}.png", voc / _FOLDER / f"{name}.png") for name in sorted(own)]
    drawn = [
        _Mask(sbd / "cls" / f"{name}.mat", voc / _FOLDER / f"{name}.png") for name in trainval_aug if name not in own
    ]
    in_parallel(_copy, copies, "copying VOC's masks", workers=0)
    in_parallel(_convert, drawn, "converting SBD's masks", workers=workers)
    counts = {"trainaug": len(trainaug), "trainval_aug": len(trainval_aug)}
    for name, names in (("trainaug", trainaug), ("trainval_aug", trainval_aug)):
        with atomic_file(lists / f"{name}.txt") as file:
            file.write("".join(f"{each}\n" for each in names).encode())
        if len(names) != PUBLISHED[name]:
            say(f"voc_aug: {name} has {len(names):,} images instead of {PUBLISHED[name]:,}: VOC or SBD is not complete")
    return counts


def find_sbd(root: str | Path) -> Path:
    """The folder with SBD's ``cls`` and ``img``.

    Raises:
        AtrousError: There is none.
    """
    return find_folder(
        root,
        ("benchmark_RELEASE/dataset", "SBD/dataset", "SBD", "sbd", "dataset"),
        holds=("cls", "img"),
        name="SBD",
        of="voc_aug",
        otherwise="unpack benchmark.tgz there",
    )


def _stems(path: Path, *, of: str) -> list[str]:
    return [Path(line).stem for line in read_list(path, of=of)]


def _add_images(names: Sequence[str], voc: Path, sbd: Path) -> None:
    """Images are those of VOC; SBD has copies of the ones that a part of VOC lacks."""
    for name in names:
        image = voc / "JPEGImages" / f"{name}.jpg"
        if image.is_file():
            continue
        copy = sbd / "img" / image.name
        if not copy.is_file():
            raise AtrousError(f"voc_aug: the image {image} is missing, and {copy} too: complete VOC or SBD")
        _copy(_Mask(copy, image))


def _copy(mask: _Mask) -> None:
    if mask.target.is_file():
        return
    if not mask.source.is_file():
        raise AtrousError(f"voc_aug: {mask.source} is missing: complete the copy of the data set")
    with mask.source.open("rb") as content, atomic_file(mask.target) as file:
        shutil.copyfileobj(content, file)


def _convert(mask: _Mask) -> None:
    if mask.target.is_file():
        return
    truth = read_variable(mask.source, "GTcls")
    names = truth.dtype.names or ()
    ids = np.asarray(truth["Segmentation"][0, 0]) if "Segmentation" in names and truth.shape == (1, 1) else np.empty(0)
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise AtrousError(f"{mask.source}: the file holds no map GTcls.Segmentation, so it is no mask of SBD")
    picture = Image.fromarray(VOC_2012.encode(ids, str(mask.source)))
    picture.putpalette(VOC_2012.png_palette())
    with atomic_file(mask.target) as file:
        picture.save(file, format="PNG")
