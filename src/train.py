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
)
from atrous.loggers import finish_wandb
from atrous.reports.run_record import record_run

register_resolvers()


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@explained
def main(config: DictConfig) -> None:
    """Compose, build and fit; everything is written to the run's folder."""
    pl.seed_everything(config.seed, verbose=False)
    resume = resume_file(config)
    data = build_data(config.data)
    task = build_task(config, data)
    trainer = build_trainer(config)
    if trainer.is_global_zero:
        record_run(config.paths.run, plain(config), overrides(), REPOSITORY)
    for logger in trainer.loggers:
        logger.log_hyperparams(plain(config))
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resume)
    finally:
        finish_wandb()


if __name__ == "__main__":
    main()
