"""Learning-rate policies: the factor on the base learning rate after a number of steps."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atrous.errors import AtrousError


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A decay, multiplied by a linear warm-up.

    Attributes:
        warmup_steps: Steps over which the factor also rises linearly from ``warmup_factor`` to 1; 0 for none.
        warmup_factor: Where it starts.
    """

    warmup_steps: int = 0
    warmup_factor: float = 0.1

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            AtrousError: A value is impossible.
        """
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "must not be negative; 0 is no warm-up")
        _require(0 <= self.warmup_factor <= 1, "warmup_factor", self.warmup_factor, "must be from 0 to 1")

    def __call__(self, total_steps: int) -> Callable[[int], float]:
        """Return the factor as a function of the number of optimizer steps done."""

        def factor(step: int) -> float:
            decay = self.decay(step, total_steps)
            if step >= self.warmup_steps:
                return float(decay)
            return float(decay * (self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps))

        return factor

    @abstractmethod
    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up after ``step`` of ``total_steps`` steps."""


@dataclass(frozen=True, kw_only=True)
class Fixed(Schedule):
    """Always 1."""

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """``gamma^⌊step / step_size⌋`` (DeepLabv1 §5; Caffe's step).

    Attributes:
        gamma: Factor of each step down, 0.1 in the paper.
        step_size: Steps between two of them, 2000 in the paper.
    """

    gamma: float = 0.1
    step_size: int = 2000

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "must be greater than 0 and at most 1")
        _require(self.step_size >= 1, "step_size", self.step_size, "must be a positive number of steps")

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up."""
        return float(self.gamma ** (step // self.step_size))


@dataclass(frozen=True, kw_only=True)
class MultiStep(Schedule):
    """``gamma^(number of milestones reached)`` (Caffe's multistep).

    Attributes:
        milestones: Increasing numbers of steps after which the factor falls.
        gamma: Factor of each fall.
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "must be greater than 0 and at most 1")
        growing = all(before < after for before, after in itertools.pairwise((0, *self.milestones)))
        _require(growing, "milestones", list(self.milestones), "must be positive numbers of steps in growing order")

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up."""
        return float(self.gamma ** sum(step >= milestone for milestone in self.milestones))


@dataclass(frozen=True, kw_only=True)
class Poly(Schedule):
    """``(1 − step / total)^power`` (DeepLabv2 §4.1), or the same curve down to ``end_factor``.

    Attributes:
        power: Exponent, 0.9 in the papers.
        end_factor: Factor at the end of the run, 0 in the papers.
    """

    power: float = 0.9
    end_factor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        _require(self.power > 0, "power", self.power, "must be positive")
        _require(0 <= self.end_factor <= 1, "end_factor", self.end_factor, "must be from 0 to 1")

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up; it stays where it is after the end."""
        left = (1 - min(step, total_steps) / total_steps) ** self.power
        return float(self.end_factor + (1 - self.end_factor) * left)


@dataclass(frozen=True, kw_only=True)
class Inv(Schedule):
    """``(1 + gamma · step)^(−power)`` (Caffe's inv).

    Attributes:
        gamma: How fast it falls, per step; Caffe's LeNet has 0.0001.
        power: Exponent; Caffe's LeNet has 0.75.
    """

    gamma: float = 0.0001
    power: float = 0.75

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        _require(self.gamma > 0, "gamma", self.gamma, "must be positive")
        _require(self.power > 0, "power", self.power, "must be positive")

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up."""
        return float((1 + self.gamma * step) ** -self.power)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``end_factor`` (SGDR without restarts, arXiv 1608.03983 eq. 5).

    Attributes:
        end_factor: Factor at the end of the run; 0.04 is Auto-DeepLab's 0.025 to 0.001.
    """

    end_factor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        _require(0 <= self.end_factor <= 1, "end_factor", self.end_factor, "must be from 0 to 1")

    def decay(self, step: int, total_steps: int) -> float:
        """The factor without warm-up; it stays where it is after the end."""
        left = (1 + math.cos(math.pi * min(step, total_steps) / total_steps)) / 2
        return self.end_factor + (1 - self.end_factor) * left


def _require(valid: bool, key: str, value: object, rule: str) -> None:
    if not valid:
        raise AtrousError(f"scheduler.{key}={value} {rule}")
