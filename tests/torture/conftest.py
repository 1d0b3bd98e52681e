"""Faults, tried on purpose: ``make torture``. The last line says how many were survived."""

from __future__ import annotations

import pytest

_counts = {"passed": 0, "failed": 0}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="moments at which a training is killed")
    parser.addoption("--store", action="store_true", help="store the losses of golden curves instead of comparing them")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _counts["failed"] += 1
    elif report.when == "call" and report.passed:
        _counts["passed"] += 1


def pytest_unconfigure(config: pytest.Config) -> None:
    alone = config.getoption("--kills", None) is not None
    if alone and not hasattr(config, "workerinput"):  # in the process that collects what the others report
        print(f"\n{_counts['passed']} passed, {_counts['failed']} failed")
