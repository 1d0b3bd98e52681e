"""The dense CRF beside pydensecrf: images and scores to probabilities, lattices included, and what is not exact."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrous.checkpoints.load import load_segmentor
from atrous.commands.benchmark.turns import Timing, take_turns
from atrous.commands.predict.image_files import find_images, read_rgb
from atrous.crf import DenseCRF
from atrous.crf.pydensecrf_backend import PydensecrfBackend
from atrous.data.sets import Shapes
from atrous.errors import AtrousError, require_range
from atrous.memory import keep_freed_memory
from atrous.runs import checkpoint_to_use
from atrous.terminal import say

APPROXIMATIONS: Mapping[str, Mapping[str, Any]] = {
    "labels from 0.01": {"prune": 0.01},
    "labels from 0.05": {"prune": 0.05},
    "float16": {"storage": "float16"},
    "half the size": {"resolution": 0.5},
    "5 iterations": {"iterations": 5},
}
THEIRS = "pydensecrf"

_Turn = dict[str, Callable[[], Tensor]]
_Contestants = dict[str, Callable[["_Scene"], Tensor]]


@dataclasses.dataclass(frozen=True)
class _Scene:
    """Scores and image of one picture, 1×C×H×W and 1×3×H×W."""

    scores: Tensor
    image: Tensor


def run(
    console: Console,
    *,
    images: str | None = None,
    limit: int = 7,
    checkpoint: str | None = None,
    classes: int = 21,
    street: Sequence[int] = (1024, 2048, 19),
    backends: Sequence[str] = ("torch", "native"),
    threads: Sequence[int] = (2, 1),
    approximations: bool = True,
    training: bool = True,
    rounds: int = 3,
) -> dict[str, Any]:
    """Time the CRF and pydensecrf in turn on the same pictures and scores, and print tables.

    Ratios are of pydensecrf's time, on one thread as always, to ours, over all pictures. Kernels of places alone, which
    are the same for all pictures of a size, are kept from one call to the next. Differences are the largest of all
    probabilities, and the share of pixels with another label.

    Args:
        console: Where tables go.
        images: Folder or pattern of photographs; ``None`` for pictures of the embedded data set.
        limit: How many of them, evenly spaced.
        checkpoint: Network whose scores are refined; ``None`` for smooth noise in place of them.
        classes: Number of classes of the noise.
        street: Height, width and classes of one large picture that is put together from the others, with noise; an
            empty list for none.
        backends: Of ours.
        threads: Numbers of threads to time, one after the other.
        approximations: Also time what is not exact, beside the exact CRF.
        training: Also time forward and backward of five iterations.
        rounds: How often contestants take turns on a picture, after one that does not count.

    Returns:
        A row for each contestant.

    Raises:
        AtrousError: An option is impossible, or pydensecrf is missing.
    """
    for option, value in (("limit", limit), ("classes", classes), ("threads", threads), ("rounds", rounds)):
        require_range(f"crf.{option}", value, at_least=1)
    if len(street) not in (0, 3):
        raise AtrousError(f"crf.street={list(street)} must be height, width and classes, or empty")
    keep_freed_memory()  # as in evaluation
    pictures = _pictures(images, limit)
    scenes = [_Scene(_noise(picture, classes), picture) for picture in pictures]
    if checkpoint is not None:
        scenes = _scored(checkpoint, pictures)
    sets = {f"{len(scenes)} pictures, {scenes[0].scores.shape[1]} classes": scenes}
    if street:
        mosaic = _mosaic(pictures, street[0], street[1])
        sets["x".join(map(str, street))] = [_Scene(_noise(mosaic, street[2]), mosaic)]
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        for count in threads:
            torch.set_num_threads(count)
            for name, own in sets.items():
                with torch.inference_mode():
                    rows += _against_the_original(name, own, backends, count, rounds)
                if training and own is scenes:
                    rows += _training(name, own, backends, count, rounds)
                if approximations and own is scenes and count == threads[0]:
                    with torch.inference_mode():
                        rows += _approximate(name, own, count, rounds)
    finally:
        torch.set_num_threads(before)
    console.print(_table(rows))
    for row in rows:
        say(console, f"{row['case']}: {row['ratio']:.2f}x")
    return {"suite": "crf", "rows": rows}


def _against_the_original(
    name: str, scenes: Sequence[_Scene], backends: Sequence[str], threads: int, rounds: int
) -> list[dict[str, Any]]:
    ours: _Contestants = {each: functools.partial(_refined, DenseCRF(backend=each)) for each in backends}
    turns = _turns(scenes, {THEIRS: _original, **ours})
    times = _total(turns, rounds)
    wanted = [turn[THEIRS]() for turn in turns]
    found = {backend: [turn[backend]() for turn in turns] for backend in backends}
    theirs = _row(name, THEIRS, threads, times[THEIRS], times[THEIRS])
    return [theirs] + [
        _row(name, backend, threads, times[backend], times[THEIRS], _difference(found[backend], wanted))
        for backend in backends
    ]


def _approximate(name: str, scenes: Sequence[_Scene], threads: int, rounds: int) -> list[dict[str, Any]]:
    """What is not exact, beside what is."""
    crfs = {"exact": DenseCRF(), **{each: DenseCRF(**options) for each, options in APPROXIMATIONS.items()}}
    turns = _turns(scenes, {each: functools.partial(_refined, crf) for each, crf in crfs.items()})
    times = _total(turns, rounds)
    wanted = [turn["exact"]() for turn in turns]
    return [
        _row(name, each, threads, times[each], times["exact"], _difference([turn[each]() for turn in turns], wanted))
        for each in APPROXIMATIONS
    ]


def _training(
    name: str, scenes: Sequence[_Scene], backends: Sequence[str], threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Forward and backward of five iterations, beside pydensecrf's ten forward."""
    ours: _Contestants = {each: functools.partial(_learn, DenseCRF(backend=each, iterations=5)) for each in backends}
    turns = _turns(scenes, {THEIRS: _original, **ours})
    times = _total(turns, rounds)
    return [
        _row(name, f"{backend}, forward and backward of 5", threads, times[backend], times[THEIRS])
        for backend in backends
    ]


def _turns(scenes: Sequence[_Scene], contestants: _Contestants) -> list[_Turn]:
    return [{name: functools.partial(work, scene) for name, work in contestants.items()} for scene in scenes]


def _refined(crf: DenseCRF, scene: _Scene) -> Tensor:
    probabilities: Tensor = crf(scene.scores, scene.image, gives="probabilities")
    return probabilities


def _original(scene: _Scene) -> Tensor:
    crf = DenseCRF()
    prepared = PydensecrfBackend(0).prepare(scene.image, crf.kernels, crf.normalization)
    result: Tensor = crf(scene.scores, prepared, gives="probabilities")
    return result


def _learn(crf: DenseCRF, scene: _Scene) -> Tensor:
    scores = scene.scores.clone().requires_grad_()
    crf(scores, scene.image)[:, 0].sum().backward()
    assert scores.grad is not None
    return scores.grad


def _total(turns: Sequence[_Turn], rounds: int) -> dict[str, Timing]:
    """Times of every contestant over all pictures."""
    of_pictures = [take_turns(turn, rounds=rounds) for turn in turns]
    return {
        name: Timing(
            median=sum(each[name].median for each in of_pictures),
            low=sum(each[name].low for each in of_pictures),
            high=sum(each[name].high for each in of_pictures),
            rounds=rounds,
        )
        for name in turns[0]
    }


def _row(
    name: str,
    contestant: str,
    threads: int,
    ours: Timing,
    theirs: Timing,
    difference: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    return {
        "case": f"{contestant}, {name}, {threads} threads",
        "ms": ours.to_dict(),
        "ratio": theirs.median / ours.median,
        **(difference or {}),
    }


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> dict[str, float]:
    """The largest difference of probabilities, and the share of pixels with another label."""
    pairs = list(zip(found, wanted, strict=True))
    labels = sum(int((one.argmax(1) != other.argmax(1)).sum()) for one, other in pairs)
    return {
        "largest": max(float((one - other).abs().max()) for one, other in pairs),
        "labels": labels / sum(one[:, 0].numel() for one in found),
    }


def _pictures(pattern: str | None, limit: int) -> list[Tensor]:
    """Photographs, or drawn pictures, 1×3×H×W."""
    if pattern is None:
        shapes = Shapes("val", size=320, lengths={"val": limit})
        drawn = [shapes[index].image for index in range(limit)]
    else:
        files, _ = find_images(pattern, output=Path("nowhere"))
        limit = min(limit, len(files))
        drawn = [read_rgb(files[place * len(files) // limit].path) for place in range(limit)]
    return [torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] for picture in drawn]


def _noise(image: Tensor, classes: int) -> Tensor:
    """Smooth scores of a network of stride 8, all classes of which are likely somewhere."""
    height, width = image.shape[2:]
    coarse = torch.randn(1, classes, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(0))
    return 2 * F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


@torch.inference_mode()
def _scored(checkpoint: str, pictures: Sequence[Tensor]) -> list[_Scene]:
    segmentor, _ = load_segmentor(checkpoint_to_use(checkpoint))
    return [_Scene(segmentor(picture), picture) for picture in pictures]


def _mosaic(pictures: Sequence[Tensor], height: int, width: int) -> Tensor:
    """A large picture of pictures side by side, as often as it takes."""
    smallest = [min(picture.shape[side] for picture in pictures) for side in (2, 3)]
    tiles = [picture[..., : smallest[0], : smallest[1]] for picture in pictures]
    down, across = -(-height // smallest[0]), -(-width // smallest[1])
    lines = [
        torch.cat([tiles[(row * across + column) % len(tiles)] for column in range(across)], 3) for row in range(down)
    ]
    return torch.cat(lines, 2)[..., :height, :width].contiguous()


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        "", "ms over all pictures (quartiles)", "ratio", "largest difference", "other labels", title="dense CRF"
    )
    for row in rows:
        timed = str(Timing(**row["ms"]))
        largest, labels = row.get("largest"), row.get("labels")
        table.add_row(
            row["case"],
            timed,
            f"{row['ratio']:.2f}",
            "" if largest is None else f"{largest:.1e}",
            "" if labels is None else f"{100 * labels:.4f} %",
        )
    return table
