"""Composition: from configuration files and a command line to objects; the only package that uses Hydra."""

from omegaconf import DictConfig as Config

from atrous.composition.build import build, plain, require_types
from atrous.composition.compose import compose
from atrous.composition.continuation import continue_recorded_run
from atrous.composition.create import create_segmentor
from atrous.composition.entry_point import entry_point
from atrous.composition.exits import exit_with_one_sentence
from atrous.composition.parts import (
    build_data,
    build_evaluation_data,
    build_evaluation_task,
    build_segmentor,
    build_task,
    build_trainer,
    check_validation_steps,
    overrides,
    starting_point,
)
from atrous.composition.precision import decide_precision, keep_precision
from atrous.composition.resolvers import register_resolvers

__all__ = [
    "Config",
    "build",
    "build_data",
    "build_evaluation_data",
    "build_evaluation_task",
    "build_segmentor",
    "build_task",
    "build_trainer",
    "check_validation_steps",
    "compose",
    "continue_recorded_run",
    "create_segmentor",
    "decide_precision",
    "entry_point",
    "exit_with_one_sentence",
    "keep_precision",
    "overrides",
    "plain",
    "register_resolvers",
    "require_types",
    "starting_point",
]
