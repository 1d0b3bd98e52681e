"""Training steps in a process of their own."""

from __future__ import annotations

import pytest

from atrous.commands.prepare.trial import try_batch
from atrous.errors import AtrousError
from atrous.memory import peak_memory, resident_memory

WORDS = (
    *("trainer=cpu", "trainer.precision=32-true", "backbone=timm", "backbone.name=mobilenetv2_050"),
    *("model.head.aspp_channels=16", "model.head.decoder_channels=16", "augment.crop_size=65"),
    "scheduler.warmup_steps=50",  # the schedule is that of the whole run
)


def test_a_trial_tells_memory_and_time() -> None:
    own = peak_memory()
    trial = try_batch(WORDS, 8, steps=2, memory=None, on_gpu=False)
    assert trial.fits
    assert trial.bytes is not None
    assert 2**28 < trial.bytes < 2**33
    assert trial.seconds is not None
    assert 0 < trial.seconds < 60
    assert peak_memory() - own < 2**27  # it was not this process that trained


@pytest.mark.long
def test_a_trial_that_takes_too_much_is_stopped() -> None:
    trial = try_batch(WORDS, 512, steps=1000, memory=2**30, on_gpu=False)
    assert not trial.fits
    assert trial.bytes is None


@pytest.mark.long
def test_other_troubles_are_told() -> None:
    with pytest.raises(AtrousError, match="image pooling got a batch of one image while its batch norm trains"):
        try_batch(WORDS, 1, steps=2, memory=None, on_gpu=False)
    assert resident_memory(2**22 + 1) is None
