"""Search for an architecture: it and the weights learn in turn from two halves of the data (Auto-DeepLab §3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from atrous.errors import AtrousError, require_range
from atrous.models.nas import Supernet
from atrous.models.nas.architecture import architecture_alone
from atrous.training.evaluation import Batch
from atrous.training.task import SegmentationTask

_KEY = "architecture_optimizer"
_SECOND_PASS = 1


class ArchitectureSearch(SegmentationTask):
    """First-order alternation: a step of alpha and beta on one half, then a step of the weights on the other.

    Alpha and beta learn as soon as batches come from the second half, which is after the weights have warmed up. Their
    gradients are asked for alone, so the step costs no gradients of weights, and several processes average them.

    Args:
        strategy: ``gradient``, or ``random``: alpha and beta stay where all is equally likely, for comparison.
        architecture_learning_rate: Adam's, for alpha and beta.
        architecture_weight_decay: Likewise.
        options: Those of ``SegmentationTask``.

    Raises:
        AtrousError: The network is none that can be searched, or a number is out of range.

    Attributes:
        phase: What has learned in the latest step.
        supernet: The network that is searched.
    """

    phase: str = ""

    def __init__(
        self,
        *,
        strategy: Literal["gradient", "random"] = "gradient",
        architecture_learning_rate: float = 3e-3,
        architecture_weight_decay: float = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        require_range("bilevel.architecture_learning_rate", architecture_learning_rate, above=0)
        require_range("bilevel.architecture_weight_decay", architecture_weight_decay, at_least=0)
        if strategy not in ("gradient", "random"):
            raise AtrousError(f"search.strategy={strategy} is unknown; choose gradient or random")
        if strategy == "random" and getattr(self.segmentor.backbone, "sampling", "gumbel") == "all":
            raise AtrousError("search.strategy=random computes one network a step: set search.sampling=gumbel")
        if not isinstance(self.segmentor.backbone, Supernet):
            raise AtrousError(
                "only a Supernet can be searched: leave model.backbone as it is in conf/search_auto_deeplab.yaml"
            )
        self.supernet: Supernet = self.segmentor.backbone
        self._logits = [self.supernet.architecture.alpha, self.supernet.architecture.beta]
        self._all_have_gradients = self.supernet.sampling == "all"
        self._strategy = strategy
        self._rate, self._decay = architecture_learning_rate, architecture_weight_decay
        self._adam: torch.optim.Adam | None = None
        self._adam_state: Mapping[str, Any] | None = None
        if strategy == "random":
            for parameter in self._logits:
                parameter.data.zero_()

    def on_fit_start(self) -> None:
        """Refuse settings under which the two kinds of steps would not alternate.

        Raises:
            AtrousError: Gradients are accumulated or scaled, or processes would compute different networks.
        """
        super().on_fit_start()
        if self.trainer.accumulate_grad_batches != 1:
            raise AtrousError("a search takes one step of each kind a batch: set trainer.accumulate_grad_batches=1")
        if str(self.trainer.precision).startswith("16"):
            raise AtrousError("a search does not scale gradients: set trainer.precision=bf16-mixed or 32-true")
        if self.trainer.world_size > 1 and self.supernet.sampling != "all":
            raise AtrousError(
                "every process would sample another network: set search.sampling=all, or search on one device"
            )

    def on_train_start(self) -> None:
        """Prepare the architecture's optimizer, with the state of the search that is resumed."""
        self._adam = torch.optim.Adam(self._logits, lr=self._rate, weight_decay=self._decay)
        if self._adam_state is not None:
            self._adam.load_state_dict(dict(self._adam_state))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """A step of the architecture, once it learns, and the loss for one of the weights."""
        self.phase = "weights of random networks" if self._strategy == "random" else "weights"
        if batch["architecture"] is not None and self._strategy == "gradient":
            self.phase = "weights and architecture"
            self._step_architecture(batch["architecture"])
        return super().training_step(batch["weights"], batch_idx)

    def _step_architecture(self, batch: Batch) -> None:
        assert self._adam is not None
        self._seed_step(_SECOND_PASS)
        with architecture_alone(self.segmentor, self.supernet.architecture):
            loss = self._loss_of(batch)
            gradients = torch.autograd.grad(loss, self._logits, allow_unused=True)
        for parameter, gradient in zip(self._logits, gradients, strict=True):
            found = torch.zeros_like(parameter) if gradient is None else gradient
            mean = self.trainer.strategy.reduce(found, reduce_op="mean")
            assert isinstance(mean, Tensor)
            parameter.grad = mean
        self._adam.step()
        self._adam.zero_grad()
        self.log("train/architecture_loss", loss.detach(), on_step=True, on_epoch=False, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of the architecture's optimizer."""
        super().on_save_checkpoint(checkpoint)
        if self._adam is not None:
            checkpoint[_KEY] = self._adam.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep that state until there is an optimizer."""
        super().on_load_checkpoint(checkpoint)
        self._adam_state = checkpoint.get(_KEY)
