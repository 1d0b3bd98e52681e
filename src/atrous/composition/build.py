"""Building the object that a node of the configuration describes."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any, cast

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from atrous.errors import AtrousError, first_line
from atrous.signatures import BUILT, require_argument, require_type


def build(config: Any, **objects: Any) -> Any:
    """Instantiate a node with plain Python values, and with objects that no configuration can hold.

    Raises:
        AtrousError: A part rejected its values, or does not accept one of them.
    """
    if not isinstance(config, Mapping):
        raise AtrousError(f"nothing can be built from {config}: give a node with a _target_")
    config = config if OmegaConf.is_config(config) else OmegaConf.create(dict(config))
    _checked(config)
    try:
        if not objects:
            return hydra.utils.instantiate(config, _convert_="all")
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)(**objects)
    except _refusals() as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, AtrousError):
            raise cause from None
        if isinstance(cause, _refusals()):
            raise AtrousError(f"{config.get('_target_')} does not take these values: {first_line(cause)}") from error
        raise


def _refusals() -> tuple[type[Exception], ...]:
    """Errors by which a part says that it does not take a value."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # takes seconds

    return (ArithmeticError, InstantiationException, MisconfigurationException, RuntimeError, TypeError, ValueError)


def _checked(node: Any) -> Any:
    """The plain value of a node, with ``BUILT`` for what it describes, once everything in it fits the signatures.

    Raises:
        AtrousError: A value does not have its parameter's type, or no parameter takes it.
    """
    if isinstance(node, ListConfig):
        return [_checked(_settled(node, index)) for index in range(len(node))]
    if not isinstance(node, DictConfig):
        return node._value()
    children = {str(name): _settled(node, name) for name in node}
    values = {name: _checked(child) for name, child in children.items()}
    if "_target_" not in values:
        return values
    try:
        target = pkgutil.resolve_name(values["_target_"])
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        key = children["_target_"]._get_full_key("")
        raise AtrousError(f"{key}={values['_target_']} cannot be built: {error}") from error
    for name, value in values.items():
        if not name.startswith("_"):
            require_argument(target, name, value, key=children[name]._get_full_key(""))
    return BUILT


def _settled(node: Any, name: Any) -> Any:
    """A child of a node, or the one that it refers to, whose key is the one to change."""
    return node._get_node(name)._maybe_dereference_node()


def require_types(config: DictConfig, types: Mapping[str, Any]) -> None:
    """Check values that no constructor takes against annotations, by key.

    Raises:
        AtrousError: A value is of another type.
    """
    for key, expected in types.items():
        value = OmegaConf.select(config, key, throw_on_missing=True)
        require_type(key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, expected)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved data."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=False))
