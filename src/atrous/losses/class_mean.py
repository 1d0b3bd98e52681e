"""Mean over classes, for losses that look at one class's region at a time."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from atrous.errors import AtrousError

Classes = Literal["present", "all"]


def require_classes(classes: str) -> None:
    """Raise AtrousError where the option ``classes`` is unknown."""
    if classes not in ("present", "all"):
        raise AtrousError(f"loss.classes={classes!r} is unknown; choose present or all")


def mean_over_classes(losses: Tensor, present: Tensor, counted: Tensor, *, classes: Classes) -> Tensor:
    """Mean over classes, then over those groups of pixels that have any pixel to count.

    Args:
        losses: G×C, one loss for every group of pixels (an image, or the whole batch) and class; classes that occur in
            no group may be left out with ``present``.
        present: G×C, whether the class occurs in the group's labels.
        counted: G, whether any pixel of the group is not ignored.
        classes: ``present`` for the classes that occur in the group, ``all`` for every class.

    Returns:
        A scalar; zero where no group has a pixel to count.
    """
    chosen = present if classes == "present" else counted.unsqueeze(1).expand_as(present)
    of_groups = losses.masked_fill(~chosen, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
    return of_groups.sum() / counted.sum().clamp(min=1)
