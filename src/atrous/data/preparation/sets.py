"""What every data set needs before it can be trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from atrous.data.preparation import sources
from atrous.data.preparation.coco_voc import draw_coco_voc
from atrous.data.preparation.voc_aug import build_trainaug
from atrous.data.sets import ADE20K, VOC2012, CamVid, Cityscapes, CocoVOC, Mix, PascalContext, PersonPart
from atrous.data.sets.coco_voc import PARTS_OF_SPLIT
from atrous.errors import AtrousError

Say = Callable[[str], None]


def prepare(dataset: Callable[..., Any], splits: Sequence[str], *, fetch: bool, workers: int | None, say: Say) -> None:
    """Fetch and convert what is not there yet.

    Args:
        dataset: The data set, a partial call with its ``root``.
        splits: Those that are needed.
        fetch: Whether to fetch from the network.
        workers: Processes; ``None`` for one on each core.
        say: Receives what is worth knowing.

    Raises:
        AtrousError: Something is to be fetched by hand, or a file is faulty.
    """
    kind, options = _called(dataset)
    if "root" not in options:
        return  # such as shapes, which are drawn
    if kind is Mix:
        others = [split for split in splits if split != "train"]  # of the first data set
        for name, part in options["parts"].items():
            of_part = [options["train_splits"][name], *others]
            prepare(functools.partial(part, root=options["root"]), of_part, fetch=fetch, workers=workers, say=say)
            others = []
        return
    root, opens = Path(options["root"]), _opens(dataset, splits)
    if not opens:
        for name in sources.fetch(_archives(kind, splits, options), root, allowed=fetch):
            say(f"{name} is unpacked in {root}")
    if kind is VOC2012 and not opens and any(split.endswith("aug") for split in splits):
        build_trainaug(root, workers=workers, say=say)
    if kind is CocoVOC:  # its annotations may have changed
        for split in splits:
            draw_coco_voc(root, split, year=options.get("year", 2017), workers=workers, say=say)


def _opens(dataset: Callable[..., Any], splits: Sequence[str]) -> bool:
    """Whether every file that a training asks for is there."""
    try:
        for split in splits:
            dataset(split=split)
    except AtrousError:
        return False
    return True


def _archives(kind: type, splits: Sequence[str], options: dict[str, Any]) -> tuple[sources.Archive, ...]:
    if kind is VOC2012:
        more = sources.SBD_ARCHIVES if any(split.endswith("aug") for split in splits) else ()
        return (*sources.VOC_2012_ARCHIVES, *more)
    if kind is CocoVOC:
        year = options.get("year", 2017)
        return sources.coco_archives([f"{part}{year}" for split in splits for part in PARTS_OF_SPLIT[split]])
    if kind is Cityscapes:
        coarse = any("extra" in split or "coarse" in split for split in splits)
        return (*sources.CITYSCAPES_ARCHIVES, *(sources.CITYSCAPES_COARSE_ARCHIVES if coarse else ()))
    others: dict[type, tuple[sources.Archive, ...]] = {
        ADE20K: sources.ADE20K_ARCHIVES,
        CamVid: sources.CAMVID_ARCHIVES,
        PascalContext: sources.PASCAL_CONTEXT_ARCHIVES,
        PersonPart: sources.PERSON_PART_ARCHIVES,
    }
    return others.get(kind, ())


def _called(dataset: Callable[..., Any]) -> tuple[type, dict[str, Any]]:
    """The class and the arguments of nested partial calls."""
    options: dict[str, Any] = {}
    while isinstance(dataset, functools.partial):
        options = {**dataset.keywords, **options}
        dataset = dataset.func
    if not isinstance(dataset, type):
        raise AtrousError(f"{dataset} is no data set that can be prepared")
    return dataset, options
