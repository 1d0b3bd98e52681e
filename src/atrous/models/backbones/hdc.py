"""Hybrid dilated convolution: rate schedules without gridding, and the rule that finds it (HDC/DUC, arXiv 1702.08502).

A stack of atrous convolutions whose rates share a factor, or grow too fast, leaves holes: input pixels that no path
connects to the output pixel ("gridding", §3.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from atrous.errors import AtrousError

OUTPUT_STRIDE = 8
"""The rates below, as the authors', are absolute rates at this output stride."""

_SAWTOOTH = (1, 2, 5, 9)
_FIRST = 2
_LAST_STAGE = (5, 9, 17)


def hdc_rates(units: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The authors' schedule ("dilation-bigger") for the last two stages of a ResNet of any depth.

    The stage before the last repeats 1, 2, 5, 9 and begins with 2 instead of 1; the last one has 5, 9, 17. A ResNet-101
    gets 2, 2, 5, 9, 1, 2, 5, 9, …, 1, 2, 5 and 5, 9, 17.

    Args:
        units: Number of units of the two stages, by name, in order.

    Raises:
        AtrousError: Not two stages.
    """
    if len(units) != 2:
        raise AtrousError(f"the HDC schedule is for the last two stages of a ResNet, got {', '.join(units) or 'none'}")
    (before, before_units), (last, last_units) = units.items()
    sawtooth = [_FIRST, *itertools.islice(itertools.cycle(_SAWTOOTH[1:] + _SAWTOOTH[:1]), before_units - 1)]
    return {
        before: tuple(sawtooth[:before_units]),
        last: tuple(itertools.islice(itertools.cycle(_LAST_STAGE), last_units)),
    }


def max_distances(rates: Sequence[int], kernel: int = 3) -> list[int]:
    """The M_i of §3.2, for each layer the largest distance between two non-zero weights.

    ``M_n = r_n`` and, from the last layer to the first,
    ``M_i = max(M_{i+1} − 2 r_i, M_{i+1} − 2 (M_{i+1} − r_i), r_i)``.

    Args:
        rates: Atrous rates of consecutive convolutions, first to last.
        kernel: Their kernel size; the rule itself does not depend on it, what it must not exceed does.

    Raises:
        AtrousError: A rate below 1, or a kernel that is not odd and at least 3.
    """
    _require_rates(rates, kernel)
    distances = [rates[-1]]
    for rate in reversed(rates[:-1]):
        after = distances[0]
        distances.insert(0, max(after - 2 * rate, after - 2 * (after - rate), rate))
    return distances


def keeps_the_rule(rates: Sequence[int], kernel: int = 3) -> bool:
    """Whether ``M_2 ≤ kernel`` (§3.2): [1, 2, 5] does with a kernel of 3, [1, 2, 9] does not."""
    distances = max_distances(rates, kernel)
    return len(distances) < 2 or distances[1] <= kernel


def holes(rates: Sequence[int], kernel: int = 3) -> tuple[int, ...]:
    """Distances from the center, along an axis, of the pixels inside the field of view that no path reaches.

    Exact, by following every path: the offsets of a stack are the sums of one tap of each layer. Taps are symmetric, so
    distances are given once; two-dimensional kernels reach what both axes reach.

    Args:
        rates: Atrous rates of consecutive convolutions; their order makes no difference.
        kernel: Their kernel size.
    """
    _require_rates(rates, kernel)
    half = kernel // 2
    reach = half * sum(rates)
    # bit i stands for offset i − reach
    reached = 1 << reach
    for rate in rates:
        reached = _spread(reached, rate, half)
    return tuple(distance for distance in range(reach + 1) if not reached >> (reach + distance) & 1)


def share_of_pixels_used(rates: Sequence[int], kernel: int = 3) -> float:
    """Share of the pixels of the two-dimensional field of view that reach the output pixel.

    Two layers of rate 2 use 25 of 81.
    """
    reach = kernel // 2 * sum(rates)
    missing = sum(1 if distance == 0 else 2 for distance in holes(rates, kernel))
    return float(((2 * reach + 1 - missing) / (2 * reach + 1)) ** 2)


def _spread(reached: int, rate: int, half: int) -> int:
    spread = 0
    for tap in range(-half, half + 1):
        spread |= reached << tap * rate if tap >= 0 else reached >> -tap * rate
    return spread


def _require_rates(rates: Sequence[int], kernel: int) -> None:
    if not rates or min(rates) < 1:
        raise AtrousError(f"atrous rates must be positive whole numbers, got {list(rates)}")
    if kernel < 3 or kernel % 2 == 0:
        raise AtrousError(f"a kernel of {kernel} cannot use atrous rates; give an odd one of 3 or more")


def describe_holes(rates: Sequence[int], kernel: int = 3) -> str | None:
    """One sentence about the gridding of a schedule, or ``None`` where there is none."""
    missing = holes(rates, kernel)
    if not missing:
        return None
    return (
        f"the atrous rates {_short(rates)} leave {1 - share_of_pixels_used(rates, kernel):.0%} of their field of view "
        f"unused (gridding): rates without a common factor, such as 1, 2, 5, see every pixel"
    )


def _short(rates: Sequence[int]) -> str:
    shown: Iterator[str] = map(str, rates if len(rates) <= 12 else [*rates[:6], "…", *rates[-5:]])
    return ", ".join(shown)
