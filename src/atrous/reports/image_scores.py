"""Scores of single images: which ones a network does worst on, and which best."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError

Kind = Literal["worst", "median", "best"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PHOTOGRAPHS = ("input", "error", "confidence")  # the colors of the others mean something


@dataclass(frozen=True, order=True)
class ImageScore:
    """What an image scores by itself.

    Attributes:
        index: Its place in the data set's list.
        name: What identifies it within the data set.
        miou: Mean IoU over the classes that occur in its truth or its prediction.
        pixel_accuracy: Share of its labeled pixels that are right.
        pixels: Number of its labeled pixels; there are some.
    """

    index: int
    name: str
    miou: float
    pixel_accuracy: float
    pixels: int


def extremes(scores: Iterable[ImageScore], count: int) -> dict[Kind, list[ImageScore]]:
    """The worst images, those in the middle, and the best ones, by mIoU.

    Args:
        scores: Of all images.
        count: Of each kind at most; no image is of two kinds.
    """
    ordered = sorted(scores, key=lambda score: (score.miou, score.index))
    each = min(count, len(ordered) // 3) or min(count, 1)
    worst, rest = ordered[:each], ordered[each:]
    best = rest[::-1][:each]
    rest = rest[: len(rest) - len(best)]
    first = max(0, math.ceil((len(rest) - each) / 2))
    return {"worst": worst, "median": rest[first : first + each], "best": best}


def write_image_scores(path: str | Path, scores: Sequence[ImageScore]) -> None:
    """Write one line per image, in the order of the data set's list."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ImageScore.__annotations__)
    for each in sorted(scores):
        writer.writerow([each.index, each.name, f"{each.miou:.6f}", f"{each.pixel_accuracy:.6f}", each.pixels])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def read_image_scores(path: str | Path) -> list[ImageScore]:
    """Inverse of ``write_image_scores``.

    Raises:
        AtrousError: The file is not one.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [_read(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise AtrousError(f"{path} has no scores of images: {error}") from error


def _read(row: Mapping[str, str]) -> ImageScore:
    return ImageScore(
        int(row["index"]), row["name"], float(row["miou"]), float(row["pixel_accuracy"]), int(row["pixels"])
    )


class DrawnImage(NamedTuple):
    """One of the extreme images, drawn.

    Attributes:
        kind: Which extreme.
        number: Its place among those of its kind, from 1.
        score: What it scores.
        confidence: Mean probability of what was predicted, over its labeled pixels.
        tiles: Pictures of one size by title.
    """

    kind: Kind
    number: int
    score: ImageScore
    confidence: float
    tiles: Mapping[str, NDArray[np.uint8]]


def write_drawn_images(folder: str | Path, images: Sequence[DrawnImage]) -> None:
    """Write each image into a folder such as ``worst_1`` with a WebP for each tile; others of earlier calls go."""
    folder = Path(folder)
    fresh = {f"{image.kind}_{image.number}": image for image in images}
    for name, image in fresh.items():
        facts = {**asdict(image.score), "confidence": image.confidence, "tiles": list(image.tiles)}
        with atomic_file(folder / name / "image.json") as file:
            file.write((json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
        for title, tile in image.tiles.items():
            with atomic_file(folder / name / f"{title}.webp") as file:
                form = {"quality": 85} if title in _PHOTOGRAPHS else {"lossless": True}
                Image.fromarray(tile).save(file, "WEBP", **form)
    for kind in KINDS:
        for old in folder.glob(f"{kind}_*"):
            if old.name not in fresh:
                shutil.rmtree(old)
