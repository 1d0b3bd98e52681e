"""A CRF in the network: trained end to end, resumed, scored without a callback, and its numbers in checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import atrous
from atrous.commands.evaluate import command as evaluate
from atrous.commands.train import command as train
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
Options = tuple[str, ...]


@pytest.fixture
def options(tiny_options: Options) -> Options:
    return (*tiny_options, "trainer=cpu", "logger=none", "callbacks=minimal", "validate_every=2")


def test_it_trains_end_to_end_and_is_scored_without_a_callback(composed: Compose, options: Options) -> None:
    config = composed("train", *options, "crf=crf_as_rnn", "trainer.max_steps=2", run="trained")
    task = train.train(config)
    assert task.segmentor.crf is not None
    weights = task.segmentor.get_parameter("crf.weight_0").detach()
    assert weights.shape == (8, 8)
    assert not torch.equal(weights, 5 * torch.eye(8))  # it has learned
    said = "CRF 5/160/3 + 3/3, compatibility given learned, 10 iterations, after"
    assert task.segmentor.crf.description == said
    assert said in str(task.protocol("val"))
    run = Path(config.paths.run)
    network, _ = atrous.load(run)
    assert network.crf is not None
    assert network.crf.description == said
    assert network.crf.training_iterations == 5
    scored = composed("evaluate", f"ckpt_path={run}", run="scored")
    evaluate.evaluate(scored)
    assert json.loads((Path(scored.paths.run) / "scores.json").read_text())["protocol"]["crf"] == said
    twice = composed("evaluate", f"ckpt_path={run}", "callbacks=[evaluate,dense_crf]", run="twice")
    with pytest.raises(AtrousError, match=r"the network has a CRF .* of its own"):
        evaluate.evaluate(twice)
    config = composed(
        "train",
        *options,
        "crf=crf_as_rnn",
        "trainer.max_steps=4",
        f"ckpt_path={run}/checkpoints/last.ckpt",
        run="more",
    )
    resumed = train.train(config)
    assert not torch.equal(resumed.segmentor.get_parameter("crf.weight_0").detach(), weights)


def test_the_crf_alone_may_learn_behind_a_trained_network(composed: Compose, options: Options, tmp_path: Path) -> None:
    train.train(composed("train", *options, "trainer.max_steps=2", run="network"))
    words = ("crf=crf_as_rnn", "task.train_only=[crf]", f"init_from={tmp_path / 'network'}", "trainer.max_steps=2")
    task = train.train(composed("train", *options, *words, run="crf"))
    before, _ = atrous.load(tmp_path / "network")
    own = task.segmentor.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in before.state_dict().items())
    assert not torch.equal(own["crf.weight_0"], 5 * torch.eye(8))


def test_a_fixed_crf_has_nothing_in_a_checkpoint(composed: Compose, options: Options) -> None:
    config = composed("train", *options, "crf=dense_crf", "crf.iterations=2", "trainer.max_steps=2", run="fixed")
    task = train.train(config)
    assert [name for name in task.segmentor.state_dict() if name.startswith("crf")] == []
    network, _ = atrous.load(config.paths.run)
    assert network.crf is not None
    assert network.crf.description == "CRF 4/67/3 + 3/3, 2 iterations, symmetric"


def test_a_loss_on_scores_is_refused(composed: Compose, options: Options) -> None:
    config = composed("train", *options, "crf=crf_as_rnn", "task.loss_resolution=scores", "trainer.max_steps=2")
    with pytest.raises(AtrousError, match="the loss cannot be taken on scores"):
        train.train(config)
