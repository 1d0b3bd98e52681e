from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from atrous.places import setting

VALUES = [
    "/a/b",
    "/a b/c",
    "it's",
    "ü/照片",
    "x\\y'z",
    "a\\",
    "a\\\\",
    "\\'",
    'q"r',
    "$HOME",
    "${a}",
    "{a}",
    " lead",
    "a,b",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_setting_survives_shell_and_hydra(value: str) -> None:
    (word,) = shlex.split(setting("data.root", value))
    assert OverridesParser.create().parse_override(word).value() == value


def test_ordinary_values_are_not_quoted() -> None:
    assert setting("data.root", "/data/VOC-2012_x.y") == "data.root=/data/VOC-2012_x.y"
