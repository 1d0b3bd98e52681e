"""A network by its name, for ``atrous.create``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import timm

from atrous.composition.compose import compose
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError, require_range
from atrous.models import Segmentor
from atrous.places import choices, quoted
from atrous.signatures import require_type


def create_segmentor(
    model: str,
    backbone: str,
    *,
    num_classes: int,
    output_stride: int | None,
    pretrained: bool | str,
    overrides: Sequence[str],
) -> Segmentor:
    """Build a network from the configuration files; see ``atrous.create``."""
    for name, value, expected in (
        ("model", model, str),
        ("backbone", backbone, str),
        ("num_classes", num_classes, int),
        ("output_stride", output_stride, int | None),
        ("pretrained", pretrained, bool | str),
        ("overrides", list(overrides), list[str]),
    ):
        require_type(name, value, expected)
    require_range("num_classes", num_classes, at_least=1)
    _require_known("model", model, choices("model"))
    words = [f"model={model}", *_backbone(backbone), f"backbone.pretrained={_said(pretrained)}", *overrides]
    if output_stride is not None:
        words.append(f"backbone.output_stride={output_stride}")
    with compose("train", words) as config:
        return build_segmentor(config.model, num_classes)


def _backbone(name: str) -> list[str]:
    known = choices("backbone")
    if name not in known and timm.is_model(name):
        return ["backbone=timm", f"backbone.name={name}"]
    _require_known("backbone", name, known)
    return [f"backbone={name}"]


def _require_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise AtrousError(f"there is no {what} {name!r}; {'similar' if near else 'valid'}: {', '.join(near or known)}")


def _said(pretrained: bool | str) -> str:
    if isinstance(pretrained, bool):
        return str(pretrained).lower()
    return quoted(pretrained)
