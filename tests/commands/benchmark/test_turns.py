"""Contestants take turns, and the machine is described."""

from __future__ import annotations

import time

import torch

from atrous.commands.benchmark.machine import describe, lines, measure
from atrous.commands.benchmark.turns import Timing, take_turns


def test_one_after_the_other() -> None:
    calls: list[str] = []
    timings = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4)
    assert calls == ["a", "b"] * 5  # the first round does not count
    assert {timing.rounds for timing in timings.values()} == {4}


def test_times_are_milliseconds() -> None:
    timings = take_turns({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.02)}, rounds=5)
    assert 2 <= timings["short"].median < 20 <= timings["long"].median < 200
    assert timings["long"].low <= timings["long"].median <= timings["long"].high


def test_rounds_end_after_a_time_but_not_before_the_third() -> None:
    timings = take_turns({"a": lambda: time.sleep(0.01)}, rounds=1000, seconds=0.001)
    assert timings["a"].rounds == 3


def test_how_a_timing_reads() -> None:
    assert str(Timing(12.34, 11.0, 13.96, 5)) == "12.3 (11.0-14.0)"
    assert str(Timing(123.4, 110.4, 139.6, 5)) == "123 (110-140)"


def test_the_machine() -> None:
    machine = {**describe(), **measure()}
    assert machine["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert machine["cores"] >= 1
    assert min(machine[name] for name in ("float32_gflops", "bfloat16_gflops", "stream_gbs")) > 0
    first, second, third = lines(machine)
    assert machine["processor"] in first
    assert "torch" in second
    assert "GFLOP/s" in third
