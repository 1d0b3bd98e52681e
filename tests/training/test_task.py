"""The LightningModule: steps, scores, checkpoints, refusals."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from atrous.checkpoints import Card, read_checkpoint
from atrous.data import LabelSpace, SegmentationDataModule
from atrous.errors import AtrousError
from atrous.losses import CrossEntropy, Focal, Loss
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3Head, FCNHead
from atrous.models.multi_scale_segmentor import MultiScaleSegmentor
from atrous.models.segmentor import Segmentor
from atrous.training import SegmentationTask

Task = Callable[..., SegmentationTask]
Data = Callable[..., SegmentationDataModule]
MakeTrainer = Callable[..., Trainer]


class _Rates(Callback):
    """Notes the learning rates that every step was made with."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.seen.append({group["name"]: group["lr"] for group in optimizer.param_groups})


def test_the_schedule_moves_at_every_step(task: Task, data: Data, trainer: MakeTrainer) -> None:
    rates = _Rates()
    trainer(max_steps=4, callbacks=[rates]).fit(task(learning_rate=0.02, head_factor=5), datamodule=data())
    expected = [0.02 * (1 - step / 4) ** 0.9 for step in range(4)]
    assert [seen["backbone"] for seen in rates.seen] == pytest.approx(expected)
    assert [seen["head_no_decay"] for seen in rates.seen] == pytest.approx([5 * rate for rate in expected])


def test_accumulated_batches_are_one_step(task: Task, data: Data, trainer: MakeTrainer) -> None:
    rates = _Rates()
    trainer(max_steps=2, accumulate_grad_batches=2, callbacks=[rates]).fit(task(), datamodule=data())
    assert len(rates.seen) == 2


def test_a_step_changes_every_part(task: Task, data: Data, trainer: MakeTrainer) -> None:
    training = task()
    before = {name: p.detach().clone() for name, p in training.named_parameters()}
    trainer(max_steps=2).fit(training, datamodule=data())
    changed = {name.split(".")[1] for name, p in training.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"backbone", "head"}


def weights_after(task: Task, data: Data, trainer: MakeTrainer, *, noise: int, seed: int = 0) -> dict[str, Tensor]:
    training = task(seed=seed)
    torch.manual_seed(noise)
    trainer(max_steps=3).fit(training, datamodule=data())
    return training.segmentor.state_dict()


def test_dropout_depends_on_seed_and_step_alone(task: Task, data: Data, trainer: MakeTrainer) -> None:
    """Whatever else has drawn random numbers in the process: otherwise no resumed run could equal a whole one."""
    first = weights_after(task, data, trainer, noise=1)
    second = weights_after(task, data, trainer, noise=2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = weights_after(task, data, trainer, noise=1, seed=1)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def truth_and_prediction(training: SegmentationTask, data: SegmentationDataModule) -> list[tuple[Tensor, Tensor]]:
    """Mask and logits of every validation image, one at a time."""
    pairs = []
    training.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            for image, mask in zip(batch["image"], batch["mask"], strict=True):
                pairs.append((mask, training.segmentor(image[None])[0]))
    return pairs


def test_validation_scores_equal_loops_over_the_pixels(task: Task, data: Data, trainer: MakeTrainer) -> None:
    training, module, runner = task(), data(), trainer()
    with torch.no_grad():  # an untrained network has logits so small that their probabilities are equal
        training.segmentor.head.classifier.weight.mul_(1e5)
    (logged,) = runner.validate(training, datamodule=module, verbose=False)
    confusion = [[0] * 3 for _ in range(3)]
    losses = []
    for mask, logits in truth_and_prediction(training, module):
        for row in range(33):
            for column in range(33):
                label = int(mask[row, column])
                if label != 255:
                    scores = logits[:, row, column]
                    confusion[label][int(scores.argmax())] += 1
                    losses.append(float(scores.logsumexp(0) - scores[label]))
    assert training.last_confusion is not None
    assert training.last_confusion.tolist() == confusion
    ious = []
    for k in range(3):
        union = sum(confusion[k]) + sum(row[k] for row in confusion) - confusion[k][k]
        ious.append(confusion[k][k] / union if union else math.nan)
    occurring = [iou for iou in ious if not math.isnan(iou)]
    assert logged["val/miou"] == pytest.approx(sum(occurring) / len(occurring))
    assert logged["val/pixel_accuracy"] == pytest.approx(sum(confusion[k][k] for k in range(3)) / len(losses))
    assert logged["val/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert [logged[f"val/iou/{name}"] for name in ("dark", "middle", "bright")] == pytest.approx(ious, nan_ok=True)
    assert training.last_scores is not None
    assert training.last_scores.miou == pytest.approx(logged["val/miou"])


def test_scores_are_of_the_latest_evaluation_only(task: Task, data: Data, trainer: MakeTrainer) -> None:
    training, runner = task(), trainer()
    for _ in range(2):
        runner.validate(training, datamodule=data(), verbose=False)
        assert training.last_confusion is not None
        pixels = sum(int((batch["mask"] != 255).sum()) for batch in data().val_dataloader())
        assert int(training.last_confusion.sum()) == pixels


def test_test_stage_has_its_own_split_and_names(task: Task, data: Data, trainer: MakeTrainer) -> None:
    training = task(splits={"val": "val", "test": "hidden"})
    (logged,) = trainer().test(training, datamodule=data(), verbose=False)
    assert {"test/miou", "test/loss", "test/fwiou", "test/mean_accuracy", "test/iou/dark"} <= set(logged)
    assert not [name for name in logged if name.startswith("val/")]
    assert training.protocol("test").split == "hidden"
    assert training.protocol("test").precision == "32-true"


def test_the_protocol_says_in_which_precision_a_score_was_measured(
    task: Task, data: Data, trainer: MakeTrainer
) -> None:
    training = task()
    trainer(precision="bf16-mixed").validate(training, datamodule=data(), verbose=False)
    assert training.protocol("val").precision == "bf16-mixed"


def test_steps_give_predictions(task: Task, data: Data) -> None:
    training = task().eval()
    batch = next(iter(data().val_dataloader()))
    for step in (training.validation_step, training.test_step):
        with torch.no_grad():
            prediction = step(batch, 0)["prediction"]
        assert prediction.dtype == torch.uint8
        assert prediction.shape == batch["mask"].shape


def test_a_checkpoint_is_plain_data_and_says_what_it_is(
    task: Task, data: Data, trainer: MakeTrainer, tmp_path: Path
) -> None:
    training = task(recipe={"model": {"rates": [6, 12]}, "seed": 0})
    runner = trainer(max_steps=2)
    runner.fit(training, datamodule=data())
    runner.save_checkpoint(tmp_path / "run.ckpt")
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["global_step"] == 2
    card, weights = read_checkpoint(tmp_path / "run.ckpt")
    assert set(weights) == set(training.segmentor.state_dict())
    assert card.label_space == training.label_space
    assert card.preprocessing == training.segmentor.preprocessing()
    assert card.recipe == {"model": {"rates": [6, 12]}, "seed": 0}
    assert card.score is not None
    assert training.last_scores is not None
    assert card.score["miou"] == pytest.approx(training.last_scores.miou)
    assert card.score["step"] == 2
    assert card.score["protocol"]["split"] == "val"
    assert card.score["protocol"]["output_stride"] == 16


def test_a_trimap_of_data_without_ignored_pixels_is_one_sentence(task: Task, data: Data) -> None:
    training = task(trimap_width=3)
    runner = SimpleNamespace(sanity_checking=False)
    training.trainer = runner
    batch = next(iter(data().val_dataloader()))
    training.validation_step({**batch, "mask": batch["mask"].clamp(max=2)}, 0)
    with pytest.raises(AtrousError, match=r"no labeled pixel of toy val is within trimap_width=3 of an ignored one"):
        training.on_validation_epoch_end()


def test_sanity_check_is_no_score(task: Task, data: Data, trainer: MakeTrainer) -> None:
    """One batch before training must not end up in a checkpoint."""
    training = task()
    seen: list[Any] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            checkpoint: dict[str, Any] = {}
            pl_module.on_save_checkpoint(checkpoint)
            seen.append(checkpoint[Card.KEY]["score"])

    trainer(max_steps=1, num_sanity_val_steps=1, callbacks=[Look()]).fit(training, datamodule=data())
    assert seen == [None]


def test_checkpoint_of_other_classes_is_refused(task: Task, segmentor: Callable[..., Segmentor]) -> None:
    checkpoint: dict[str, Any] = {}
    task().on_save_checkpoint(checkpoint)
    pair = LabelSpace("pair", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(AtrousError, match=r"knows the 3 classes of 'toy', the data set has the 2 of 'pair'"):
        task(segmentor=segmentor(num_classes=2), label_space=pair).on_load_checkpoint(checkpoint)
    renamed = replace(task().label_space, classes=("dark", "bright", "middle"))
    with pytest.raises(AtrousError, match="choose the data set that it was trained on"):
        task(label_space=renamed).on_load_checkpoint(checkpoint)
    with pytest.raises(AtrousError, match="was not written by Atrous"):
        task().on_load_checkpoint({"state_dict": {}})


def test_number_of_classes_has_to_be_that_of_the_data(task: Task, segmentor: Callable[..., Segmentor]) -> None:
    with pytest.raises(AtrousError, match=r"the network has 5 classes, the data set 'toy' has 3"):
        task(segmentor=segmentor(num_classes=5))


def test_wrong_number_of_class_weights_ends_the_run_with_a_sentence(
    task: Task, data: Data, trainer: MakeTrainer
) -> None:
    with pytest.raises(AtrousError, match="2 values for 3 classes"):
        trainer().fit(task(loss=CrossEntropy(class_weights=[1.0, 2.0])), datamodule=data())


@pytest.mark.parametrize("missing", ["loss", "optimizer", "schedule"])
def test_training_needs_its_parts(missing: str, task: Task, data: Data, trainer: MakeTrainer) -> None:
    with pytest.raises(AtrousError, match="training needs a loss, an optimizer and a schedule"):
        trainer().fit(task(**{missing: None}), datamodule=data())


def test_training_needs_a_number_of_steps(task: Task, data: Data, trainer: MakeTrainer) -> None:
    with pytest.raises(AtrousError, match=r"trainer\.max_steps=-1 must be at least 1"):
        trainer(max_steps=-1, max_epochs=1).fit(task(), datamodule=data())


def test_batch_of_one_is_one_sentence(task: Task, data: Data, trainer: MakeTrainer) -> None:
    with pytest.raises(AtrousError, match="batch of one image while its batch norm trains"):
        trainer().fit(task(), datamodule=data(batch_size=1))


def test_compiling_keeps_the_names_of_the_tensors(task: Task) -> None:
    assert list(task(compile=True).state_dict()) == list(task().state_dict())


def test_channels_last_changes_the_layout_and_not_the_result(task: Task, data: Data) -> None:
    fast, plain = task(channels_last=True).eval(), task().eval()
    kernels = [p for p in fast.segmentor.parameters() if p.ndim == 4 and p.shape[-1] > 1 and p.shape[1] > 1]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    image = next(iter(data().val_dataloader()))["image"]
    with torch.no_grad():
        one, other = (each.inference(each.segmentor, each._images(image)) for each in (fast, plain))
    torch.testing.assert_close(one, other)


class _Process:
    """What a task sees of a trainer on one of several processes, whose numbers of labeled pixels are collected."""

    global_rank = global_step = 0
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))

    def __init__(self, pixels: list[Tensor], world_size: int) -> None:
        self.strategy = self
        self.pixels = pixels
        self.world_size = world_size

    def reduce(self, value: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "mean"
        self.pixels.append(value)
        return torch.stack(self.pixels[-self.world_size :]).mean(dim=0)


def gradient(training: SegmentationTask, batch: dict[str, Tensor], *, pixels: list[Tensor], processes: int) -> Tensor:
    """What a training step makes of a batch."""
    process = _Process(pixels, processes)  # the task keeps a weak reference only
    training.trainer = process
    weights = [weight for weight in training.segmentor.parameters() if weight.requires_grad]
    return torch.cat([each.flatten() for each in torch.autograd.grad(training.training_step(batch, 0), weights)])


@pytest.mark.parametrize("resolution", ["labels", "scores"])
@pytest.mark.parametrize("loss", [CrossEntropy(class_weights=[0.5, 2.0, 1.0]), Focal()], ids=["entropy", "focal"])
@pytest.mark.parametrize("ignored", [(0.1, 0.8), (0.2, 1.0)])
def test_two_processes_learn_what_one_does(
    task: Task, monkeypatch: pytest.MonkeyPatch, ignored: tuple[float, float], loss: Loss, resolution: str
) -> None:
    """Gradients are averaged over processes, which would weigh a pixel by how few its neighbors are.

    Every output has labels of its own: of the scores of the half scale every 8th pixel, of the others every 4th.
    """
    torch.manual_seed(0)
    head = partial(FCNHead, feature=-1, dropout=0.0)
    network = MultiScaleSegmentor(
        scales=[1.0, 0.5], backbone=TimmBackbone("test_resnet"), head=head, auxiliary=head, num_classes=3
    )
    images = torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8)
    masks = torch.randint(0, 3, (2, 33, 33), dtype=torch.uint8)
    for mask, share in zip(masks, ignored, strict=True):
        mask[torch.rand(33, 33) < share] = 255
    training = task(segmentor=network, loss=loss, freeze_batch_norm=True, loss_resolution=resolution).train()
    monkeypatch.setattr(training, "log", lambda *_, **__: None)
    alone = gradient(training, {"image": images, "mask": masks}, pixels=[], processes=1)
    halves = [{"image": images[i : i + 1], "mask": masks[i : i + 1]} for i in (0, 1)]
    pixels: list[Tensor] = []  # the first step only tells its number
    _, second, first = (gradient(training, halves[i], pixels=pixels, processes=2) for i in (0, 1, 0))
    torch.testing.assert_close((first + second) / 2, alone)


class _FirstLoss(Callback):
    """Computes the loss of the first step anew, from a copy of the network and the same batch."""

    def __init__(self, compute: Callable[[Segmentor, Any], Tensor]) -> None:
        self.compute = compute

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.expected = float(self.compute(copy.deepcopy(pl_module.segmentor), batch).detach())


def test_the_auxiliary_loss_is_added_with_its_weight(task: Task, data: Data, trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    network = Segmentor(
        backbone=TimmBackbone("test_resnet"),
        head=partial(DeepLabV3Head, aspp_channels=8, dropout=0.0),
        num_classes=3,
        auxiliary=partial(FCNHead, dropout=0.0),
        auxiliary_weight=0.25,
    )

    def sum_of_losses(network: Segmentor, batch: Any) -> Tensor:
        outputs = network(batch["image"], outputs="all")
        assert set(outputs) == {"main", "auxiliary"}
        main, auxiliary = (CrossEntropy()(outputs[name], batch["mask"]) for name in ("main", "auxiliary"))
        return main + 0.25 * auxiliary

    first = _FirstLoss(sum_of_losses)
    runner = trainer(max_steps=1, callbacks=[first])
    runner.fit(task(segmentor=network), datamodule=data())
    assert float(runner.callback_metrics["train/loss"]) == pytest.approx(first.expected, rel=1e-5)


def test_loss_at_the_resolution_of_the_scores(
    task: Task, data: Data, trainer: MakeTrainer, segmentor: Callable[..., Segmentor]
) -> None:
    """Images of 33 pixels have scores on every 4th: labels are those of the pixels that they lie on (v1 §3.1)."""

    def loss_of_scores(network: Segmentor, batch: Any) -> Tensor:
        loss: Tensor = CrossEntropy()(network(batch["image"], outputs="scores")["main"], batch["mask"][:, ::4, ::4])
        return loss

    first = _FirstLoss(loss_of_scores)
    runner = trainer(max_steps=1, callbacks=[first])
    runner.fit(task(segmentor=segmentor(dropout=0.0), loss_resolution="scores"), datamodule=data())
    assert float(runner.callback_metrics["train/loss"]) == pytest.approx(first.expected, rel=1e-5)
    with pytest.raises(AtrousError, match=r"task\.loss_resolution='pixels' is unknown; choose labels or scores"):
        task(loss_resolution="pixels")


def test_only_the_named_parts_learn(task: Task, data: Data, trainer: MakeTrainer) -> None:
    training = task(train_only=["head.classifier"])
    before = {name: tensor.clone() for name, tensor in training.segmentor.state_dict().items()}
    trainer(max_steps=3).fit(training, datamodule=data())  # with a validation in between
    changed = {name for name, tensor in training.segmentor.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {"head.classifier.weight", "head.classifier.bias"}
    with pytest.raises(AtrousError, match=r"task.train_only names 'heads'.*parts are .*head.aspp"):
        task(train_only=["heads"])


@pytest.mark.parametrize(
    ("device", "deterministic", "warned"), [("cuda", True, 1), ("cuda", False, 0), ("cpu", True, 0)]
)
def test_deterministic_dilated_convolutions_are_warned_of(
    task: Task,
    trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    deterministic: bool,
    warned: int,
) -> None:
    training = task()
    training.trainer = trainer()
    monkeypatch.setattr(type(training), "device", property(lambda self: torch.device(device)))
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.on_fit_start()
    assert sum("10 to 80 times slower" in str(each.message) for each in caught) == warned
