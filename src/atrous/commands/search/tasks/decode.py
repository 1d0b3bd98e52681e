"""What a search for an architecture has found: by the paper's rule, or by what its own weights score."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from atrous.atomic_file import atomic_file
from atrous.checkpoints.load import load_segmentor
from atrous.commands.search.ledger import Ledger
from atrous.commands.search.source import Source
from atrous.commands.search.tasks.draw import draw_genotype
from atrous.composition import Config, plain
from atrous.errors import AtrousError, require_range
from atrous.metrics import scores_from_confusion
from atrous.models import Segmentor
from atrous.models.nas import Genotype, Supernet
from atrous.models.nas.decoding import decode, draw
from atrous.runs import checkpoint_to_continue
from atrous.terminal import say, track

_SHOWN = 8


def run(
    console: Console,
    *,
    config: Config,
    folder: Path,
    rule: str = "paper",
    candidates: int = 20,
    images: int | None = 50,
    calibration: int = 20,
    output: str | None = None,
) -> None:
    """Write and draw a genotype.

    By the rule ``paper`` it is what alpha and beta decode to (Auto-DeepLab §3.4). By ``supernet`` it is the best of
    that one and of others, drawn with alpha and beta as probabilities: each is held alone in the searched network,
    whose batch norms learn their statistics anew, and scored on validation images.

    Args:
        console: Where progress and table go.
        config: The whole configuration: checkpoint and data.
        folder: Where results go; what was interrupted there goes on.
        rule: ``paper`` or ``supernet``.
        candidates: How many genotypes are scored.
        images: Images of the split, evenly spaced; ``None`` for all.
        calibration: Training batches from which batch norms learn their statistics for each candidate.
        output: File of the genotype; ``None`` for ``genotype.yaml`` in the folder.

    Raises:
        AtrousError: The checkpoint is of no search, an option is impossible, or the folder holds another search.
    """
    if rule not in ("paper", "supernet"):
        raise AtrousError(f"decode.rule={rule} is unknown; choose paper or supernet")
    for option, value in (("candidates", candidates), ("images", images), ("calibration", calibration)):
        require_range(f"decode.{option}", value, at_least=1)
    config.ckpt_path = str(checkpoint_to_continue(config.ckpt_path))  # the latest alpha and beta, not the best weights
    if rule == "paper":
        genotype = decode(_supernet_of(load_segmentor(config.ckpt_path, trust=config.trust)[0], config).architecture)
        heading = f"What {config.ckpt_path} decodes to."
    else:
        genotype, heading = _best(
            console, config, folder, candidates=candidates, images=images, calibration=calibration
        )
    target = Path(output or folder / "genotype.yaml")
    genotype.write(target, heading)
    draw_genotype(genotype, folder / "figures" / "genotype.png")
    console.print(genotype.to_yaml(), end="", markup=False, highlight=False)
    say(console, f"written to {target} and {folder / 'figures' / 'genotype.png'}")


def _best(
    console: Console, config: Config, folder: Path, *, candidates: int, images: int | None, calibration: int
) -> tuple[Genotype, str]:
    """The candidate with the highest mIoU, and what is said of it."""
    source = Source(config, limit=images)
    supernet = _supernet_of(source.segmentor, config)
    generator = np.random.default_rng(config.seed)
    genotypes = [decode(supernet.architecture)]
    genotypes += [draw(supernet.architecture, generator) for _ in range(candidates - 1)]
    about = {
        "checkpoint": str(source.checkpoint),
        "split": f"{source.label_space} {config.split}",
        "inference": plain(config)["inference"],
        "images": [source.names[place] for place in source.places],
        "calibration": calibration,
        "genotypes": [genotype.to_dict() for genotype in genotypes],
    }
    ledger = Ledger(folder / "decode.npz", about, classes=source.classes)
    scores = []
    for number, genotype in enumerate(track(genotypes, "candidates", total=len(genotypes), console=console)):
        key = (float(number),)
        if ledger.seen(key) < len(source.places):
            _hold(source, supernet, genotype, calibration)
            for place in source.places[ledger.seen(key) :]:
                probabilities, _, mask = source.read(place)
                ledger.add(key, source.count(probabilities, mask))
            ledger.save()
        scores.append(scores_from_confusion(ledger.confusion(key)).miou)
    ranked = sorted(range(len(genotypes)), key=lambda number: -scores[number])
    table = Table("candidate", "mIoU %", "strides", title=f"{about['split']}, {len(source.places)} images")
    for number in ranked[:_SHOWN]:
        strides = " ".join(map(str, genotypes[number].strides))
        table.add_row(str(number) if number else "decoded", f"{100 * scores[number]:.2f}", strides)
    console.print(table)
    result = [{"miou": scores[number], **genotypes[number].to_dict()} for number in ranked]
    with atomic_file(folder / "decode.json") as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())
    best = ranked[0]
    heading = f"Of {candidates} in {source.checkpoint} the best on {about['split']}: mIoU {100 * scores[best]:.2f} %."
    return genotypes[best], heading


@torch.no_grad()
def _hold(source: Source, supernet: Supernet, genotype: Genotype, batches: int) -> None:
    """Let the network compute a genotype alone, with statistics of its own."""
    supernet.hold(genotype)
    norms = [each for each in source.segmentor.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    source.segmentor.train()
    for batch in itertools.islice(_training_batches(source), batches):
        source.segmentor(batch["image"].to(source.device))
    source.segmentor.eval()


def _training_batches(source: Source) -> Any:
    """Crops as in training; of a search, those that weights have learned from."""
    return (batch.get("weights", batch) for batch in source.data.train_dataloader())


def _supernet_of(segmentor: Segmentor, config: Config) -> Supernet:
    if not isinstance(segmentor.backbone, Supernet):
        raise AtrousError(
            f"{config.ckpt_path} is of no search for an architecture: give the run of a task=auto_deeplab"
        )
    return segmentor.backbone
