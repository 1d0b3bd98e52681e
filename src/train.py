"""Train a segmentation model: ``python src/train.py model=deeplabv3plus backbone=resnet50 data=voc``."""

from __future__ import annotations

import hydra
import lightning.pytorch as pl
from omegaconf import DictConfig

from atrous.composition import (
    REPOSITORY,
    build_data,
    build_task,
    build_trainer,
    explained,
    overrides,
    plain,
    register_resolvers,
    resume_file,
    settle_validation,
)
from atrous.loggers import finish_wandb
from atrous.reports.run_record import record_run
from atrous.training import SegmentationTask

register_resolvers()


def train(config: DictConfig) -> SegmentationTask:
    """Build everything that the configuration names and fit; the run's folder gets all that is written."""
    pl.seed_everything(config.seed, verbose=False)
    settle_validation(config)
    resume = resume_file(config)
    data = build_data(config.data)
    task = build_task(config, data)
    trainer = build_trainer(config)
    recipe = plain(config)
    if trainer.is_global_zero:
        record_run(config.paths.run, recipe, overrides(), REPOSITORY)
        print(f"training on {len(data.dataset('train'))} images of {data.label_space.name}, from {start(config)}")
    for logger in trainer.loggers:
        logger.log_hyperparams(recipe)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resume)
    finally:
        finish_wandb()
    return task


def start(config: DictConfig) -> str:
    """The weights that training starts from, in words."""
    if config.ckpt_path is not None:
        return f"the checkpoint of {config.ckpt_path}"
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
    main()
