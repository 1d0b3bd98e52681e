"""Lovász-softmax: a surrogate of the Jaccard index."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.losses.class_mean import Classes, mean_over_classes, require_classes
from atrous.losses.loss import IGNORE_INDEX, Loss, at_least_float32


class LovaszSoftmax(Loss):
    """Lovász extension of 1 − IoU at the errors of the probabilities, averaged over classes (Berman et al. 2018).

    arXiv 1705.08790 §3.2. With probabilities that are 0 or 1 it is 1 − mIoU.

    Args:
        classes: ``present`` for classes that occur in the labels, ``all`` for every class.
        per_image: Mean over images of one loss each, instead of one loss for the pixels of the whole batch.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: ``classes`` is neither.
    """

    def __init__(
        self, *, classes: Classes = "present", per_image: bool = False, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        require_classes(classes)
        self.classes: Classes = classes
        self.per_image = per_image
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over classes of the extension."""
        groups = len(target) if self.per_image else 1
        labels = target.long().reshape(groups, -1)
        counted = labels != self.ignore_index
        truths = [(labels == index) & counted for index in range(logits.shape[1])]
        present = torch.stack([truth.any(dim=1) for truth in truths], dim=1)
        chosen = list(range(len(truths)))
        if self.classes == "present":
            # One look at the labels saves sorting all pixels for every class that is not in the batch.
            chosen = [index for index, occurs in enumerate(present.any(dim=0).tolist()) if occurs] or [0]
        probabilities = at_least_float32(logits).softmax(dim=1).unbind(dim=1)
        losses = []
        for index in chosen:
            truth, probability = truths[index], probabilities[index].reshape(groups, -1)
            errors = torch.where(truth, 1 - probability, probability).masked_fill(~counted, 0.0)
            losses.append((errors * jaccard_slopes(errors.detach(), truth, counted)).sum(dim=1))
        return mean_over_classes(
            torch.stack(losses, dim=1), present[:, chosen], counted.any(dim=1), classes=self.classes
        )


@torch.no_grad()
def jaccard_slopes(errors: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Slope of the Lovász extension of the Jaccard loss for every error (paper §2).

    With the errors in falling order, the slope of the k-th is what the Jaccard loss grows by when that pixel becomes
    wrong in addition to those before it. A pixel of the class leaves the intersection I, so it grows by 1/U; one of
    another class enters the union U, so that it grows by I/(U − 1) − I/U = I/(U(U − 1)).

    Args:
        errors: G×P, from 0 to 1.
        truth: G×P, whether a pixel is of the class.
        counted: G×P, whether a pixel takes part.

    Returns:
        G×P; zero for pixels that take no part.
    """
    order = errors.masked_fill(~counted, -1.0).argsort(dim=1, descending=True)
    sorted_truth = truth.gather(1, order)
    size = truth.sum(dim=1, keepdim=True)
    intersection = (size - sorted_truth.cumsum(dim=1)).to(errors.dtype)
    union = (size + (~sorted_truth).cumsum(dim=1)).to(errors.dtype)
    # Where the class does not occur, the loss jumps to 1 with the first wrong pixel.
    entering = torch.where(union > 1, intersection / union / (union - 1).clamp(min=1), 1.0)
    slopes = torch.where(sorted_truth, 1 / union.clamp(min=1), entering)
    return torch.zeros_like(errors).scatter(1, order, slopes).masked_fill(~counted, 0.0)
