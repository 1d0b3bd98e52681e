"""Arms of a sweep, and which of them share a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from atrous.commands.sweep.plan import arms_of
from atrous.errors import AtrousError
from atrous.places import choices

Compose = Callable[..., DictConfig]


@pytest.fixture
def swept(composed: Compose) -> Callable[..., DictConfig]:
    """A sweep with arms of the test's own."""

    def make(*words: str, **arms: dict[str, object]) -> DictConfig:
        config = composed("sweep", "sweep=loss", "seeds=[0]", *words)
        OmegaConf.update(config, "sweep.train", "")
        if arms:
            config.sweep.arms = arms
        return config

    return make


@pytest.mark.parametrize(
    ("name", "recipe"), [*((name, "claims_shapes") for name in choices("sweep")), ("aspp", "claims_camvid")]
)
def test_every_sweep_is_one_of_arms_that_compose(name: str, recipe: str, composed: Compose) -> None:
    config = composed("sweep", f"sweep={name}", f"recipe={recipe}")
    arms = arms_of(config)
    assert len(arms) > 1
    assert len({(arm.digest, arm.evaluate) for arm in arms}) == len(arms), "two arms are the same"
    assert config.sweep.question.endswith("?")


def test_arms_that_differ_in_evaluation_alone_share_a_training(
    swept: Callable[..., DictConfig], tmp_path: Path
) -> None:
    plain, crf = arms_of(swept(a={}, b={"evaluate": "callbacks=[evaluate,dense_crf]"}))
    assert plain.folder(tmp_path, 1) == crf.folder(tmp_path, 1) != plain.folder(tmp_path, 2)


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("scheduler=poly", True),  # as it was
        ("data.num_workers=0", True),
        ("name=another", True),
        ("task.learning_rate=0.002", False),
        ("model=deeplabv3", False),
    ],
)
def test_what_decides_the_curve_decides_the_folder(words: str, same: bool, swept: Callable[..., DictConfig]) -> None:
    first, second = arms_of(swept(a={"train": "model=deeplabv3plus"}, b={"train": f"model=deeplabv3plus {words}"}))
    assert (first.digest == second.digest) is same


def test_where_the_weights_of_a_decoder_come_from_decides_too(composed: Compose) -> None:
    config = composed("sweep", "sweep=dupsampling_weights")
    fitted, random = (arm for arm in arms_of(config) if arm.name in ("fitted, then fine-tuned", "random"))
    assert fitted.digest != random.digest


def test_runs_of_a_sweep_are_a_group_in_wandb(swept: Callable[..., DictConfig]) -> None:
    shown, plain, own = (
        arms_of(swept(f"train={words}", a={}))[0]
        for words in ("'logger=wandb'", "''", "'logger=wandb logger.wandb.group=mine'")
    )
    assert shown.train[-1] == "logger.wandb.group=loss_claims_shapes"
    assert not [word for each in (plain, own) for word in each.train if "group=loss" in word]
    assert shown.digest == plain.digest == own.digest


@pytest.mark.parametrize(
    ("arms", "words", "sentence"),
    [
        ({"a": {"train": "task.rate=1"}}, [], "task.rate"),
        ({"a": {"train": "seed=3"}}, [], "sweep.arms.a.train: 'seed=3' is set by the sweep"),
        ({"a": {"train": "x='"}}, [], "is no list of overrides"),
        ({"a": {"trains": "x=1"}}, [], "sweep.arms.a has no trains"),
        ({"a": {"paper": "good"}}, [], "paper of sweep.arms.a is 'good': give a number"),
        ({"a": {"evaluate": "inference=none"}}, [], "inference"),
        ({"a": {}}, ["arms=[b]"], "the sweep has no arm 'b'; choose from a"),
        ({"a": {}}, ["arms=[]"], "asks for nothing"),
        ({"a": {}}, ["recipe=nothing"], "recipe=nothing is none of"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    arms: dict[str, dict[str, object]], words: list[str], sentence: str, swept: Callable[..., DictConfig]
) -> None:
    with pytest.raises(AtrousError, match=sentence.replace("[", r"\[")):
        arms_of(swept(*words, **arms))
