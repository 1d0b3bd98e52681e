"""What a search finds, as a file that a person can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from atrous.errors import AtrousError
from atrous.models.nas import Genotype, Operation

PATH = (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)
OPERATIONS = [
    "atrous_5x5",
    "separable_3x3_2",
    "separable_3x3_2",
    "atrous_3x3",
    "separable_3x3_2",
    "separable_3x3_2",
    "separable_5x5_2",
    "separable_5x5_2",
    "separable_5x5_2",
    "atrous_5x5",
]
HIDDEN_STATES = (1, 0, 1, 0, 3, 1, 4, 2, 3, 5)
"""TensorFlow DeepLab, core/nas_network.py: path and cell; 0 and 1 are the inputs, 2 and more the blocks."""


def test_the_file_is_the_networks_of_the_authors(paper: Genotype) -> None:
    assert paper.strides == tuple(4 * 2**level for level in PATH)
    theirs = [(name.removesuffix("_2"), state) for name, state in zip(OPERATIONS, HIDDEN_STATES, strict=True)]
    for number, block in enumerate(paper.blocks):
        ours = {(branch.operation.value, branch.source) for branch in block}
        assert ours == set(theirs[2 * number : 2 * number + 2])


def test_it_goes_to_a_file_and_back(varied: Genotype, tmp_path: Path) -> None:
    varied.write(tmp_path / "found.yaml", "Found.")
    assert Genotype.of(tmp_path / "found.yaml") == Genotype.of(str(tmp_path / "found.yaml")) == varied
    assert Genotype.of(varied.to_dict()) == varied
    assert len((tmp_path / "found.yaml").read_text(encoding="utf-8").splitlines()) == 3 + len(varied.blocks)


GOOD: dict[str, Any] = {"strides": [4, 8], "blocks": [[["skip", "l-1"], ["none", "l-2"]]]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "has nothing"),
        ({"path": [4]}, "has path"),
        ({"strides": []}, "at least one stride"),
        ({"blocks": []}, "at least one"),
        ({"strides": [4, "8"]}, "whole numbers"),
        ({"strides": 4}, "whole numbers"),
        ({"strides": [4, 12]}, "layer 2 has stride 12"),
        ({"strides": [16]}, "layer 1 has stride 16 after 4 of the stem"),
        ({"strides": [4, 8, 32]}, "layer 3 has stride 32 after 8 of layer 2"),
        ({"strides": [4, 8, 16, 4]}, "layer 4 has stride 4 after 16"),
        ({"blocks": "skip"}, "must be a list"),
        ({"blocks": [[["skip", "l-1"]]]}, "block 1 must be two pairs"),
        ({"blocks": [[["skip", "l-1"], "skip"]]}, "in place of an operation and its input"),
        ({"blocks": [[["skip", "l-1"], ["conv", "l-1"]]]}, "operation 'conv'; choose one of separable_3x3"),
        ({"blocks": [[["skip", "l-1"], ["skip", "l-3"]]]}, "works on 'l-3'"),
        ({"blocks": [[["skip", "l-1"], ["skip", 0]]]}, "works on 0"),
        ({"blocks": [[["skip", "l-1"], ["skip", "block 0"]]]}, "works on 'block 0'"),
        ({"blocks": [[["skip", "l-1"], ["skip", "block 1"]]]}, "block 1 works on block 1; it can work on l-1, l-2"),
    ],
)
def test_each_mistake_is_one_sentence(wrong: dict[str, Any], says: str) -> None:
    plain = {**GOOD, **wrong} if wrong and "path" not in wrong else wrong
    with pytest.raises(AtrousError, match=says) as caught:
        Genotype.of(plain)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="there is no genotype"):
        Genotype.of(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("strides: [4", encoding="utf-8")
    with pytest.raises(AtrousError, match="is no YAML"):
        Genotype.of(tmp_path / "broken.yaml")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(AtrousError, match="is no YAML"):
        Genotype.of(tmp_path / "code.yaml")


def test_a_path_may_begin_at_stride_8() -> None:
    assert Genotype.of({**GOOD, "strides": [8, 16]}).strides == (8, 16)


def test_operations_are_those_of_the_paper() -> None:
    assert len(Operation) == 8
    assert yaml.safe_load(Genotype.of(GOOD).to_yaml()) == GOOD
