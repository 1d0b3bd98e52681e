"""Protocols that give every image one size."""

from __future__ import annotations

from collections.abc import Sequence

from atrous.errors import AtrousError
from atrous.inference.inference import Inference, Wrapper
from atrous.inference.whole_image import WholeImage


class FixedSize(Wrapper):
    """Brings images to one size before another inference.

    Args:
        size: Height and width in pixels, or one number for both.
        inner: What is done with the images then; ``None`` for one pass over the whole of them.

    Raises:
        AtrousError: Not one or two positive numbers, or the inner inference gives images a size too.
    """

    def __init__(self, *, size: int | Sequence[int], inner: Inference | None = None) -> None:
        self.size = positive_size("inference.size", size)
        self.inner = WholeImage() if inner is None else inner
        if isinstance(self.inner, FixedSize):
            raise AtrousError(
                f"{type(self).__name__} and {type(self.inner).__name__} both give images a size: choose one of them"
            )


def positive_size(name: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels, from both or from one number for both.

    Raises:
        AtrousError: Not one or two positive numbers.
    """
    values = (size, size) if isinstance(size, int) else tuple(int(extent) for extent in size)
    if len(values) != 2 or min(values) < 1:
        raise AtrousError(f"{name}={size} must be one or two positive numbers of pixels")
    return values[0], values[1]
