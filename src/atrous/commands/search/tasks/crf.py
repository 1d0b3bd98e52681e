"""The bilateral kernel of a dense CRF, as the papers chose it: coarse to fine on some validation images (v1 §5.1)."""

from __future__ import annotations

import copy
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from rich.console import Console
from rich.table import Table

from atrous.atomic_file import atomic_file
from atrous.commands.search.halving import Axes, Point, grid, rounds
from atrous.commands.search.ledger import Ledger
from atrous.commands.search.source import Source
from atrous.composition import Config, build, plain
from atrous.crf import DenseCRF
from atrous.crf.dense_crf import LEAST
from atrous.errors import AtrousError, require_range
from atrous.metrics import scores_from_confusion
from atrous.reports import search_figure
from atrous.terminal import say, track

_SHOWN = 8
_NONE: tuple[float, ...] = (0.0, 0.0, 0.0)
"""In the place of a point: no CRF."""


def run(
    console: Console,
    *,
    config: Config,
    folder: Path,
    start: dict[str, Any],
    weights: Sequence[float],
    sigmas_xy: Sequence[float],
    sigmas_rgb: Sequence[float],
    refinements: int = 1,
    images: int | None = 100,
    quick_images: int = 20,
    quick_iterations: int = 5,
    keep: float = 0.25,
    output: str | None = None,
) -> None:
    """Search, print the best points, and write them, a heat map and a file for ``conf/crf``.

    Every point is scored on a few images with a few iterations; the best of them on all images with all iterations;
    then finer grids around the best one follow in the same way. Points that differ in weight alone share a lattice.

    Args:
        console: Where progress and table go.
        config: The whole configuration: checkpoint, data and what comes before the CRF.
        folder: Where results go; a search that was interrupted there goes on.
        start: Node of the CRF whose bilateral kernel is varied.
        weights: Values of w₁, ascending.
        sigmas_xy: Values of σ_α in pixels, ascending.
        sigmas_rgb: Values of σ_β in levels, ascending.
        refinements: How many finer grids follow, each with half the step.
        images: Images of the split that are used, evenly spaced; ``None`` for all.
        quick_images: Images for the first score of every point.
        quick_iterations: Mean-field iterations for the first score.
        keep: Share of the points that get the second score.
        output: File for the best CRF; ``None`` for ``best.yaml`` in the folder.

    Raises:
        AtrousError: An option is impossible, or the folder holds another search.
    """
    axes = _axes(weights, sigmas_xy, sigmas_rgb)
    for option, value, least in (
        ("refinements", refinements, 0),
        ("images", images, 1),
        ("quick_images", quick_images, 1),
        ("quick_iterations", quick_iterations, 1),
    ):
        require_range(f"crf.{option}", value, at_least=least)
    require_range("crf.keep", keep, above=0, at_most=1)
    source = Source(config, limit=images)
    quick = source.spread(quick_images)
    varied = _Varied(start)
    about = {
        "checkpoint": str(source.checkpoint),
        "split": f"{source.label_space} {config.split}",
        "before": plain(config)["inference"],
        "callbacks": plain(config).get("callbacks"),
        "output_stride": config.output_stride,
        "crf": start,
        "quick_iterations": quick_iterations,
        "images": [source.names[place] for place in source.places],
        "quick_images": [source.names[place] for place in quick],
    }
    ledger = Ledger(folder / "search.npz", about, classes=source.classes)
    measure = _Measure(console, ledger, source, varied)
    began = time.perf_counter()

    def quickly(points: Sequence[Point]) -> list[float]:
        return measure(points, quick, iterations=quick_iterations, title="few images")

    def fully(points: Sequence[Point]) -> list[float]:
        return measure(points, source.places, iterations=varied.iterations, title="all images")

    for number, (best, score) in enumerate(
        rounds(axes, refinements=refinements, share=keep, quick=quickly, full=fully)
    ):
        say(console, f"{'refinement ' + str(number) if number else 'grid'}: best {best}, mIoU {100 * score:.2f} %")
    scores = measure.scores(iterations=varied.iterations, images=len(source.places))
    ranked = sorted(scores.items(), key=lambda each: -each[1])
    none = measure.score(_NONE, source.places, iterations=varied.iterations)
    title = f"{about['split']}, {len(source.places)} images, {varied.iterations} iterations"
    console.print(_table(ranked, none, title))
    result = {
        "best": best._asdict(),
        "miou": score,
        "miou_without": none,
        "images": len(source.places),
        "split": about["split"],
        "scores": [{**point._asdict(), "miou": miou} for point, miou in ranked],
        "crfs": measure.solved,
        "seconds": time.perf_counter() - began,
    }
    target = Path(output or folder / "best.yaml")
    _write(folder, target, varied.node(best), result)
    first = measure.scores(iterations=quick_iterations, images=len(quick))
    figure = search_figure(axes, {tuple(point): first[point] for point in grid(axes)}, best=tuple(best), title=title)
    with atomic_file(folder / "figures" / "crf.png") as file:
        figure.savefig(file, format="png")
    say(console, f"{measure.solved} CRFs in {result['seconds']:.0f} s; written to {target} and {folder / 'crf.json'}")


def _axes(*values: Sequence[float]) -> Axes:
    """Values of the three numbers.

    Raises:
        AtrousError: There are none, they do not ascend, or they are not positive.
    """
    for name, axis in zip(("weights", "sigmas_xy", "sigmas_rgb"), values, strict=True):
        if not axis or list(axis) != sorted(set(axis)) or axis[0] <= 0:
            raise AtrousError(f"crf.{name}={list(axis)} must be ascending numbers above 0")
    return cast(Axes, tuple(tuple(float(value) for value in axis) for axis in values))


class _Varied:
    """CRFs that differ in the bilateral kernel and the iterations.

    Args:
        start: Node of a CRF with one bilateral kernel.

    Raises:
        AtrousError: It has none or several, or is no such node.
    """

    def __init__(self, start: Mapping[str, Any]) -> None:
        crf = build(start)
        if not isinstance(crf, DenseCRF):
            raise AtrousError(f"crf.start={start.get('_target_')} is no dense CRF: choose one of conf/crf that is")
        kernels = start.get("kernels")
        found = [name for name, node in _items(kernels) if str(node["_target_"]).endswith(".Bilateral")]
        if len(found) != 1:
            raise AtrousError(f"crf.start has {len(found)} bilateral kernels, but the search varies exactly one")
        self.build = functools.cache(self._build)
        self._start = start
        self._name = found[0]
        self.iterations = crf.iterations

    def node(self, point: Point, iterations: int | None = None) -> dict[str, Any]:
        """The node of a CRF."""
        node = copy.deepcopy(dict(self._start))
        node["kernels"][self._name].update(point._asdict())
        return node if iterations is None else {**node, "iterations": iterations}

    def _build(self, point: Point, iterations: int) -> DenseCRF:
        return cast(DenseCRF, build(self.node(point, iterations)))


def _items(kernels: Any) -> list[tuple[Any, Any]]:
    return list(kernels.items() if isinstance(kernels, Mapping) else enumerate(kernels or []))


class _Measure:
    """Scores of points, from the ledger where it has them."""

    def __init__(self, console: Console, ledger: Ledger, source: Source, varied: _Varied) -> None:
        self._console = console
        self._ledger = ledger
        self._source = source
        self._varied = varied
        self.solved = 0

    def __call__(self, points: Sequence[Point], places: Sequence[int], *, iterations: int, title: str) -> list[float]:
        """MIoU of every point over some images, and of no CRF, which is free."""
        keys = {point: _key(point, places, iterations) for point in (*points, _NONE)}
        fewest = min(self._ledger.seen(key) for key in keys.values())
        description = f"{len(points)} points, {title}, {iterations} iterations"
        rest = range(fewest, len(places))  # an earlier search may have begun
        for number in track(rest, description, total=len(rest), console=self._console):
            wanted = [(point, key) for point, key in keys.items() if self._ledger.seen(key) <= number]
            self._see(places[number], wanted, iterations)
            self._ledger.save()
        return [self.score(point, places, iterations=iterations) for point in points]

    def scores(self, *, iterations: int, images: int) -> dict[Point, float]:
        """MIoU of all points that have been measured so."""
        return {
            Point(*key[:3]): scores_from_confusion(self._ledger.confusion(key)).miou
            for key in self._ledger.counted()
            if key[3:] == (images, iterations) and key[:3] != _NONE
        }

    def score(self, point: tuple[float, ...], places: Sequence[int], *, iterations: int) -> float:
        """MIoU of a point that has been measured."""
        return scores_from_confusion(self._ledger.confusion(_key(point, places, iterations))).miou

    @torch.inference_mode()
    def _see(self, place: int, wanted: Sequence[tuple[tuple[float, ...], tuple[float, ...]]], iterations: int) -> None:
        """Count one image for every point; those that follow each other with the same deviations share a lattice."""
        probabilities, image, mask = self._source.read(place)
        scores = probabilities.clamp(min=LEAST).log()  # once for all points
        before: tuple[float, ...] | None = None
        for point, key in wanted:
            if point == _NONE:
                self._ledger.add(key, self._source.count(probabilities, mask))
                continue
            crf = self._varied.build(Point(*point), iterations)
            if before is None or before[1:] != point[1:]:
                prepared = crf.prepare(image)
            before = point
            refined = crf(scores, prepared)
            self._ledger.add(key, self._source.count(refined, mask))
            self.solved += 1


def _key(point: tuple[float, ...], places: Sequence[int], iterations: int) -> tuple[float, ...]:
    return (*point, float(len(places)), float(iterations))


def _table(ranked: Sequence[tuple[Point, float]], none: float, title: str) -> Table:
    table = Table("w₁", "σ_α", "σ_β", "mIoU %", "gain", title=title)
    for point, score in ranked[:_SHOWN]:
        table.add_row(*(f"{value:g}" for value in point), f"{100 * score:.2f}", f"{100 * (score - none):+.2f}")
    table.add_row("no CRF", "", "", f"{100 * none:.2f}", "")
    return table


def _write(folder: Path, output: Path, node: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Numbers, and the best CRF as a file of ``conf/crf``."""
    with atomic_file(folder / "crf.json") as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())
    gain = (
        f"mIoU {100 * result['miou']:.2f} % on {result['images']} images, {100 * result['miou_without']:.2f} % without"
    )
    heading = f"# Found by task=crf on {result['split']}: {gain}.\n"
    with atomic_file(output) as file:
        file.write((heading + yaml.safe_dump(dict(node), sort_keys=False)).encode())
