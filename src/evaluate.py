"""Score a checkpoint: ``python src/evaluate.py ckpt_path=<checkpoint or run folder> data=voc [output_stride=8]``."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from atrous.composition import (
    build_evaluation_data,
    build_evaluation_task,
    build_trainer,
    explained,
    load_segmentor,
    register_resolvers,
    require_types,
)
from atrous.reports.tables import score_table
from atrous.runs import checkpoint_to_use

register_resolvers()

_TYPES = {
    "ckpt_path": str,
    "trust": list[str],
    "split": str,
    "output_stride": int | None,
    "trimap_width": int | None,
    "output": str | None,
    "channels_last": bool,
}


def evaluate(config: DictConfig) -> None:
    """Predict every image of a split whole and print and write its scores with their protocol."""
    require_types(config, _TYPES)
    checkpoint = checkpoint_to_use(config.ckpt_path)
    segmentor, card = load_segmentor(checkpoint, output_stride=config.output_stride, trust=config.trust)
    data = build_evaluation_data(config, card)
    task = build_evaluation_task(config, segmentor, card, data)
    trainer = build_trainer(config)
    trainer.test(task, datamodule=data, verbose=False)
    if not trainer.is_global_zero or task.last_scores is None:
        return
    protocol = task.protocol("test", checkpoint=str(checkpoint))
    scores = {"protocol": protocol.to_dict(), **task.last_scores.to_dict(data.label_space.classes)}
    output = Path(config.output or f"{config.paths.run}/scores.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    console = Console()
    console.print(score_table(task.last_scores, data.label_space.classes, protocol))
    console.print(f"written to {output}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@explained
def main(config: DictConfig) -> None:
    """Compose and evaluate."""
    evaluate(config)


if __name__ == "__main__":
    main()
