"""From nothing to a data set that can be trained on: fetched, converted, checked, counted and, if wanted, decoded."""

from __future__ import annotations

import functools
from typing import Any

from rich.console import Console
from rich.table import Table

from atrous.commands.prepare.tasks.verify import show
from atrous.data.data_module import SegmentationDataModule
from atrous.data.loading.cache import CachedDataset, fill
from atrous.data.preparation.parallel import in_parallel
from atrous.data.preparation.sets import prepare
from atrous.data.preparation.verification import verify
from atrous.terminal import say


def run(
    console: Console, *, data: SegmentationDataModule, fetch: bool = True, workers: int | None = None
) -> dict[str, Any]:
    """Fetch what may be fetched, convert, look at every file, and count the classes of the training split.

    What is done already is kept, so that it can be stopped at any moment and started again. The counts are those that
    class weights, repeats of rare classes and baselines read. With ``data.cache=disk`` all images are decoded into the
    cache as well.

    Args:
        console: Where progress and the summary go.
        data: The data set at hand.
        fetch: Whether to fetch from the network.
        workers: Processes; ``None`` for one on each core.

    Returns:
        What was found, and by class its share of the pixels and images, and its weight, for JSON.

    Raises:
        AtrousError: Something is to be fetched by hand, or cannot be unpacked or converted.
    """
    splits = tuple(dict.fromkeys((data.split("train"), data.split("val"))))
    prepare(data.source, splits, fetch=fetch, workers=workers, say=lambda line: say(console, line))
    verdict = verify(data.open, splits, workers=workers)
    show(console, verdict)
    result: dict[str, Any] = verdict._asdict()
    if verdict.problems:
        return result
    counts = data.class_counts("train")
    pixels = counts.pixels.sum(axis=0)
    shares, occurs = pixels / max(1, pixels.sum()), counts.occurs.mean(axis=0)
    table = Table("class", "pixels %", "images %", "weight", title=f"{data.label_space.name} {data.split('train')}")
    result["classes"] = {}
    weights = counts.median_frequency_weights()
    for name, share, images, weight in zip(data.label_space.classes, shares, occurs, weights, strict=True):
        table.add_row(name, f"{100 * share:.2f}", f"{100 * images:.1f}", f"{weight:.3g}")
        result["classes"][name] = {"pixels": float(share), "images": float(images), "weight": weight}
    console.print(table)
    for stage in ("train", "val"):
        cached = data.cached(stage)
        if isinstance(cached, CachedDataset) and data.cache == "disk":
            held = cached.capacity.samples
            what = f"decoding {data.label_space.name} {data.split(stage)}"
            in_parallel(functools.partial(fill, cached), range(held), what, workers=workers)
            say(console, f"{held:,} images of {data.split(stage)} are decoded in {data.cache_folder}")
    return result
