"""The size that a protocol gives to every image."""

from __future__ import annotations

from collections.abc import Sequence

from atrous.errors import AtrousError


def fixed_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels, from both or from one number for both.

    Raises:
        AtrousError: Not one or two positive numbers.
    """
    values = (size, size) if isinstance(size, int) else tuple(int(extent) for extent in size)
    if len(values) != 2 or min(values) < 1:
        raise AtrousError(f"inference.size={size} must be one or two positive numbers of pixels")
    return values[0], values[1]
