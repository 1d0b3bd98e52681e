"""Train a segmentation model: ``python src/train.py model=deeplabv3plus backbone=resnet50 data=voc``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import hydra
import lightning.pytorch as pl
from omegaconf import DictConfig
from rich.console import Console

from atrous.atomic_file import remove_partial_files
from atrous.callbacks import RunRecord
from atrous.checkpoints.resume import StartingPoint, require_same_recipe
from atrous.composition import (
    REPOSITORY,
    build_data,
    build_task,
    build_trainer,
    continue_recorded_run,
    explained,
    overrides,
    plain,
    register_resolvers,
    require_types,
    settle_validation,
    starting_point,
)
from atrous.errors import require_range
from atrous.loggers import finish_wandb
from atrous.reports.run_record import config_tree
from atrous.runs import CHECKPOINTS, locked
from atrous.training import SegmentationTask

register_resolvers()

_TYPES = {
    "name": str,
    "seed": int,
    "ckpt_path": str | None,
    "init_from": str | None,
    "validate_every": int,
    "trainer.max_steps": int,
}


def train(config: DictConfig) -> SegmentationTask:
    """Build everything that the configuration names and fit; the run's folder gets all that is written."""
    require_types(config, _TYPES)
    require_range("seed", config.seed, at_least=0)
    pl.seed_everything(config.seed, verbose=False)
    settle_validation(config)
    recipe, run = plain(config), config.paths.run
    resume = starting_point(config)
    notes = [] if resume is None else require_same_recipe(resume, recipe)
    data = build_data(config.data)
    task = build_task(config, data)
    record = RunRecord(run, config=recipe, overrides=overrides(config), repository=REPOSITORY)
    trainer = build_trainer(config, record)
    with locked(run) if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            remove_partial_files(Path(run) / CHECKPOINTS)
            Console().print(config_tree(recipe))
            images, space = len(data.dataset("train")), data.label_space.name
            for line in (f"training on {images} images of {space}, from {start(config, resume)}", *notes):
                print(line)
        failed = True
        try:
            trainer.fit(task, datamodule=data, ckpt_path=None if resume is None else resume.path)
            failed = False
        finally:
            trainer.fit_loop.teardown()  # Lightning leaves the training workers alive where a validation fails
            finish_wandb(exit_code=int(failed))
    return task


def start(config: DictConfig, resume: StartingPoint | None) -> str:
    """The weights that training starts from, in words."""
    if resume is not None:
        return f"the checkpoint {resume.path} at step {resume.step}"
    if config.init_from is not None:
        return f"the weights of {config.init_from}"
    pretrained = config.backbone.pretrained
    return {True: "ImageNet weights", False: "random weights"}.get(pretrained, f"the weights of {pretrained}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@explained
def main(config: DictConfig) -> None:
    """Compose and train."""
    train(config)


if __name__ == "__main__":
    sys.argv[1:] = explained(continue_recorded_run)(sys.argv[1:])
    main()
