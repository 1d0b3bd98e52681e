"""The parts of a run: network, data, task and trainer, from a whole configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

from atrous.callbacks.interrupts import Interrupts
from atrous.callbacks.trial_report import TrialReport
from atrous.checkpoints.atomic import AtomicCheckpointIO
from atrous.checkpoints.card import Card, require_same_classes
from atrous.checkpoints.recipe import build_data_module, without_initial_weights
from atrous.checkpoints.resume import StartingPoint, read_starting_point
from atrous.checkpoints.transfer import transfer_weights
from atrous.composition.build import build, plain
from atrous.composition.continuation import command_to_continue
from atrous.composition.multirun import is_multirun
from atrous.composition.settings_search import trial_of_run
from atrous.data import SegmentationDataModule
from atrous.errors import AtrousError, require_range
from atrous.launch import Slurm, find_launch
from atrous.models import Network, Segmentor
from atrous.models.upsamplers import DUpsampling
from atrous.runs import CHECKPOINTS, checkpoint_to_continue, checkpoint_to_use
from atrous.terminal import open_console
from atrous.training import EvaluationTask, SegmentationTask
from atrous.training.label_code_fitting import fit_upsampler
from atrous.training.synchronized_batch_norm import SynchronizedBatchNorm


def build_segmentor(recipe: Any, num_classes: int) -> Segmentor:
    """Build the network that a ``model`` node describes."""
    return cast(Segmentor, build(recipe, num_classes=num_classes))


def build_data(node: Any) -> SegmentationDataModule:
    """Build the data module that a ``data`` node describes."""
    return cast(SegmentationDataModule, build(node))


def build_evaluation_data(config: DictConfig, card: Card) -> SegmentationDataModule:
    """Build the data module whose test split is the split to score: of the requested data set, or the checkpoint's."""
    if config.get("data") is not None:
        data = build_data(OmegaConf.merge(config.data, {"test_split": config.split}))
    elif "data" in card.recipe:
        data = build_data_module(card.recipe["data"], trust=config.trust, test_split=config.split)
    else:
        raise AtrousError("the checkpoint names no data set: name it with data=<name> data.root=<folder>")
    data.dataset("test")  # tells the classes; a folder of files to score may hold no other split
    return data


def build_task(config: DictConfig, data: SegmentationDataModule) -> SegmentationTask:
    """Build network, loss and optimizer for training on a data module; a resumed run already has weights."""
    if config.ckpt_path is not None:
        segmentor = build_segmentor(without_initial_weights(plain(config.model)), data.label_space.num_classes)
    else:
        segmentor = _build_initial_segmentor(config, data)
    class_weights = functools.cache(lambda: data.class_counts("train").median_frequency_weights())
    return _join(config, data, segmentor, class_weights, recipe=plain(config), overrides=overrides(config))


def build_untrained_task(config: DictConfig, data: SegmentationDataModule) -> SegmentationTask:
    """Build what training takes, with random weights and a loss that weighs all classes alike: for trials of it."""
    classes = data.label_space.num_classes
    segmentor = build_segmentor(without_initial_weights(plain(config.model)), classes)
    return _join(config, data, segmentor, lambda: [1.0] * classes, not_finite=None)


def _join(
    config: DictConfig,
    data: SegmentationDataModule,
    segmentor: Segmentor,
    class_weights: Callable[[], list[float]],
    **records: object,
) -> SegmentationTask:
    return cast(
        SegmentationTask,
        build(
            config.task,
            segmentor=segmentor,
            loss=build(_with_class_weights(config.loss, class_weights)),
            inference=build(config.inference),
            label_space=data.label_space,
            splits={stage: data.split(stage) for stage in ("val", "test")},
            optimizer=build(config.optimizer),
            schedule=build(config.scheduler),
            **records,
        ),
    )


def _build_initial_segmentor(config: DictConfig, data: SegmentationDataModule) -> Segmentor:
    segmentor = build_segmentor(config.model, data.label_space.num_classes)
    upsampler = segmentor.upsampler
    if isinstance(upsampler, DUpsampling) and upsampler.unfitted:
        fit_upsampler(upsampler, data.dataset("train"), open_console(), folder=config.paths.label_codes)
    if config.init_from is not None:
        path = checkpoint_to_use(config.init_from)
        for line in (f"reading {path}", *transfer_weights(segmentor, path).lines()):
            print(f"init_from: {line}")
    return segmentor


def _with_class_weights(loss: Any, weights: Callable[[], list[float]]) -> Any:
    """The node, with weights from the training masks where it or one of its terms has ``class_weights: auto``."""
    if OmegaConf.select(loss, "class_weights") == "auto":
        loss = OmegaConf.merge(loss, {"class_weights": weights()})
    terms = OmegaConf.select(loss, "terms")
    if OmegaConf.is_dict(terms):
        return OmegaConf.merge(loss, {"terms": {name: _with_class_weights(terms[name], weights) for name in terms}})
    if OmegaConf.is_list(terms):
        return OmegaConf.merge(loss, {"terms": [_with_class_weights(term, weights) for term in terms]})
    return loss


def build_evaluation_task(
    config: DictConfig, network: Network, card: Card, data: SegmentationDataModule
) -> EvaluationTask:
    """Wrap a trained network for validation and test.

    Raises:
        AtrousError: The data set has other classes than the checkpoint.
    """
    require_same_classes(card.label_space, data.label_space)
    return EvaluationTask(
        segmentor=network,
        inference=build(config.inference),
        label_space=data.label_space,
        splits={stage: data.split(stage) for stage in ("val", "test")},
        channels_last=config.channels_last,
        trimap_width=config.trimap_width,
    )


def build_trainer(config: DictConfig, *others: Callback) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        config: The whole configuration.
        others: Callbacks besides those of the configuration, called before them.

    Raises:
        AtrousError: Values of the trainer are incompatible.
    """
    _refuse_children_in_multirun(config)
    loggers = [build(node) for node in (config.get("logger") or {}).values() if node is not None]
    callbacks = [build(node) for node in (config.get("callbacks") or {}).values() if node is not None]
    if (trial := trial_of_run()) is not None:
        callbacks.append(TrialReport(trial))
    plugins: list[object] = [AtomicCheckpointIO()]
    settings: dict[str, object] = {}
    launch = find_launch()
    if isinstance(launch, Slurm) and SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # which Interrupts does
    if config.trainer.get("sync_batchnorm"):
        plugins.append(SynchronizedBatchNorm())
        settings["sync_batchnorm"] = False  # Lightning's own
    settings |= {
        "logger": loggers or False,
        "callbacks": [*others, *callbacks, Interrupts(command_to_continue(config))],
        "plugins": plugins,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    trainer = cast(pl.Trainer, build(config.trainer, **settings))
    on_cpus = trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu"
    if on_cpus and config.trainer.get("sync_batchnorm"):
        raise AtrousError(
            "trainer.sync_batchnorm=true needs GPUs, because PyTorch has no such batch norm for CPUs: set it to false"
        )
    if launch is not None:
        launch.rejoin("nccl" if trainer.strategy.root_device.type == "cuda" else "gloo")
    require_range("trainer.log_every_n_steps", config.trainer.get("log_every_n_steps"), at_least=0)
    return trainer


def check_validation_steps(config: DictConfig) -> None:
    """Make the last validation fall on the last step.

    Raises:
        AtrousError: The steps are not a multiple of the steps between validations, or one of them is not positive.
    """
    steps, every = config.trainer.max_steps, config.validate_every
    require_range("trainer.max_steps", steps, at_least=1)
    require_range("validate_every", every, at_least=1)
    if steps < every:
        config.validate_every = steps
    elif steps % every:
        raise AtrousError(
            f"trainer.max_steps={steps} is not a multiple of validate_every={every}, so the end would not be scored: "
            f"use trainer.max_steps={steps - steps % every} or another validate_every"
        )


def starting_point(config: DictConfig) -> StartingPoint | None:
    """The checkpoint that training continues from; ``ckpt_path=last`` is the one in this run's own folder.

    A run that its launcher has started again continues without being asked to, which ``ckpt_path`` says afterwards.

    Raises:
        AtrousError: There is none, or it does not belong to a run.
    """
    launch, own = find_launch(), Path(config.paths.run, CHECKPOINTS, "last.ckpt")
    if config.ckpt_path is None and launch is not None and launch.restarts and own.is_file():
        config.ckpt_path = str(own)
    if config.ckpt_path is None:
        return None
    path = config.paths.run if config.ckpt_path == "last" else config.ckpt_path
    return read_starting_point(checkpoint_to_continue(path))


def overrides(config: DictConfig) -> list[str]:
    """Command-line overrides that restart this run: those given except the checkpoint, and what was decided since."""
    decided = {"validate_every": config.validate_every}
    if "precision" in config.trainer:
        decided["trainer.precision"] = config.trainer.precision
    said = said_besides("ckpt_path", *decided)
    return [*said, *(f"{key}={value}" for key, value in decided.items())]


def said_besides(*keys: str) -> list[str]:
    """Overrides of the command line, but for those of some keys."""
    return [line for line in HydraConfig.get().overrides.task if line.partition("=")[0] not in keys]


def _refuse_children_in_multirun(config: DictConfig) -> None:
    """Lightning's child processes start the program again; in a multirun they would compose another job."""
    if not is_multirun():
        return
    strategy = str(config.trainer.get("strategy", "auto"))
    devices = config.trainer.get("devices", 1)
    several = any(word in strategy for word in ("ddp", "Sharded")) or (isinstance(devices, int) and devices > 1)
    if several and "spawn" not in strategy:
        raise AtrousError(
            "a multirun cannot start training on several processes: use trainer.devices=1 or start the runs one by one"
        )
