"""What ends a program with a message that users are meant to read, and what helps to write one."""

from __future__ import annotations

import operator
from collections.abc import Sequence


class AtrousError(ValueError):
    """A mistake in the input, stated in one sentence that names the value and what to do about it.

    Entry points print the sentence and exit with status 2; tracebacks are for bugs only.
    """


class RunInterrupted(BaseException):
    """A signal ended the run at a safe point; the message says where, and how to resume.

    Attributes:
        status: Exit status of the process: 128 plus the number of the signal, as in a shell; 0 in all processes but
            the first, whose status is the one that counts.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TrialPruned(Exception):
    """A run of a search over settings is not worth going on with; the message says what it was compared with."""


class ProcessLost(RuntimeError):
    """Another process of a run has ended, so this one cannot go on; the message says what to do."""


def first_line(error: BaseException) -> str:
    """The first line that an error says, or the name of its class if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def require_range(
    key: str,
    value: float | Sequence[float] | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse a number, or a list with a number, outside a range; not-a-number lies outside every range.

    Args:
        key: The number's name in the configuration.
        value: The number, several numbers, or ``None`` for no number.
        at_least: Smallest valid number.
        above: Valid numbers are greater than this.
        at_most: Largest valid number.
        below: Valid numbers are less than this.

    Raises:
        AtrousError: A number is outside the range.
    """
    numbers = value if isinstance(value, Sequence) else () if value is None else (value,)
    bounds = [
        (words, holds, bound)
        for words, holds, bound in (
            ("at least", operator.ge, at_least),
            ("greater than", operator.gt, above),
            ("at most", operator.le, at_most),
            ("less than", operator.lt, below),
        )
        if bound is not None
    ]
    if not all(holds(number, bound) for number in numbers for _, holds, bound in bounds):
        rule = " and ".join(f"{words} {bound}" for words, _, bound in bounds)
        raise AtrousError(f"{key}={value} must be {rule}{' each' if isinstance(value, Sequence) else ''}")
