"""What callbacks put around inference takes part in the scores, says so, and is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from atrous.callbacks import InferenceStage
from atrous.errors import AtrousError
from atrous.inference import Inference, MultiScale, SlidingWindow
from atrous.inference.inference import Band, InferenceProtocol, Wrapper


class Turned(Wrapper):
    """Gives the last class the probabilities of the first one and so on."""

    def wrap(self, inference: Inference) -> Inference:
        return self.around(inference)

    @property
    def protocol(self) -> InferenceProtocol:
        return {**self.inner.protocol, "crf": "turned"}

    def bands(self, segmentor: Any, image: Tensor) -> Iterator[Band]:
        for rows, probabilities in self.inner.bands(segmentor, image):
            yield rows, probabilities.flip(1)


def test_stages_take_part_in_test(task: Any, data: Any, trainer: Any) -> None:
    plain, turned = task(), task()
    for module in (plain, turned):
        module.segmentor.head.requires_grad_(False)
        for parameter in module.segmentor.head.parameters():
            parameter.mul_(5)  # classes of a new network are so much alike that some tie
    trainer().test(plain, datamodule=data(), verbose=False)
    trainer(callbacks=[InferenceStage(Turned())]).test(turned, datamodule=data(), verbose=False)
    assert turned.last_confusion.sum() == plain.last_confusion.sum() > 0
    assert torch.equal(turned.last_confusion, plain.last_confusion.flip(1))
    assert not torch.equal(turned.last_confusion, plain.last_confusion)
    assert turned.protocol("test").crf == "turned"
    assert plain.protocol("test").crf is None


@pytest.mark.parametrize("order", [1, -1])
def test_any_order_is_the_same_and_leaves_nothing_behind(task: Any, data: Any, trainer: Any, order: int) -> None:
    module = task()
    before = module.inference
    stages = [InferenceStage(MultiScale(scales=[0.5, 1.0], flip=True)), InferenceStage(SlidingWindow(size=17))]
    trainer(callbacks=stages[::order]).test(module, datamodule=data(), verbose=False)
    assert str(module.protocol("test")).startswith(
        "toy test · OS 16 · scales 0.5, 1 · flip · window 17×17 · every 11×11 px · no CRF"
    )
    assert module.stages == []
    assert module.inference is before
    trainer().test(module, datamodule=data(), verbose=False)
    assert "scale 1 · no flip · whole image" in str(module.protocol("test"))


class WrittenMasks(Callback):
    """What masks that are written in test state."""

    def __init__(self) -> None:
        self.seen: set[bool] = set()

    def on_test_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any, **options: Any) -> None:
        self.seen.add(pl_module.protocol("test").flip)


def test_a_second_test_states_its_own_stages_while_it_runs(task: Any, data: Any, trainer: Any) -> None:
    module, masks = task(), WrittenMasks()
    trainer(callbacks=[masks, InferenceStage(MultiScale(flip=True))]).test(module, datamodule=data(), verbose=False)
    assert masks.seen == {True}
    plain = WrittenMasks()
    trainer(callbacks=[plain]).test(module, datamodule=data(), verbose=False)
    assert plain.seen == {False}


class Protocols(Callback):
    """What the scores of every validation state."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.seen.append(pl_module.protocol("val").crf)


@pytest.mark.parametrize("validation", [False, True])
def test_validation_has_them_if_asked(task: Any, data: Any, trainer: Any, validation: bool) -> None:
    module, protocols = task(), Protocols()
    stage = InferenceStage(Turned(), validation=validation)
    trainer(callbacks=[stage, protocols], max_steps=4).fit(module, datamodule=data())
    assert protocols.seen == ["turned" if validation else None] * 2
    assert module.stages == []


def test_a_failed_test_leaves_nothing_behind(task: Any, data: Any, trainer: Any) -> None:
    class Broken(Turned):
        def bands(self, segmentor: Any, image: Tensor) -> Iterator[Band]:
            raise AtrousError("broken")

    module = task()
    with pytest.raises(AtrousError, match="broken"):
        trainer(callbacks=[InferenceStage(Broken())]).test(module, datamodule=data(), verbose=False)
    assert module.stages == []


def test_stages_that_do_not_go_together_are_refused(task: Any, data: Any, trainer: Any) -> None:
    stages = [InferenceStage(MultiScale(flip=True)), InferenceStage(MultiScale(scales=[0.5]))]
    module = task()
    with pytest.raises(AtrousError, match="asked for twice"):
        trainer(callbacks=stages).test(module, datamodule=data(), verbose=False)
    assert module.stages == []


@torch.no_grad()
def test_predictions_are_put_together_from_bands(task: Any, data: Any, monkeypatch: Any) -> None:
    module = task().eval()
    for parameter in module.segmentor.head.parameters():
        parameter.mul_(50)
    batch = next(iter(data().val_dataloader()))
    whole = module.inference(module.segmentor, batch["image"]).argmax(dim=1)
    assert len(whole.unique()) > 1
    monkeypatch.setattr("atrous.inference.bands._PART", {"cpu": 1})
    assert len(list(module.inference.bands(module.segmentor, batch["image"]))) == 5
    assert torch.equal(module.test_step(batch, 0)["prediction"].long(), whole)
