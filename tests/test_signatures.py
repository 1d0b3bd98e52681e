"""Types of signatures against plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Union

import pytest

from atrous.errors import AtrousError, require_range
from atrous.signatures import BUILT, require_argument, require_type


class Named(Protocol):
    name: str


class Parent:
    def __init__(self, width: int, *, rates: Sequence[int] = (1,), name=None) -> None: ...  # type: ignore[no-untyped-def]


class Child(Parent):
    def __init__(self, depth: int | None = None, **rest: Any) -> None: ...


class Open:
    def __init__(self, depth: int = 1, **rest: Any) -> None: ...


class ForTypeCheckers:
    def __init__(self, depth: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, int),
        (-3, int),
        (3, float),
        (0.5, float),
        (True, bool),
        ("a", str),
        ("a", str | Path),
        ("a", Path),
        (None, int | None),
        (3, Union[int, str]),  # noqa: UP007
        ("batch", Literal["batch", "folded"]),
        ([1, 2], Sequence[int]),
        ([], Sequence[int]),
        ([1, 0.5], Sequence[float]),
        ([0.9, 0.999], tuple[float, float]),
        ([1, 2, 3], tuple[int, ...]),
        ([[1], [2]], list[list[int]]),
        ([1, "a"], list),
        ({"a": 1}, Mapping[str, int]),
        ({"a": 1}, dict),
        ({"a": [1]}, Mapping[str, Sequence[int]]),
        ({16: "a"}, Mapping[int, str]),
        (BUILT, Callable[..., Any]),
        (BUILT, int),
        ([BUILT], Sequence[Parent]),
        ("anything", Any),
        ([1], object),
    ],
)
def test_what_fits(value: object, expected: Any) -> None:
    require_type("key", value, expected)


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        (True, int, "key=true must be a whole number"),
        (2.0, int, "key=2.0 must be a whole number"),
        ("2", int, 'key="2" must be a whole number'),
        (10**10, int, "key=10000000000 is too large"),
        (10**400, float, "is too large"),
        (True, float, "key=true must be a number"),
        (math.nan, float, "key=NaN must be a number"),
        (-math.inf, float | None, "key=-Infinity must be a number or null"),
        (1, bool, "key=1 must be true or false"),
        ("no", bool, 'key="no" must be true or false'),
        (3, str, "key=3 must be text"),
        (3, str | Path, "key=3 must be text"),
        (None, int, "key=null must be a whole number"),
        (0, int | Literal["global"], None),
        ("local", int | Literal["global"], 'key="local" must be a whole number or global'),
        (True, Literal[1, "1"], "key=true must be 1"),
        (3, Sequence[int], "key=3 must be a list, each value a whole number"),
        ("ab", Sequence[str], 'key="ab" must be a list, each value text'),
        ([1, "a"], Sequence[int], r'key=\[1, "a"\] must be a list'),
        ([0.9], tuple[float, float], r"key=\[0.9\] must be a list, each value a number"),
        ({"a": 1}, Sequence[int], 'key={"a": 1} must be a list'),
        ([1], Mapping[str, int], r"key=\[1\] must be a mapping, each value a whole number"),
        ({"a": "b"}, Mapping[str, int] | None, 'key={"a": "b"} must be a mapping, each value a whole number or null'),
        ("a", Parent, 'key="a" must be a node with a _target_'),
        (None, Named, "key=null must be a node with a _target_"),
        (3, Callable[..., Any], "key=3 must be a node with a _target_"),
    ],
)
def test_what_does_not_fit(value: object, expected: Any, said: str | None) -> None:
    if said is None:
        require_type("key", value, expected)
        return
    with pytest.raises(AtrousError, match=said):
        require_type("key", value, expected)


def test_arguments_of_constructors() -> None:
    for name, value in (("depth", None), ("width", 3), ("rates", [1]), ("name", object())):
        require_argument(Child, name, value, key=name)
    with pytest.raises(AtrousError, match=r"model.width=null must be a whole number"):
        require_argument(Child, "width", None, key="model.width")
    with pytest.raises(AtrousError, match=r"model.dept is unknown; similar: depth"):
        require_argument(Child, "dept", 3, key="model.dept")
    with pytest.raises(AtrousError, match=r"model.xyz is unknown; valid: width, rates, name, depth"):
        require_argument(Child, "xyz", 3, key="model.xyz")


def test_signatures_that_say_nothing_let_everything_through() -> None:
    require_argument(Open, "anything", "at all", key="key")
    require_argument(ForTypeCheckers, "depth", "word", key="key")
    require_argument(dict, "anything", 3, key="key")
    with pytest.raises(AtrousError, match=r"key=0.5 must be a whole number"):
        require_argument(Open, "depth", 0.5, key="key")


def test_arguments_of_functions() -> None:
    def run(console: object, *, samples: int = 3) -> None: ...

    require_argument(run, "samples", 4, key="augment.samples")
    with pytest.raises(AtrousError, match=r"augment.sample is unknown; similar: samples"):
        require_argument(run, "sample", 4, key="augment.sample")


@pytest.mark.parametrize("value", [0, 1, 0.5, None, [], [0, 1]])
def test_numbers_inside_a_range(value: Any) -> None:
    require_range("key", value, at_least=0, at_most=1)


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (-1, {"at_least": 0}, "key=-1 must be at least 0"),
        (0, {"above": 0}, "key=0 must be greater than 0"),
        (1, {"at_least": 0, "below": 1}, "key=1 must be at least 0 and less than 1"),
        (2, {"above": 0, "at_most": 1}, "key=2 must be greater than 0 and at most 1"),
        (math.nan, {"at_least": 0}, "key=nan must be at least 0"),
        ([3, 0], {"at_least": 1}, r"key=\[3, 0\] must be at least 1 each"),
        ((3, math.nan), {"at_least": 1}, r"key=\(3, nan\) must be at least 1 each"),
    ],
)
def test_numbers_outside_a_range(value: Any, bounds: dict[str, float], said: str) -> None:
    with pytest.raises(AtrousError, match=said):
        require_range("key", value, **bounds)
