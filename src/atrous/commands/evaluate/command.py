"""Evaluation: from checkpoints to their scores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback
from rich.console import Console

from atrous.atomic_file import atomic_file
from atrous.callbacks import Borders, CostMeter, Submission
from atrous.commands.evaluate.variants import Variant, variants
from atrous.composition import Config, plain, require_types
from atrous.composition.parts import build_evaluation_data, build_evaluation_task, build_trainer, said_besides
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError
from atrous.exports import load_network
from atrous.launch import together
from atrous.memory import keep_freed_memory
from atrous.places import CHECKOUT, command
from atrous.reports import (
    Measurement,
    ScoreEntry,
    comparison_markdown,
    comparison_table,
    score_table,
    trimap_figure,
)
from atrous.reports.pages import Compared, RunPage, write_comparison_page, write_run_page
from atrous.reports.run_record import record_run
from atrous.runs import checkpoint_to_use, run_of
from atrous.terminal import open_console, say

_TYPES = {
    "ckpt_path": str | list[str],
    "protocols": list[str] | None,
    "trust": list[str],
    "split": str,
    "output_stride": int | None,
    "trimap_width": int | None,
    "output": str | None,
    "channels_last": bool,
}
_Kind = TypeVar("_Kind", bound=Callback)


def evaluate(config: Config) -> None:
    """Predict every whole image of a split, then print and write the scores with their protocol.

    Of several checkpoints and protocols each is scored in turn; all that is known is written after each.
    """
    require_types(config, _TYPES)
    asked = variants(config)
    for variant in asked:
        checkpoint_to_use(variant.config.ckpt_path)  # a later one is missing before the first one is scored
    output = Path(config.output or f"{config.paths.run}/scores.json")
    console = open_console()
    measurements: list[Measurement] = []
    compared: list[Compared] = []
    for variant in asked:
        if len(asked) > 1:
            say(console, f"{len(measurements) + 1} of {len(asked)}: {variant.label}")
        measured = _measure(variant)
        if measured is not None:
            measurement, label_space = measured
            measurements.append(measurement)
            compared.append(_write_page(variant, measurement, label_space))
            _write(measurements, output, Path(config.paths.run), several=len(asked) > 1)
            if len(asked) > 1:
                _write_comparison(compared, Path(config.paths.run))
    if measurements:
        _show(measurements, console)
        say(console, f"written to {output}")
        say(console, f"all of it on one page: {config.paths.run}/report.html")


def _measure(variant: Variant) -> tuple[Measurement, LabelSpace] | None:
    """Score one checkpoint under one protocol; nothing in other processes than the first, or without labels.

    Raises:
        AtrousError: There are no labels, and no submission is asked for.
    """
    config = variant.config
    checkpoint = checkpoint_to_use(config.ckpt_path)
    network, card = load_network(checkpoint, output_stride=config.output_stride, trust=config.trust)
    data = build_evaluation_data(config, card)
    task = build_evaluation_task(config, network, card, data)
    meter = CostMeter()
    trainer = build_trainer(config, meter)
    labeled = data.dataset("test").labeled
    if not labeled and _find(trainer, Submission) is None:
        raise AtrousError(
            f"{data.label_space.name} {config.split} has no labels, its test server keeps them: write what that takes "
            "with callbacks=[evaluate,submission], or score another split"
        )
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    with together(trainer.world_size, lambda: "start it again"):
        trainer.test(task, datamodule=data, verbose=False)
    if not trainer.is_global_zero or not labeled:
        return None
    assert task.last_scores is not None
    assert task.last_confusion is not None
    assert meter.last is not None
    borders = _find(trainer, Borders)
    measurement = Measurement(
        variant.label,
        data.label_space.classes,
        task.last_scores,
        task.last_confusion,
        task.protocol("test", checkpoint=str(checkpoint)),
        None if borders is None else borders.scores,
        meter.last,
    )
    return measurement, data.label_space


def _find(trainer: Any, kind: type[_Kind]) -> _Kind | None:
    """The callback of a kind, if there is one."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)


def _write(measurements: Sequence[Measurement], output: Path, folder: Path, *, several: bool) -> None:
    """Write numbers, the table of several measurements, and the trimap curves."""
    scores = [each.to_dict() for each in measurements]
    _replace(output, json.dumps({"measurements": scores} if several else scores[0], indent=2) + "\n")
    if several:
        _replace(folder / "comparison.md", comparison_markdown(measurements))
    curves = {each.label: each.borders for each in measurements if each.borders is not None}
    if curves:
        figure = trimap_figure(curves, {each.label: each.scores.miou for each in measurements})
        with atomic_file(folder / "figures" / "trimap.png") as file:
            figure.savefig(file, format="png")


def _write_page(variant: Variant, measured: Measurement, label_space: LabelSpace) -> Compared:
    """Write everything that is known of one measurement on a page, into its own folder, for others to be beside it."""
    folder = Path(variant.config.paths.run)
    record_run(folder, plain(variant.config), variant.overrides, CHECKOUT)
    facts = {"seconds per image": f"{measured.cost.seconds:.3f}"}
    if measured.cost.memory is not None:
        facts["peak memory"] = f"{measured.cost.memory / 1e9:.1f} GB"
    checkpoint = Path(measured.protocol.checkpoint or "")
    score = ScoreEntry(checkpoint.name, measured.scores, measured.protocol)
    page = RunPage(
        kind="Evaluation",
        title=variant.label,
        command=command("evaluate"),
        label_space=label_space,
        scores=[score],
        confusion=measured.confusion,
        borders=measured.borders,
        facts=facts,
    )
    write_run_page(folder, page)
    training = run_of(checkpoint)
    return Compared(
        label=variant.label,
        score=score,
        label_space=label_space,
        folder=folder,
        metrics=None if training is None else training / "metrics.csv",
        borders=measured.borders,
        facts=facts,
    )


def _write_comparison(compared: Sequence[Compared], folder: Path) -> None:
    words = [command("evaluate"), *map(shlex.quote, said_besides("paths.run"))]
    write_comparison_page(folder / "report.html", compared, title=folder.name, command=" ".join(words))


def _replace(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


def _show(measurements: Sequence[Measurement], console: Console) -> None:
    if len(measurements) == 1:
        (only,) = measurements
        console.print(score_table(only.scores, only.classes, only.protocol))
        console.print(comparison_table(measurements))
        return
    console.print(comparison_table(measurements))
    for each in measurements:
        say(console, f"{each.label}: {each.protocol}")
