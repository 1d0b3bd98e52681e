"""Training, validation and test of a Segmentor under Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from atrous.checkpoints.card import Card, require_same_classes, segmentor_weights
from atrous.errors import AtrousError, require_range
from atrous.geometry import size_of
from atrous.losses import Loss
from atrous.models import Segmentor
from atrous.models.atrous_convolution import compute_by, has_atrous_convolution
from atrous.places import command, setting
from atrous.training.batch_norm import freeze_batch_norm, hold_statistics
from atrous.training.evaluation import LOGGED, Batch, EvaluationTask
from atrous.training.full_size_loss import full_size_losses
from atrous.training.fully_sharded import local, whole
from atrous.training.fused_optimizer import build_optimizer
from atrous.training.kept_batch import KeptBatch, Statistics
from atrous.training.parameter_groups import parameter_groups
from atrous.training.parameter_groups import train_only as _train_only

_KEPT = 3
"""Batches that a process keeps; each comes with the weights."""
_NAMED = 4
_SKIPPED = "skipped_batches"
_STEPS_BETWEEN_LOOKS = 10
"""Optimizer steps after which the weights are looked at for overflow."""


class SegmentationTask(EvaluationTask):
    """Joins network, loss, optimizer, schedule and score.

    Args:
        segmentor: The network.
        loss: Called with logits B×C×H×W and labels B×H×W.
        optimizer: Called with parameter groups.
        schedule: Called with the number of steps of the run; gives the factor for each step.
        learning_rate: Base learning rate, the backbone's.
        weight_decay: Weight decay of the convolutions.
        head_factor: Learning rate of new layers over the backbone's.
        bias_factor: Learning rate of biases over that of their layer's weights; 2 in DeepLabv1 and v2.
        depthwise_decay: Whether filters of depthwise convolutions decay; not in the authors' code for DeepLabv3+.
        loss_resolution: ``labels`` compares logits with labels at full resolution (DeepLabv3 §4.1), ``scores``
            compares scores with labels shrunk to their size (DeepLabv1 §3.1, v2).
        train_only: Name prefixes of the parameters that learn; ``None`` for all. Batch norms of other
            parts keep their statistics.
        freeze_batch_norm: Keep statistics, scale and shift of every batch norm.
        atrous_convolution: How atrous convolutions are computed: ``auto`` for the fastest way that is right, or one of
            ``atrous.models.atrous_convolution.WAYS``.
        checkpoint_activations: Compute activations again on the way back instead of keeping them: less memory for
            more time, and the same results.
        compile: Compile the network.
        not_finite: Folder for batches whose loss is infinite or not a number; ``None`` to keep none.
        skip_not_finite: How many such batches a run leaves out before it stops. Each is a step without a gradient.
        seed: Seeds dropout, together with the step.
        recipe: The configuration as plain data; kept in checkpoints.
        overrides: Command-line overrides; kept in checkpoints.
        evaluation: Arguments of ``EvaluationTask``.

    Raises:
        AtrousError: The network has another number of classes than the data set, a value is impossible, or the
            optimizer sets values that belong to the parameter groups.

    """

    segmentor: Segmentor

    def __init__(
        self,
        *,
        segmentor: Segmentor,
        loss: Loss | None = None,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer] | None = None,
        schedule: Callable[[int], Callable[[int], float]] | None = None,
        learning_rate: float = 0.007,
        weight_decay: float = 4e-5,
        head_factor: float = 10.0,
        bias_factor: float = 1.0,
        depthwise_decay: bool = True,
        loss_resolution: Literal["labels", "scores"] = "labels",
        train_only: Sequence[str] | None = None,
        freeze_batch_norm: bool = False,
        atrous_convolution: str = "auto",
        checkpoint_activations: bool = False,
        compile: bool = False,
        not_finite: str | None = None,
        skip_not_finite: int = 0,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        **evaluation: Any,
    ) -> None:
        super().__init__(segmentor=segmentor, **evaluation)
        self.loss = loss
        self._optimizer = optimizer
        self._schedule = schedule
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._head_factor = head_factor
        self._freeze_batch_norm = freeze_batch_norm
        self._seed = seed
        self._recipe = dict(recipe or {})
        self._overrides = tuple(overrides)
        self._all_have_gradients = True
        self._not_finite = None if not_finite is None else Path(not_finite)
        self._may_skip = skip_not_finite
        self._skipped = 0
        self._statistics: Statistics | None = None
        require_range("task.skip_not_finite", skip_not_finite, at_least=0)
        require_range("task.learning_rate", learning_rate, above=0)
        require_range("task.weight_decay", weight_decay, at_least=0)
        require_range("task.head_factor", head_factor, at_least=0)
        require_range("task.bias_factor", bias_factor, at_least=0)
        for name, ours in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
            if name in getattr(optimizer, "keywords", {}):
                raise AtrousError(f"optimizer.{name} has no effect, every parameter group has its own: set task.{ours}")
        if loss_resolution not in ("labels", "scores"):
            raise AtrousError(f"task.loss_resolution={loss_resolution!r} is unknown; choose labels or scores")
        if loss_resolution == "scores" and not segmentor.extend:
            raise AtrousError(
                "without model.extend scores do not lie on whole pixels, so the loss cannot be taken on them: set "
                "task.loss_resolution=labels"
            )
        self._bias_factor = bias_factor
        self._depthwise_decay = depthwise_decay
        self._loss_resolution = loss_resolution
        self._learning = train_only
        if train_only is not None:
            _train_only(segmentor, train_only)
        if freeze_batch_norm or train_only is not None:
            self.train(self.training)
        compute_by(self.segmentor, atrous_convolution)
        if checkpoint_activations and compile:
            raise AtrousError(
                "task.checkpoint_activations=true has no effect on a compiled network, whose compiler decides what is "
                "computed again: set task.compile=false or task.checkpoint_activations=false"
            )
        if checkpoint_activations:
            self.segmentor.checkpoint_activations()
        if compile:
            self.segmentor.compile()

    def train(self, mode: bool = True) -> SegmentationTask:
        """Switch to training; a frozen batch norm stays in evaluation."""
        super().train(mode)
        if self._freeze_batch_norm:
            freeze_batch_norm(self.segmentor)
        if self._learning is not None:
            hold_statistics(self.segmentor, learning=self._learning)
        return self

    def on_fit_start(self) -> None:
        """Refuse settings that would waste the training, and warn of one that slows it down.

        Raises:
            AtrousError: A callback monitors what is never measured.
        """
        self._require_known_monitors()
        deterministic = torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
        if self.device.type == "cuda" and deterministic and has_atrous_convolution(self.segmentor):
            rank_zero_warn(
                "deterministic algorithms make dilated convolutions on a GPU 10 to 80 times slower (PyTorch issue "
                "28777): set trainer.deterministic=false unless every bit of a run must come again"
            )

    def configure_optimizers(self) -> Any:
        """Optimizer over parameter groups, with a schedule that is updated at every step."""
        if self.loss is None or self._optimizer is None or self._schedule is None:
            raise AtrousError("training needs a loss, an optimizer and a schedule")
        steps = self.trainer.max_steps
        require_range("trainer.max_steps", steps, at_least=1)
        epochs = self.trainer.max_epochs
        if epochs != -1:
            raise AtrousError(
                f"trainer.max_epochs={epochs} could end a run in the middle of its schedule: leave it at -1 and set "
                "trainer.max_steps"
            )
        require_range("trainer.accumulate_grad_batches", self.trainer.accumulate_grad_batches, at_least=1)
        require_range("trainer.gradient_clip_val", self.trainer.gradient_clip_val, at_least=0)
        groups = parameter_groups(
            self.segmentor,
            self._learning_rate,
            weight_decay=self._weight_decay,
            head_factor=self._head_factor,
            bias_factor=self._bias_factor,
            depthwise_decay=self._depthwise_decay,
        )
        try:
            optimizer = build_optimizer(
                self._optimizer,
                groups,
                scales_gradients=str(self.trainer.precision).startswith("16"),
                all_have_gradients=self._all_have_gradients,
            )
        except ValueError as error:
            raise AtrousError(f"the optimizer refused its settings: {error}") from error
        scheduler = LambdaLR(optimizer, self._schedule(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell the network how much of the training is done."""
        self.segmentor.backbone.at_progress(self.global_step / self.trainer.max_steps)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Sum of the losses of all outputs, each at the resolution that the recipe asks for.

        Returns:
            The loss; ``None`` if it is not finite and may be left out.

        Raises:
            AtrousError: It is not finite.
        """
        self._seed_step()
        if self._may_skip:
            self._statistics = self._statistics or Statistics(self.segmentor)
            self._statistics.keep()
        loss = self._loss_of(batch)
        finite = bool(loss.isfinite())  # waits for the device
        if not self._in_all_processes(finite):
            weights = whole(self.state_dict())
            said = "in another process" if finite else self._keep(batch, float(loss.detach()), weights)
            self._leave_out(f"at step {self.global_step} the loss is not finite {said}")
            return None
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False, sync_dist=True)
        return loss

    def _in_all_processes(self, finite: bool) -> bool:
        """Whether something is finite in all processes; asked only where they act on it together."""
        if (self._may_skip and self.trainer.world_size > 1) or self._is_shared_out:
            return self.trainer.strategy.reduce_boolean_decision(finite, all=True)
        return finite

    @property
    def _is_shared_out(self) -> bool:
        """Whether a process has only a share of the weights."""
        return any(isinstance(parameter, DTensor) for parameter in self.segmentor.parameters())

    def _keep(self, batch: Batch, loss: float, weights: dict[str, Tensor]) -> str:
        """Write a batch whose loss is not finite into its folder, and say what was in it, and how to look at it."""
        names = ", ".join(batch["name"][:_NAMED]) + (", …" if len(batch["name"]) > _NAMED else "")
        said = f"but {loss} (images {names})"
        if self._not_finite is None or self._skipped >= _KEPT:
            return said
        path = self._not_finite / f"step_{self.global_step:06d}_process_{self.global_rank}.pt"
        KeptBatch(
            card=self._card(),
            weights=weights,
            image=batch["image"].cpu(),
            mask=batch["mask"].cpu(),
            names=tuple(batch["name"]),
            step=self.global_step,
            seed=torch.initial_seed(),
            loss=loss,
        ).write(path)
        replay = f"{command('prepare')} task=replay {setting('replay.path', path)}"
        return f"{said}; `{replay}` computes it again and says where it goes wrong"

    def _leave_out(self, said: str) -> None:
        """Count a step without a gradient, and undo what it did to the statistics.

        Raises:
            AtrousError: No more may be left out.
        """
        if self._skipped >= self._may_skip:
            raise AtrousError(
                f"training has diverged: {said}; lower task.learning_rate={self._learning_rate}, set "
                f"trainer.gradient_clip_val, or leave such batches out with task.skip_not_finite={self._skipped + 10}"
            )
        self._skipped += 1
        assert self._statistics is not None
        self._statistics.restore()
        self.log("train/skipped", float(self._skipped), on_step=True, on_epoch=False, rank_zero_only=True)
        print(f"left out, {self._skipped} of at most {self._may_skip}: {said}", flush=True)

    def _seed_step(self, stream: int = 0) -> None:
        """Let dropout depend on seed, batch and rank alone: a resumed run draws what the uninterrupted one would have.

        Args:
            stream: Other numbers for another pass of the same step.
        """
        place = (self._seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank)
        torch.manual_seed(hash((*place, stream) if stream else place) & (2**63 - 1))

    def _loss_of(self, batch: Batch) -> Tensor:
        of_outputs, labels = self.losses(batch, step=self.global_step)
        losses = [self.segmentor.loss_weights[name] * each for name, each in of_outputs.items()]
        return (torch.stack(losses) * self._shares_of_pixels(labels.values())).sum()  # one weight an output

    def losses(self, batch: Batch, *, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of all outputs that have one, and the labels that they were compared with, by the outputs' names.

        Args:
            batch: Images and masks.
            step: Optimizer steps before it.
        """
        image, mask = self._images(batch["image"]), batch["mask"]  # uint8 B×3×H×W and B×H×W
        assert self.loss is not None
        self.loss.at_step(step)
        if self._loss_resolution == "labels":
            of_outputs = full_size_losses(self.segmentor, self.loss, image, mask)
            labels: dict[str, Tensor] = {name: mask for name in of_outputs}
        else:
            scores = self.segmentor(image, outputs="scores")  # by name: B×C×h×w
            labels = {name: self._labels_of(output, mask) for name, output in scores.items()}  # B×h×w
            of_outputs = {name: self.loss(scores[name], labels[name]) for name in scores}
        return of_outputs, labels

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Check now and then that training has not diverged; each check waits for the device."""
        if self.global_step % _STEPS_BETWEEN_LOOKS == 0:
            self._require_finite(self.segmentor.parameters())

    def on_validation_start(self) -> None:
        """Do not score a network that has diverged."""
        if not self.trainer.sanity_checking:
            self._require_finite(self.segmentor.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the weights without the code that made them.

        Raises:
            AtrousError: The weights are no longer finite; nothing is written.
        """
        self._require_finite(self.segmentor.state_dict().values())
        checkpoint[Card.KEY] = self._card().to_dict()
        checkpoint[_SKIPPED] = self._skipped

    def _card(self) -> Card:
        return Card(
            label_space=self.label_space,
            preprocessing=self.segmentor.preprocessing(),
            recipe=self._recipe,
            score=self._score_card,
            overrides=self._overrides,
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint with other classes or of another network before its tensors are copied."""
        card = Card.of(checkpoint)
        require_same_classes(card.label_space, self.label_space)
        weights, own = segmentor_weights(checkpoint), self.segmentor.state_dict()
        misfits = sorted(
            name
            for name in weights.keys() | own.keys()
            if name not in weights or name not in own or weights[name].shape != own[name].shape
        )
        if misfits:
            raise AtrousError(
                f"the checkpoint is of another network: {len(misfits)} tensors are missing, left over or of another "
                f"shape, such as {misfits[0]}"
            )
        self._score_card = card.score
        self._skipped = checkpoint.get(_SKIPPED, 0)

    def _require_known_monitors(self) -> None:
        known = ["train/loss", "val/loss", *(f"val/{name}" for name in LOGGED)]
        known += [f"val/iou/{name}" for name in self.label_space.classes]
        for callback in (*self.trainer.checkpoint_callbacks, *self.trainer.early_stopping_callbacks):
            monitor = getattr(callback, "monitor", None)
            if monitor is not None and monitor not in known:
                raise AtrousError(
                    f"{type(callback).__name__} cannot monitor {monitor!r}; choose one of {', '.join(known)}"
                )

    def _require_finite(self, tensors: Iterable[Tensor]) -> None:
        """Stop a run whose weights have overflowed.

        Raises:
            AtrousError: A value is infinite or not a number.
        """
        finite = [local(tensor).isfinite().all() for tensor in tensors if tensor.is_floating_point()]
        all_finite = bool(torch.stack(finite).all())
        if not (self._in_all_processes(all_finite) if self._is_shared_out else all_finite):
            raise AtrousError(
                f"training has diverged: at step {self.global_step} weights are infinite or not a number, so nothing "
                f"more is saved and earlier checkpoints are kept; lower task.learning_rate={self._learning_rate} "
                "or set trainer.gradient_clip_val"
            )

    def _labels_of(self, output: Tensor, mask: Tensor) -> Tensor:
        """Labels shrunk to the resolution of an output."""
        grid = self.segmentor.backbone.grid
        return grid.shrink_labels(
            mask, size_of(output), extension=self.segmentor.extension, ignore_index=self.label_space.ignore_index
        )

    def _shares_of_pixels(self, labels: Iterable[Tensor]) -> Tensor:
        """Weights that make the mean over processes of each output's mean loss the mean over all its pixels.

        So several processes learn what one would from cross-entropy and the focal loss, which divide by the number of
        labeled pixels. Each process chooses its own hardest pixels and measures its own regions (Dice, Lovász).
        """
        if self.trainer.world_size == 1:
            return torch.ones((), device=self.device)
        pixels = torch.stack([(label != self.label_space.ignore_index).sum().float() for label in labels])
        mean = self.trainer.strategy.reduce(pixels.clone(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        return pixels / mean.where(mean > 0, 1)
