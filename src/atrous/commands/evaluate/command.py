"""Evaluation: from a checkpoint to its scores."""

from __future__ import annotations

import json
from pathlib import Path

from atrous.checkpoints.load import load_segmentor
from atrous.composition import Config, require_types
from atrous.composition.parts import build_evaluation_data, build_evaluation_task, build_trainer
from atrous.memory import keep_freed_memory
from atrous.reports.tables import score_table
from atrous.runs import checkpoint_to_use
from atrous.terminal import open_console, say

_TYPES = {
    "ckpt_path": str,
    "trust": list[str],
    "split": str,
    "output_stride": int | None,
    "trimap_width": int | None,
    "output": str | None,
    "channels_last": bool,
}


def evaluate(config: Config) -> None:
    """Predict every whole image of a split, then print and write the scores with their protocol."""
    require_types(config, _TYPES)
    checkpoint = checkpoint_to_use(config.ckpt_path)
    segmentor, card = load_segmentor(checkpoint, output_stride=config.output_stride, trust=config.trust)
    data = build_evaluation_data(config, card)
    task = build_evaluation_task(config, segmentor, card, data)
    trainer = build_trainer(config)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    trainer.test(task, datamodule=data, verbose=False)
    if not trainer.is_global_zero or task.last_scores is None:
        return
    protocol = task.protocol("test", checkpoint=str(checkpoint))
    scores = {"protocol": protocol.to_dict(), **task.last_scores.to_dict(data.label_space.classes)}
    output = Path(config.output or f"{config.paths.run}/scores.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    console = open_console()
    console.print(score_table(task.last_scores, data.label_space.classes, protocol))
    say(console, f"written to {output}")
