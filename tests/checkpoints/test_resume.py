"""What a run that goes on may say differently, and what its checkpoint must hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.checkpoints import Card
from atrous.checkpoints.resume import StartingPoint, read_starting_point, require_same_recipe
from atrous.errors import AtrousError

RECIPE: dict[str, Any] = {
    "seed": 0,
    "ckpt_path": None,
    "paths": {"run": "here"},
    "data": {"batch_size": 16, "num_workers": 2, "root": "data"},
    "task": {"learning_rate": 0.007, "compile": False},
    "model": {"head": {"rates": [6, 12, 18], "image_pooling": None}},
    "trainer": {"max_steps": 100, "devices": 1, "precision": "32-true"},
    "callbacks": {"last": {"every": 100}, "average": {"decay": 0.999}},
    "logger": {"csv": {"run_dir": "here"}},
}


def changed(**values: Any) -> dict[str, Any]:
    """The recipe with other values at keys whose dots are written as double underscores."""
    recipe = copy.deepcopy(RECIPE)
    for key, value in values.items():
        *parents, last = key.split("__")
        inner = recipe
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return recipe


@pytest.fixture
def point(card: Card) -> StartingPoint:
    return StartingPoint(Path("last.ckpt"), 50, Card(card.label_space, {}, RECIPE))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ckpt_path": "last.ckpt", "paths__run": "there", "data__root": "/mnt"},
        {"data__num_workers": 0, "trainer__devices": 4, "task__compile": True, "trainer__strategy": "ddp"},
        {"logger": {}, "callbacks__last__every": 10, "callbacks__panels__count": 8},
        {"model__head__new_option_that_is_off": None},
    ],
)
def test_where_and_how_fast_a_run_goes_on_is_free(values: dict[str, Any], point: StartingPoint) -> None:
    assert require_same_recipe(point, changed(**values)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 5}, "seed was 0, now 5"),
        ({"data__batch_size": 2}, r"data\.batch_size was 16, now 2"),
        ({"task__learning_rate": 0.5}, r"task\.learning_rate was 0\.007, now 0\.5"),
        ({"model__head__rates": [1, 2, 3]}, r"model\.head\.rates was \[6, 12, 18\], now \[1, 2, 3\]"),
        ({"model__head__image_pooling": "global"}, r"image_pooling was None, now 'global'"),
        ({"trainer__precision": "bf16-mixed"}, r"trainer\.precision was '32-true', now 'bf16-mixed'"),
        ({"trainer__max_steps": 80}, r"trainer\.max_steps was 100, now 80"),
        ({"trainer__max_steps": -1}, r"trainer\.max_steps was 100, now -1"),
        ({"callbacks": {"last": {"every": 100}}}, r"callbacks\.average\.decay was 0\.999, now None"),
        ({"loggers": 1}, "loggers was None, now 1"),  # not mistaken for the logger
    ],
)
def test_what_decides_the_curve_is_not(values: dict[str, Any], words: str, point: StartingPoint) -> None:
    with pytest.raises(AtrousError, match=words):
        require_same_recipe(point, changed(**values))


def test_all_differences_are_listed_up_to_a_dozen(point: StartingPoint) -> None:
    many = {f"model__new_{index}": index + 1 for index in range(14)}
    with pytest.raises(AtrousError, match=r"model\.new_0 was None, now 1; .*; and 2 more\)"):
        require_same_recipe(point, changed(**many))


def test_a_longer_run_is_possible_and_says_what_it_means(point: StartingPoint) -> None:
    (note,) = require_same_recipe(point, changed(trainer__max_steps=200))
    assert "from 100 to 200" in note
    assert "another curve" in note


STATE = {
    "state_dict": {"segmentor.weight": torch.zeros(1)},
    "optimizer_states": [],
    "lr_schedulers": [],
    "loops": {},
    "callbacks": {},
    "global_step": 7,
}


def written(path: Path, card: Card, **values: Any) -> Path:
    checkpoint = {**STATE, Card.KEY: card.to_dict(), **values}
    torch.save({key: value for key, value in checkpoint.items() if value is not None}, path)
    return path


def test_a_whole_checkpoint_is_a_starting_point(tmp_path: Path, card: Card) -> None:
    recorded = Card(card.label_space, {}, RECIPE, overrides=("seed=3",))
    point = read_starting_point(written(tmp_path / "last.ckpt", recorded))
    assert point.step == 7
    assert point.card == recorded


@pytest.mark.parametrize("missing", ["optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step"])
def test_weights_alone_are_none(missing: str, tmp_path: Path, card: Card) -> None:
    path = written(tmp_path / "weights.ckpt", card, **{missing: None})
    with pytest.raises(AtrousError, match=r"holds weights but not the state of a run.*init_from="):
        read_starting_point(path)


@pytest.mark.parametrize("keep", [0, 1, 100, 1000])
def test_a_truncated_file_is_one_sentence(keep: int, tmp_path: Path, card: Card) -> None:
    path = written(tmp_path / "last.ckpt", card)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AtrousError, match=r"last\.ckpt is not a checkpoint") as refusal:
        read_starting_point(path)
    assert "\n" not in str(refusal.value)


def test_flipped_bits_are_found_wherever_they_matter(tmp_path: Path, card: Card) -> None:
    """Any of them changes nothing that is read, or is refused; never a weight that is another one."""
    weights = torch.randn(500, generator=torch.Generator().manual_seed(0))
    path = written(tmp_path / "last.ckpt", card, state_dict={"segmentor.weight": weights})
    whole, refused = path.read_bytes(), 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in torch.randint(len(whole), (4,), generator=generator).tolist():
            damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read_starting_point(path)
        except AtrousError:
            refused += 1
            continue
        assert torch.equal(torch.load(path)["state_dict"]["segmentor.weight"], weights)
    assert refused > 30


@pytest.mark.parametrize("broken", [{}, {"format": 1}, {"format": "x"}, {"format": 1, "label_space": 3}, []])
def test_a_damaged_card_is_one_sentence(broken: Any, tmp_path: Path, card: Card) -> None:
    path = written(tmp_path / "last.ckpt", card, **{Card.KEY: broken})
    with pytest.raises(AtrousError, match=r"last\.ckpt (was not written by Atrous|has a card that cannot be read)"):
        read_starting_point(path)


@pytest.mark.parametrize(("shrink", "same"), [(1, True), (2, False)])
def test_a_run_from_before_an_option_did_what_its_default_does(shrink: int, same: bool, card: Card) -> None:
    point = StartingPoint(Path("last.ckpt"), 3, Card(card.label_space, {}, {"data": {"batch_size": 4}}))
    now = {"data": {"batch_size": 4, "shrink": shrink}}
    if same:
        assert require_same_recipe(point, now) == []
    else:
        with pytest.raises(AtrousError, match=r"data\.shrink"):
            require_same_recipe(point, now)
