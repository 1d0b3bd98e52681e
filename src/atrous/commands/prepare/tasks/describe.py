"""A user's own images: found, described in ten lines of YAML, and shown."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from rich.console import Console

from atrous.atomic_file import atomic_file
from atrous.data.dataset import RawSample
from atrous.data.description import FILE, write_description
from atrous.data.label_space import LabelSpace
from atrous.data.preparation.describe import describe
from atrous.data.preparation.describe.splits import describe_splits
from atrous.data.sets import Folder
from atrous.errors import AtrousError
from atrous.places import command, setting
from atrous.reports.samples import sample_sheet
from atrous.terminal import say

_SHOWN = 12
_LARGEST_CROP, _STRIDE = 513, 16


def run(
    console: Console,
    *,
    root: str | None,
    figures: str,
    labels: Literal["auto", "masks", "coco", "yolo", "labelme"] = "auto",
    images: str | None = None,
    masks: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Look at a folder of images, and write what it holds to ``atrous.yaml`` in it.

    Args:
        console: Where the description and progress go.
        root: The folder, or an archive of it.
        figures: Folder for the picture of twelve images with their masks.
        labels: What the labels are; "auto" to look.
        images: Pattern of the images; ``None`` to find it.
        masks: Pattern of the masks; ``None`` to find it.
        overwrite: Whether to replace a description that is there.
        workers: Processes; ``None`` for one on each core.

    Returns:
        The folder, its classes, the lengths of its splits, and problems with single files, for JSON.

    Raises:
        AtrousError: There is a description already, or there is nothing that can be described.
    """
    if root is None:
        raise AtrousError("data.root is missing: point it to the folder of your images, or to a zip of it")
    _require_new(Path(root), overwrite)
    found = describe(Path(root), labels=labels, images=images, masks=masks, workers=workers)
    _require_new(found.root, overwrite)
    path = found.root / FILE
    write_description(path, found.description)
    for line in (*found.problems, *found.said):
        say(console, line)
    console.print()
    say(console, f"{path}:")
    say(console, path.read_text(encoding="utf-8"))
    splits = {split: Folder(split, root=found.root) for split in found.description.splits}
    lengths = {split: len(dataset) for split, dataset in splits.items()}
    picture = Path(figures) / "samples.png"
    _draw(picture, list(splits.values()), found.description.label_space)
    say(console, f"splits: {describe_splits(found.description.splits, lengths)}")
    say(console, f"look at {picture}: do the masks fit? If so, one of:")
    say(console, f"{command('train')} experiment=own_images {setting('data.root', found.root)}")
    crop = f"augment.crop_size={_crop(found.side)}"
    say(console, f"{command('train')} data=folder {setting('data.root', found.root)} {crop}")
    space = found.description.label_space
    return {
        "root": str(found.root),
        "classes": list(space.classes),
        "lengths": lengths,
        "notes": found.said,
        "problems": found.problems,
    }


def _require_new(root: Path, overwrite: bool) -> None:
    path = root / FILE
    if path.exists() and not overwrite:
        raise AtrousError(f"{path} is there already: keep it, or replace it with describe.overwrite=true")


def _draw(picture: Path, splits: Sequence[Folder], label_space: LabelSpace) -> None:
    """Twelve images, evenly spread over all splits; those that cannot be read have been said already."""
    places = [(dataset, index) for dataset in splits for index in range(len(dataset))]
    samples: list[RawSample] = []
    for step in range(min(_SHOWN, len(places))):
        dataset, index = places[step * len(places) // min(_SHOWN, len(places))]
        with contextlib.suppress(AtrousError):
            samples.append(dataset[index])
    if samples:
        with atomic_file(picture) as file:
            Image.fromarray(sample_sheet(samples, label_space)).save(file, format="PNG")


def _crop(side: int) -> int:
    """A crop that most images fill, a multiple of the usual output stride plus 1."""
    return min(_LARGEST_CROP, max(2, (side - 1) // _STRIDE) * _STRIDE + 1)
