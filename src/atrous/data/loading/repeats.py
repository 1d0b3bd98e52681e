"""How often a pass over the training data draws each image: more often where its classes are rare or hard."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError


def image_repeats(
    occurs: NDArray[np.bool_],
    space: LabelSpace,
    *,
    threshold: float | None = None,
    classes: Mapping[str, int] | None = None,
) -> list[float]:
    """Average number of draws of each image per pass.

    An image is drawn as often as the most demanding of its classes requires. With a threshold ``t``, a class that
    occurs in a share ``f`` of the images asks for ``max(1, √(t / f))`` draws (repeat factors of LVIS, Gupta et al.
    2019). ``classes`` names classes and their draws: DeepLabv3 (§4.1) doubles images of bicycles, chairs, tables,
    potted plants and sofas.

    Args:
        occurs: Whether a class is in an image: images×classes.
        space: Names of the classes.
        threshold: Share of the images below which a class counts as rare, in (0, 1]; ``None`` for no such rule.
        classes: Draws by class name, at least 1; classes left out ask for one.

    Returns:
        One number per image, at least 1.

    Raises:
        AtrousError: A value is out of range, or a class is unknown.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise AtrousError(f"data.repeat_threshold is a share of the images in (0, 1], got {threshold}")
    wanted = np.ones(space.num_classes)
    for name, draws in (classes or {}).items():
        if name not in space.classes:
            near = difflib.get_close_matches(name, space.classes, n=3, cutoff=0.4) or space.classes
            raise AtrousError(f"data.repeat_classes: {space.name!r} has no class {name!r}; similar: {', '.join(near)}")
        if draws < 1:
            raise AtrousError(f"data.repeat_classes: {name!r} is to be drawn {draws} times; give 1 or more")
        wanted[space.classes.index(name)] = draws
    if threshold is not None:
        share = occurs.mean(axis=0)
        wanted = np.maximum(wanted, np.sqrt(threshold / np.maximum(share, 1 / len(occurs))))
    draws_of_image: list[float] = np.where(occurs, wanted, 1.0).max(axis=1).tolist()
    return draws_of_image
