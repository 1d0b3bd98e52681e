"""Batches of an architecture search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from atrous.composition.parts import build_data
from atrous.data import SearchDataModule

Compose = Callable[..., Any]


@pytest.fixture
def module(composed: Compose) -> Callable[..., SearchDataModule]:
    def build(**options: Any) -> SearchDataModule:
        config = composed(
            "search_auto_deeplab",
            "data.dataset.size=64",
            "data.dataset.lengths={train: 11, val: 2, test: 2}",
            "augment.crop_size=33",
            "data.num_workers=0",
            "validate_every=4",
        )
        config.data.update(**options)
        return build_data(config.data)

    return build


def test_each_batch_is_of_its_half(module: Callable[..., SearchDataModule]) -> None:
    data = module()
    names = data.dataset("train").names
    first, second = ({names[image] for image in half} for half in data.halves)
    assert len(first) == 6
    assert len(second) == 5
    seen: dict[str, set[str]] = {"weights": set(), "architecture": set()}
    for _ in range(3):
        for batch in data.train_dataloader():
            for half, names_of in seen.items():
                assert batch[half]["image"].shape == (2, 3, 33, 33)
                assert batch[half]["mask"].shape == (2, 33, 33)
                names_of.update(batch[half]["name"])
    assert seen["weights"] == first
    assert seen["architecture"] <= second
    assert data.steps_per_epoch == 3


def test_halves_have_their_own_augmentation(module: Callable[..., SearchDataModule]) -> None:
    """The same image would be cut in another way by the other half at the same place in the stream."""
    loader = module().train_dataloader()
    (pair,) = next(iter(loader.batch_sampler))[:1]
    assert pair.second is not None
    samples = loader.dataset[pair._replace(second=pair.first)]
    assert not torch.equal(samples[0]["image"], samples[1]["image"])


def test_nothing_of_the_second_half_is_read_before_it_is_needed(module: Callable[..., SearchDataModule]) -> None:
    batches = list(module(architecture_from=3).train_dataloader())
    assert [batch["architecture"] is None for batch in batches] == [True, True, True, False]


def test_a_resumed_loader_goes_on(module: Callable[..., SearchDataModule]) -> None:
    whole = list(module().train_dataloader())
    resumed = module().train_dataloader()
    resumed.load_state_dict({"batches": 2})
    for one, other in zip(resumed, whole[2:], strict=True):
        for half in ("weights", "architecture"):
            assert torch.equal(one[half]["image"], other[half]["image"])
            assert one[half]["name"] == other[half]["name"]


def test_validation_is_that_of_a_training(module: Callable[..., SearchDataModule]) -> None:
    assert len(list(module().val_dataloader())) == 1
