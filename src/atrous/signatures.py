"""Checking configuration values against the signatures of their targets, the only place where types are stated."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import math
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from atrous.errors import AtrousError

BUILT = object()
"""Stands for an object that the configuration describes; whether it fits shows when it is built."""

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
_LARGEST = 2**32 - 1  # for seeds; sizes and counts stay far below it, and libraries overflow beyond it


def require_argument(target: Callable[..., Any], name: str, value: object, *, key: str) -> None:
    """Refuse a value that a class or function has no parameter for, or whose type its annotation excludes.

    Args:
        target: What receives the value.
        name: The parameter.
        value: Plain data, or ``BUILT``.
        key: The value's name in the configuration.

    Raises:
        AtrousError: There is no such parameter, or the value has another type.
    """
    known, takes_others = _parameters(target)
    if name in known:
        require_type(key, value, known[name])
    elif not takes_others:
        near = difflib.get_close_matches(name, known, n=3)
        raise AtrousError(f"{key} is unknown; {'similar' if near else 'valid'}: {', '.join(near or known)}")


def require_arguments(target: Callable[..., Any], options: Mapping[str, object], *, of: str) -> None:
    """Check every option of a configuration section against its target.

    Args:
        target: What receives the options.
        options: Plain data by name.
        of: The section's name.

    Raises:
        AtrousError: See ``require_argument``.
    """
    for name, value in options.items():
        require_argument(target, name, value, key=f"{of}.{name}")


def require_type(key: str, value: object, expected: Any) -> None:
    """Refuse a value whose type an annotation excludes; ``true`` is not a whole number, and infinity is not a number.

    Args:
        key: The value's name in the configuration.
        value: Plain data, or ``BUILT``.
        expected: The annotation.

    Raises:
        AtrousError: The value has another type.
    """
    if not _fits(value, expected):
        large = type(value) is int and abs(value) > _LARGEST
        rule = "is too large" if large else f"must be {_in_words(expected)}"
        raise AtrousError(f"{key}={json.dumps(value, ensure_ascii=False, default=str)} {rule}")


@functools.cache
def _parameters(target: Callable[..., Any]) -> tuple[Mapping[str, Any], bool]:
    """Types of the parameters by name, and whether there may be others.

    A constructor hands its ``**kwargs`` on to that of its parent class.
    """
    bases = target.__mro__[:-1] if isinstance(target, type) else ()
    known: dict[str, Any] = {}
    for function in [vars(base)["__init__"] for base in bases if "__init__" in vars(base)] or [target]:
        try:
            parameters, hints = inspect.signature(function).parameters, typing.get_type_hints(function)
        except (NameError, TypeError, ValueError):  # annotated for type checkers alone, or written in C
            return known, True
        known = {name: hints.get(name, Any) for name in parameters if name != "self"} | known
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return known, False
    return known, True


def _fits(value: object, expected: Any) -> bool:
    kind, parts = get_origin(expected) or expected, get_args(expected)
    if value is BUILT or kind in (Any, object):
        return True
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in parts)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in parts)
    if not isinstance(kind, type):  # a type variable and the like
        return True
    if kind is int:
        return type(value) is int and abs(value) <= _LARGEST
    if kind is float:
        return math.isfinite(value) if isinstance(value, float) else _fits(value, int)
    if isinstance(value, str):
        return kind is str or issubclass(kind, os.PathLike)
    if isinstance(value, list):
        each = parts if kind is tuple and Ellipsis not in parts else (*parts, Any)[:1] * len(value)
        return kind in (list, tuple, Sequence) and len(each) == len(value) and all(map(_fits, value, each))
    if isinstance(value, dict):
        return issubclass(kind, Mapping) and all(_fits(each, (*parts, Any, Any)[1]) for each in value.values())
    return kind in type(value).__mro__


def _in_words(expected: Any) -> str:
    kind, parts = get_origin(expected) or expected, get_args(expected)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, parts)))
    if kind is Literal:
        return " or ".join(map(str, parts))
    if kind in (list, tuple, Sequence):
        return f"a list, each value {_in_words((*parts, object)[0])}"
    if kind in (dict, Mapping):
        return f"a mapping, each value {_in_words((*parts, object, object)[1])}"
    if isinstance(kind, type) and issubclass(kind, os.PathLike):
        kind = str
    return _WORDS.get(kind, "a node with a _target_")
