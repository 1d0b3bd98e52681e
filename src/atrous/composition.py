"""From configuration to objects: the one module of the package that knows Hydra."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import hydra
import lightning.pytorch as pl
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from atrous.callbacks.interrupts import Interrupts, RunInterrupted
from atrous.checkpoints.atomic import AtomicCheckpointIO
from atrous.checkpoints.card import Card, read_checkpoint, require_same_classes
from atrous.checkpoints.recipe import build_data_module, build_model, without_initial_weights
from atrous.checkpoints.resume import StartingPoint, read_starting_point
from atrous.checkpoints.transfer import transfer_weights
from atrous.data.class_weights import median_frequency_weights
from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError, require_range
from atrous.preparation.dupsampling import fit_upsampler
from atrous.runs import (
    CHECKPOINTS,
    checkpoint_to_continue,
    checkpoint_to_use,
    claim_folder,
    newest_run,
    release_unused_folders,
    run_of,
)
from atrous.segmentor import Segmentor
from atrous.signatures import BUILT, require_argument, require_type
from atrous.training.task import SegmentationTask
from atrous.upsamplers.dupsampling import DUpsampling

REPOSITORY = Path(__file__).resolve().parents[2]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR)
_REFUSALS = (ArithmeticError, InstantiationException, MisconfigurationException, RuntimeError, TypeError, ValueError)


def register_resolvers() -> None:
    """Teach configuration files three words.

    ``${repository:}`` is the checkout, ``${new_folder:parent}`` a folder of this process alone, named after the time,
    and ``${run_folder:parent,ckpt_path}`` the same, or the folder of the run that goes on.
    """
    OmegaConf.register_new_resolver("repository", lambda: str(REPOSITORY), replace=True)
    OmegaConf.register_new_resolver("new_folder", _new_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)


def explained(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn what ends a program into one sentence on stderr and an exit status.

    The status is 2 for a user's mistake, a signal's own, and 1 for any other error, of which ``HYDRA_FULL_ERROR=1``
    shows the traceback as well.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that lacks a letter is no reason to stop
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # between Lightning and PyTorch, not for users
        try:
            with _one_sentence():
                return main(*args, **kwargs)
        finally:
            release_unused_folders()

    return run


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except RunInterrupted as interrupted:
        if interrupted.status:
            print(interrupted, file=sys.stderr)
        sys.exit(interrupted.status)
    except KeyboardInterrupt:
        print("stopped by SIGINT before there was anything to save", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        sentence, status = _explanation(error)
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(status)


def _explanation(error: Exception) -> tuple[str, int]:
    """What an error says to a user, and the status to exit with."""
    if isinstance(error, AtrousError):
        return str(error), 2
    if isinstance(error, OmegaConfBaseException):
        return _first_line(error), 2
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.filename or 'the disk'} cannot be used: {error.strerror}", 2
    reason = f"{type(error).__name__}: {_first_line(error)}"
    return f"{reason} (a bug, or a value that nobody checked; HYDRA_FULL_ERROR=1 shows where)", 1


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def require_types(config: DictConfig, types: Mapping[str, Any]) -> None:
    """Hold values that no constructor takes against annotations, by key.

    Raises:
        AtrousError: A value is of another type.
    """
    for key, expected in types.items():
        value = OmegaConf.select(config, key, throw_on_missing=True)
        require_type(key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, expected)


def build(config: Any, **objects: Any) -> Any:
    """Instantiate a node with plain Python values, and with objects that no configuration can hold.

    Raises:
        AtrousError: A part refused its values, or a value is not one that it takes.
    """
    if not isinstance(config, Mapping):
        raise AtrousError(f"nothing can be built from {config}: give a node with a _target_")
    config = config if OmegaConf.is_config(config) else OmegaConf.create(dict(config))
    _checked(config)
    try:
        if not objects:
            return hydra.utils.instantiate(config, _convert_="all")
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)(**objects)
    except _REFUSALS as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, AtrousError):
            raise cause from None
        if isinstance(cause, _REFUSALS):
            raise AtrousError(f"{config.get('_target_')} does not take these values: {_first_line(cause)}") from error
        raise


def _checked(node: Any) -> Any:
    """The plain value of a node, with ``BUILT`` for what it describes, once all in it fits the signatures it goes to.

    Raises:
        AtrousError: A value is of another type than its parameter, or nothing takes it.
    """
    if isinstance(node, ListConfig):
        return [_checked(_settled(node, index)) for index in range(len(node))]
    if not isinstance(node, DictConfig):
        return node._value()
    children = {str(name): _settled(node, name) for name in node}
    values = {name: _checked(child) for name, child in children.items()}
    if "_target_" not in values:
        return values
    try:
        target = pkgutil.resolve_name(values["_target_"])
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        key = children["_target_"]._get_full_key("")
        raise AtrousError(f"{key}={values['_target_']} is nothing that can be built: {error}") from error
    for name, value in values.items():
        if not name.startswith("_"):
            require_argument(target, name, value, key=children[name]._get_full_key(""))
    return BUILT


def _settled(node: Any, name: Any) -> Any:
    """A child of a node, or the one that it refers to: that has the key under which the value can be changed."""
    return node._get_node(name)._maybe_dereference_node()


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved data."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=False))


def overrides(config: DictConfig) -> list[str]:
    """What another start of this run has to say: what was said, less the checkpoint, and what was settled since."""
    said = [line for line in HydraConfig.get().overrides.task if not line.startswith(("ckpt_path=", "validate_every="))]
    return [*said, f"validate_every={config.validate_every}"]


def build_segmentor(recipe: Any, num_classes: int) -> Segmentor:
    """Build the network that a ``model`` node describes."""
    return cast(Segmentor, build(recipe, num_classes=num_classes))


def load_segmentor(
    path: str | Path, *, output_stride: int | None = None, trust: Sequence[str] = ()
) -> tuple[Segmentor, Card]:
    """Build the network of a checkpoint and load its weights, in evaluation mode.

    Args:
        path: A checkpoint of ours, or the folder of a run (its best checkpoint).
        output_stride: 8, 16 or 32; ``None`` for the one that it was trained at.
        trust: Packages whose classes the checkpoint may name besides ours.

    Raises:
        AtrousError: The checkpoint is missing, damaged or not ours, or names what it may not; or the output stride is
            impossible.
    """
    path = checkpoint_to_use(path)
    card, weights = read_checkpoint(path)
    segmentor = build_model(card.recipe.get("model"), card.label_space.num_classes, trust=trust)
    try:
        segmentor.load_state_dict(weights)
    except RuntimeError as error:
        raise AtrousError(f"the weights in {path} are not those of the network that it describes") from error
    if output_stride is not None:
        segmentor.set_output_stride(output_stride)
    return segmentor.eval(), card


def build_data(node: Any) -> SegmentationDataModule:
    """Build the data module that a ``data`` node describes."""
    return cast(SegmentationDataModule, build(node))


def build_evaluation_data(config: DictConfig, card: Card) -> SegmentationDataModule:
    """Build the data module whose test split is the split to score: of the data set asked for, or the checkpoint's."""
    if config.get("data") is not None:
        data = build_data(OmegaConf.merge(config.data, {"test_split": config.split}))
    elif "data" in card.recipe:
        data = build_data_module(card.recipe["data"], trust=config.trust, test_split=config.split)
    else:
        raise AtrousError("the checkpoint names no data set: say which one by data=<name> data.root=<folder>")
    data.dataset("test")  # tells the classes; a folder of files to score may hold no other split
    return data


def build_task(config: DictConfig, data: SegmentationDataModule) -> SegmentationTask:
    """Build network, loss and optimizer for training on a data module; a run that goes on has weights already."""
    if config.ckpt_path is not None:
        segmentor = build_segmentor(without_initial_weights(plain(config.model)), data.label_space.num_classes)
    else:
        segmentor = _build_initial_segmentor(config, data)
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
            overrides=overrides(config),
        ),
    )


def _build_initial_segmentor(config: DictConfig, data: SegmentationDataModule) -> Segmentor:
    segmentor = build_segmentor(config.model, data.label_space.num_classes)
    upsampler = segmentor.upsampler
    if isinstance(upsampler, DUpsampling) and upsampler.unfitted:
        fit_upsampler(
            upsampler, data.dataset("train"), Console(soft_wrap=True, markup=False), folder=config.paths.label_codes
        )
    if config.init_from is not None:
        path = checkpoint_to_use(config.init_from)
        for line in (f"reading {path}", *transfer_weights(segmentor, path).lines()):
            print(f"init_from: {line}")
    return segmentor


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


def build_trainer(config: DictConfig, *others: Callback) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        config: The whole configuration.
        others: Callbacks besides those of the configuration, called before them.

    Raises:
        AtrousError: Values of the trainer do not go together.
    """
    _refuse_children_in_multirun(config)
    loggers = [build(node) for node in (config.get("logger") or {}).values() if node is not None]
    callbacks = [build(node) for node in (config.get("callbacks") or {}).values() if node is not None]
    settings = {
        "logger": loggers or False,
        "callbacks": [*others, *callbacks, Interrupts()],
        "plugins": [AtomicCheckpointIO()],
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    trainer = cast(pl.Trainer, build(config.trainer, **settings))
    require_range("trainer.log_every_n_steps", config.trainer.get("log_every_n_steps"), at_least=0)
    return trainer


def settle_validation(config: DictConfig) -> None:
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
    """The checkpoint that training goes on from; ``ckpt_path=last`` is that of this run's own folder.

    Raises:
        AtrousError: There is none, or it is not that of a run.
    """
    if config.ckpt_path is None:
        return None
    path = config.paths.run if config.ckpt_path == "last" else config.ckpt_path
    return read_starting_point(checkpoint_to_continue(path))


def continue_recorded_run(argv: Sequence[str]) -> list[str]:
    """Complete the command line of a run that goes on by what the run was started with.

    ``ckpt_path=last`` becomes the file that it means. What is said now takes the place of what was said then; whether
    it may differ is decided later, when both are whole configurations.

    Args:
        argv: Arguments without the program's name.

    Raises:
        AtrousError: There is nothing to continue, or the record names code.
    """
    try:
        arguments = get_args_parser().parse_args(list(argv))
        said = OverridesParser.create().parse_overrides(arguments.overrides)
    except HydraException:
        return list(argv)  # Hydra says what is wrong with it
    asked = {each.input_line: each.value() for each in said if each.key_or_group == "ckpt_path"}
    if not any(asked.values()) or arguments.multirun:
        return list(argv)
    wanted = str([*asked.values()][-1])
    path = checkpoint_to_continue(_newest_run(arguments.overrides) if wanted == "last" else wanted).absolute()
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    kept = [word for word in argv if word not in asked]
    recorded = _recorded_overrides(read_starting_point(path).card, besides=said)
    return [*kept, f"ckpt_path='{quoted}'", *recorded]


def _newest_run(words: Sequence[str]) -> Path:
    """Folder of the newest run of the name that a command line stands for."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = hydra.compose("train", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    name, runs = config.name, Path(config.paths.logs) / "train" / str(config.name)
    GlobalHydra.instance().clear()
    run = newest_run(runs)
    if run is None:
        raise AtrousError(
            f"ckpt_path=last found no run of {name!r} under {config.paths.logs}: start it without ckpt_path, or give "
            "name=<that of the run>"
        )
    if not (run / CHECKPOINTS / "last.ckpt").is_file():
        raise AtrousError(
            f"ckpt_path=last means the newest run of {name!r}, {run}, which has no checkpoint yet: wait for it, or "
            "name an older run by ckpt_path=<run folder>"
        )
    return run


def _recorded_overrides(card: Card, *, besides: Sequence[Override]) -> list[str]:
    """What the run of a checkpoint was started with, besides what is said now.

    Raises:
        AtrousError: The record names code, or a file that could.
    """
    now = {(each.key_or_group, each.package) for each in besides}
    repeated = {each.input_line for each in besides}
    recorded = []
    for line in card.overrides:
        if line in repeated or line.startswith("sweep="):  # the run is one point of the sweep
            continue
        try:
            (each,) = OverridesParser.create().parse_overrides([line])
            harmless = not line.startswith("-") and _is_data(each)
        except HydraException:
            each, harmless = None, False
        if each is not None and (each.key_or_group, each.package) in now:
            continue
        if not harmless:
            raise AtrousError(
                f"the run was started with {line!r}, which names code or a file to run, so a checkpoint cannot say it: "
                "say it again on the command line"
            )
        recorded.append(line)
    return recorded


def _is_data(override: Override) -> bool:
    """Whether an override is a value, not a way to code: no target, no resolver, no file that is not one of ours."""
    key, value = override.key_or_group, override.value()
    is_group = (REPOSITORY / "conf" / key).is_dir()
    words = [*key.split("."), *_words(value)]
    return (
        not override.is_sweep_override()
        and key.split(".")[0].split("/")[0] != "hydra"
        and not any("${" in word or re.fullmatch(r"_\w+_", word) for word in words)
        and not (is_group and any(not re.fullmatch(r"[\w-]*", word) for word in _words(value)))
    )


def _words(value: Any) -> list[str]:
    """Every string in a value, keys included."""
    if isinstance(value, dict):
        return [word for item in value.items() for part in item for word in _words(part)]
    if isinstance(value, list):
        return [word for item in value for word in _words(item)]
    return [value] if isinstance(value, str) else []


def _new_folder(parent: str) -> str:
    with _one_sentence():  # Hydra asks for the folder before it calls what explains errors
        return str(claim_folder(parent))


def _run_folder(parent: str, ckpt_path: str | None) -> str:
    """A new folder for a new run; the old one for a run that goes on."""
    run = None if ckpt_path is None else run_of(ckpt_path)
    return _new_folder(parent) if run is None else str(run)


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
