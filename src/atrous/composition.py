"""From configuration to objects: the one module of the package that knows Hydra."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import hydra
import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from atrous.checkpoints.atomic import AtomicCheckpointIO
from atrous.checkpoints.card import Card, read_checkpoint, require_same_classes
from atrous.checkpoints.transfer import transfer_weights
from atrous.data.class_weights import median_frequency_weights
from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.preparation.dupsampling import fit_upsampler
from atrous.segmentor import Segmentor
from atrous.training.task import SegmentationTask
from atrous.upsamplers.dupsampling import DUpsampling

REPOSITORY = Path(__file__).resolve().parents[2]
_CHECKPOINTS = "checkpoints"


def register_resolvers() -> None:
    """Teach configuration files ``${repository:}`` and ``${run_folder:logs,name,ckpt_path}``."""
    OmegaConf.register_new_resolver("repository", lambda: str(REPOSITORY), replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)


def explained(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Turn a user's mistake into one sentence on stderr and exit status 2."""

    @functools.wraps(main)
    def run(config: DictConfig) -> None:
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning and PyTorch, not for users
        try:
            main(config)
        except AtrousError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OmegaConfBaseException as error:
            print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
            sys.exit(2)

    return run


def build(config: Any, **objects: Any) -> Any:
    """Instantiate a node with plain Python values, and with objects that no configuration can hold.

    Raises:
        AtrousError: A part refused its values, or a value is not one that it takes.
    """
    try:
        if not objects:
            return hydra.utils.instantiate(config, _convert_="all")
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)(**objects)
    except (InstantiationException, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, AtrousError):
            raise cause from None
        if isinstance(cause, TypeError):
            raise AtrousError(f"{config.get('_target_')} does not take these values: {cause}") from error
        raise


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved data."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=False))


def overrides() -> list[str]:
    """What was said on the command line."""
    return list(HydraConfig.get().overrides.task)


def build_segmentor(recipe: Any, num_classes: int) -> Segmentor:
    """Build the network that a ``model`` node describes."""
    return cast(Segmentor, build(recipe, num_classes=num_classes))


def load_segmentor(path: str | Path, *, output_stride: int | None = None) -> tuple[Segmentor, Card]:
    """Build the network of a checkpoint and load its weights, in evaluation mode.

    Args:
        path: A checkpoint of ours, or the folder of a run (its best checkpoint).
        output_stride: 8, 16 or 32; ``None`` for the one that it was trained at.

    Raises:
        AtrousError: The checkpoint is missing or not ours, or the output stride is impossible.
    """
    card, weights = read_checkpoint(checkpoint_file(path))
    recipe = card.recipe["model"]
    recipe = {**recipe, "backbone": {**recipe["backbone"], "pretrained": False}}
    if "weights" in (recipe.get("upsampler") or {}):  # the state dict brings them
        recipe["upsampler"] = {**recipe["upsampler"], "weights": "fit"}
    segmentor = build_segmentor(OmegaConf.create(recipe), card.label_space.num_classes)
    segmentor.load_state_dict(weights)
    if output_stride is not None:
        segmentor.set_output_stride(output_stride)
    return segmentor.eval(), card


def checkpoint_file(path: str | Path) -> Path:
    """The checkpoint that a path means: itself, or the best or last one of a run's folder."""
    path = Path(path)
    if path.is_dir():
        for name in ("best.ckpt", "last.ckpt"):
            if (path / _CHECKPOINTS / name).is_file():
                return path / _CHECKPOINTS / name
        raise AtrousError(
            f"the folder {path} holds no {_CHECKPOINTS}/best.ckpt: give ckpt_path=<checkpoint or run folder>"
        )
    if not path.is_file():
        raise AtrousError(f"there is no checkpoint {path}")
    return path


def build_data(node: Any) -> SegmentationDataModule:
    """Build the data module that a ``data`` node describes."""
    return cast(SegmentationDataModule, build(node))


def build_evaluation_data(config: DictConfig, card: Card) -> SegmentationDataModule:
    """Build the data module whose test split is the split to score: of the data set asked for, or the checkpoint's."""
    if config.get("data") is None and "data" not in card.recipe:
        raise AtrousError("the checkpoint names no data set: say which one by data=<name> data.root=<folder>")
    node = OmegaConf.create(card.recipe["data"]) if config.get("data") is None else config.data
    return build_data(OmegaConf.merge(node, {"test_split": config.split}))


def build_task(config: DictConfig, data: SegmentationDataModule) -> SegmentationTask:
    """Build network, loss and optimiser for training on a data module."""
    segmentor = build_segmentor(config.model, data.label_space.num_classes)
    upsampler = segmentor.upsampler
    if isinstance(upsampler, DUpsampling) and upsampler.unfitted and config.ckpt_path is None:
        fit_upsampler(upsampler, data.dataset("train"), Console())
    if config.init_from is not None:
        for line in transfer_weights(segmentor, config.init_from).lines():
            print(f"init_from: {line}")
    class_weights = functools.cache(lambda: median_frequency_weights(data.dataset("train")))
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
            recipe=plain(config),
        ),
    )


def _with_class_weights(loss: Any, weights: Callable[[], list[float]]) -> Any:
    """The node with the weights of the training masks wherever it, or a term of it, has ``class_weights: auto``."""
    if OmegaConf.select(loss, "class_weights") == "auto":
        loss = OmegaConf.merge(loss, {"class_weights": weights()})
    terms = OmegaConf.select(loss, "terms")
    if OmegaConf.is_dict(terms):
        return OmegaConf.merge(loss, {"terms": {name: _with_class_weights(terms[name], weights) for name in terms}})
    if OmegaConf.is_list(terms):
        return OmegaConf.merge(loss, {"terms": [_with_class_weights(term, weights) for term in terms]})
    return loss


def build_evaluation_task(
    config: DictConfig, segmentor: Segmentor, card: Card, data: SegmentationDataModule
) -> SegmentationTask:
    """Wrap a trained network for validation and test.

    Raises:
        AtrousError: The data set has other classes than the checkpoint.
    """
    require_same_classes(card.label_space, data.label_space)
    return SegmentationTask(
        segmentor=segmentor,
        inference=build(config.inference),
        label_space=data.label_space,
        splits={stage: data.split(stage) for stage in ("val", "test")},
        channels_last=config.channels_last,
        trimap_width=config.trimap_width,
    )


def build_trainer(config: DictConfig) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Raises:
        AtrousError: Values of the trainer do not go together.
    """
    _refuse_children_in_multirun(config)
    loggers = [build(node) for node in (config.get("logger") or {}).values() if node is not None]
    callbacks = [build(node) for node in (config.get("callbacks") or {}).values() if node is not None]
    settings = {
        "logger": loggers or False,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO()],
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    try:
        return cast(pl.Trainer, build(config.trainer, **settings))
    except (MisconfigurationException, ValueError) as error:
        if isinstance(error, AtrousError):
            raise
        raise AtrousError(f"the trainer refused its settings: {str(error).splitlines()[0]}") from error


def settle_validation(config: DictConfig) -> None:
    """Make the last validation fall on the last step.

    Raises:
        AtrousError: The steps are not a multiple of the steps between validations.
    """
    steps, every = config.trainer.max_steps, config.validate_every
    if 0 < steps < every:
        config.validate_every = steps
    elif steps > 0 and steps % every:
        raise AtrousError(
            f"trainer.max_steps={steps} is not a multiple of validate_every={every}, so the end would not be scored: "
            f"use trainer.max_steps={steps - steps % every} or another validate_every"
        )


def resume_file(config: DictConfig) -> str | None:
    """The checkpoint that training continues from; ``ckpt_path=last`` means the run that this run's folder belongs to.

    Raises:
        AtrousError: There is nothing to continue.
    """
    if config.ckpt_path is None:
        return None
    if config.ckpt_path != "last":
        return str(checkpoint_file(config.ckpt_path))
    last = Path(config.paths.run) / _CHECKPOINTS / "last.ckpt"
    if not last.is_file():
        raise AtrousError(
            f"ckpt_path=last found no run of {config.name!r} with a checkpoint under {config.paths.logs}: start it "
            "without ckpt_path, or give name=<that of the run>"
        )
    return str(last)


def _run_folder(logs: str, name: str, ckpt_path: str | None) -> str:
    """A new folder for a new run; the old one for a run that continues."""
    runs = Path(logs) / "train" / name
    if ckpt_path == "last":
        old = [path.parent.parent for path in runs.glob(f"*/{_CHECKPOINTS}/last.ckpt")]
        if old:
            return str(max(old, key=lambda run: (run / _CHECKPOINTS / "last.ckpt").stat().st_mtime))
    elif ckpt_path and Path(ckpt_path).parent.name == _CHECKPOINTS:
        return str(Path(ckpt_path).parent.parent)
    return str(runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))


def _refuse_children_in_multirun(config: DictConfig) -> None:
    """Lightning's child processes start the program again; in a multirun they would compose another job."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    strategy = str(config.trainer.get("strategy", "auto"))
    devices = config.trainer.get("devices", 1)
    if "spawn" not in strategy and ("ddp" in strategy or (isinstance(devices, int) and devices > 1)):
        raise AtrousError(
            "a multirun cannot start training on several processes: use trainer.devices=1 or start the runs one by one"
        )
