"""Training: from a configuration to a trained network and the files of its run."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from pathlib import Path

import lightning.pytorch as pl

from atrous.atomic_file import keep_as, remove_partial_files
from atrous.callbacks import RunRecord
from atrous.checkpoints.resume import StartingPoint, require_same_recipe
from atrous.composition import Config, command_to_continue, plain, require_types
from atrous.composition.parts import (
    build_data,
    build_task,
    build_trainer,
    check_validation_steps,
    overrides,
    starting_point,
)
from atrous.composition.precision import decide_precision, keep_precision
from atrous.errors import require_range
from atrous.launch import together
from atrous.loggers import finish_wandb
from atrous.memory import keep_freed_memory
from atrous.places import CHECKOUT, setting
from atrous.reports.run_record import config_tree
from atrous.runs import BEFORE_LAST, CHECKPOINTS, locked
from atrous.terminal import open_console, say
from atrous.training import SegmentationTask

_TYPES = {
    "name": str,
    "seed": int,
    "ckpt_path": str | None,
    "init_from": str | None,
    "validate_every": int,
    "trainer.max_steps": int,
}


def train(config: Config) -> SegmentationTask:
    """Build everything that the configuration names and train; all files go to the run's folder."""
    require_types(config, _TYPES)
    require_range("seed", config.seed, at_least=0)
    pl.seed_everything(config.seed, verbose=False)
    check_validation_steps(config)
    run, resume = config.paths.run, starting_point(config)
    notes: list[str] = []
    if resume is not None:
        keep_precision(config, resume)
        notes += filter(None, [resume.damaged])
        notes += require_same_recipe(resume, plain(config))
    data = build_data(config.data)
    notes += filter(None, [decide_precision(config, data.label_space.num_classes)])
    recipe = plain(config)
    task = build_task(config, data)
    record = RunRecord(run, config=recipe, overrides=overrides(config), repository=CHECKOUT)
    trainer = build_trainer(config, record)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    with locked(run) if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            remove_partial_files(run)
            if resume is not None and resume.path.name == BEFORE_LAST:
                keep_as(resume.path, resume.path.with_name("last.ckpt"))  # before the damaged one takes its name
            console = open_console()
            console.print(config_tree(recipe))
            images, space = len(data.dataset("train")), data.label_space.name
            for line in (f"training on {images} images of {space}, from {start(config, resume)}", *notes):
                say(console, line)
        failed = True
        try:
            with together(trainer.world_size, functools.partial(_how_to_go_on, config)):
                trainer.fit(task, datamodule=data, ckpt_path=None if resume is None else resume.path)
            failed = False
        finally:
            trainer.fit_loop.teardown()  # Lightning leaves the training workers alive if a validation fails
            finish_wandb(exit_code=int(failed))
    return task


def _how_to_go_on(config: Config) -> str:
    """What to do with a run that cannot go on by itself."""
    run = Path(config.paths.run)
    if not (run / CHECKPOINTS / "last.ckpt").is_file():
        return "there is no resume point yet, so start it again"
    return f"`{command_to_continue(config)} {setting('ckpt_path', run)}` resumes from its last checkpoint"


def start(config: Config, resume: StartingPoint | None) -> str:
    """The weights that training starts from, in words."""
    if resume is not None:
        return f"the checkpoint {resume.path} at step {resume.step}"
    if config.init_from is not None:
        return f"the weights of {config.init_from}"
    pretrained = (config.get("backbone") or {}).get("pretrained", False)
    return {True: "ImageNet weights", False: "random weights"}.get(pretrained, f"the weights of {pretrained}")
