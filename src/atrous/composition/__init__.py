"""Composition: from configuration files and a command line to objects; the only package that uses Hydra.

What is imported here is needed to read a command line, and nothing of it imports PyTorch.
"""

from omegaconf import DictConfig as Config

from atrous.composition.build import build, plain, require_types
from atrous.composition.compose import compose, compose_again
from atrous.composition.continuation import (
    ARCHITECTURE,
    command_to_continue,
    continue_recorded_run,
    recorded_overrides,
)
from atrous.composition.entry_point import entry_point
from atrous.composition.exits import exit_with_one_sentence
from atrous.composition.multirun import ComparisonPage
from atrous.composition.resolvers import register_resolvers

__all__ = [
    "ARCHITECTURE",
    "ComparisonPage",
    "Config",
    "build",
    "command_to_continue",
    "compose",
    "compose_again",
    "continue_recorded_run",
    "entry_point",
    "exit_with_one_sentence",
    "plain",
    "recorded_overrides",
    "register_resolvers",
    "require_types",
]
