"""Building what a checkpoint describes, from an explicit list of classes.

A checkpoint can come from anywhere. Its recipe names classes and their arguments, so calling what it names runs
whatever its author wants. Here each place in a recipe has a list of the allowed classes; a recipe is checked
as a whole before anything is built, its strings stay strings, and nothing in the file extends the lists. A custom
class needs the caller's consent: the caller names its package.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from atrous.crf import Bilateral, DenseCRF, Gaussian, Kernel, Neighbors
from atrous.data import SearchDataModule, SegmentationDataModule, SegmentationDataset
from atrous.data.augment import Augmentation
from atrous.data.sets import (
    ADE20K,
    VOC2012,
    CamVid,
    Cityscapes,
    CocoVOC,
    Folder,
    Mix,
    PascalContext,
    PersonPart,
    Shapes,
)
from atrous.errors import AtrousError
from atrous.models import MultiScaleSegmentor, Segmentor
from atrous.models.backbones import VGG16, Backbone, TimmBackbone
from atrous.models.heads import (
    ASPPSumHead,
    CascadeHead,
    DeepLabV3Head,
    DeepLabV3PlusHead,
    DUpsamplingHead,
    FCNHead,
    Head,
    LargeFOVHead,
    MMSegDeepLabV3Head,
    MMSegDeepLabV3PlusHead,
    MultiScaleTapsHead,
    SMPDeepLabV3Head,
    SMPDeepLabV3PlusHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)
from atrous.models.nas import AutoDeepLab, SearchHead, Supernet
from atrous.models.upsamplers import Bilinear, Deconvolution, DUpsampling, SubPixel, Upsampler

_DEEPEST = 20


@dataclass(frozen=True)
class _Slot:
    """What is allowed at one place in a recipe.

    Attributes:
        base: What a user's class must derive from.
        classes: The classes that need no trust.
        called_later: Whether the place holds a class that its receiver calls, not an object.
        parts: Arguments that are nodes themselves, with the names of their slots.
        several: Arguments that hold several nodes, by name or in a list, with the names of their slots.
        droppable: Arguments that hold objects of any class; they are left out.
    """

    base: type
    classes: tuple[type, ...]
    called_later: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)
    several: Mapping[str, str] = field(default_factory=dict)
    droppable: tuple[str, ...] = ()

    @functools.cached_property
    def class_of(self) -> dict[str, type]:
        """The classes by their names in recipes, which start with the package that exports them."""
        return {f"{each.__module__.rpartition('.')[0]}.{each.__qualname__}": each for each in self.classes}


_HEADS = (
    ASPPSumHead,
    CascadeHead,
    DUpsamplingHead,
    DeepLabV3Head,
    DeepLabV3PlusHead,
    FCNHead,
    LargeFOVHead,
    MMSegDeepLabV3Head,
    MMSegDeepLabV3PlusHead,
    MultiScaleTapsHead,
    SMPDeepLabV3Head,
    SMPDeepLabV3PlusHead,
    SearchHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)
_DATA_SETS = (ADE20K, CamVid, Cityscapes, CocoVOC, Folder, Mix, PascalContext, PersonPart, Shapes, VOC2012)
_SLOTS: dict[str, _Slot] = {
    "model": _Slot(
        Segmentor,
        (Segmentor, MultiScaleSegmentor),
        parts={"backbone": "backbone", "head": "head", "auxiliary": "head", "upsampler": "upsampler", "crf": "crf"},
    ),
    "backbone": _Slot(Backbone, (AutoDeepLab, Supernet, TimmBackbone, VGG16)),
    "head": _Slot(Head, _HEADS, called_later=True, parts={"head": "head"}),
    "upsampler": _Slot(Upsampler, (Bilinear, Deconvolution, DUpsampling, SubPixel), called_later=True),
    "crf": _Slot(DenseCRF, (DenseCRF,), several={"kernels": "kernel"}),
    "kernel": _Slot(Kernel, (Bilateral, Gaussian, Neighbors)),
    "data": _Slot(
        SegmentationDataModule,
        (SegmentationDataModule, SearchDataModule),
        parts={"dataset": "dataset", "augment": "augment"},
    ),
    "dataset": _Slot(SegmentationDataset, _DATA_SETS, called_later=True, several={"parts": "dataset"}),
    "augment": _Slot(Augmentation, (Augmentation,), droppable=("extra",)),
}


def build_model(recipe: Any, num_classes: int, *, trust: Sequence[str] = ()) -> Segmentor:
    """Build the network of a checkpoint's ``model`` node; its weights come from the state dict.

    Args:
        recipe: The node, as it stands in the file.
        num_classes: Number of classes.
        trust: Packages whose classes the recipe may name besides ours.

    Raises:
        AtrousError: The recipe names something that is not allowed there, or values that do not fit.
    """
    node = _checked(recipe, "model", "model", tuple(trust))
    return cast(Segmentor, _build(without_initial_weights(node), "model", "model", num_classes=num_classes))


def build_data_module(recipe: Any, *, trust: Sequence[str] = (), **values: Any) -> SegmentationDataModule:
    """Build the data set and loaders of a checkpoint's ``data`` node.

    Args:
        recipe: The node, as it stands in the file.
        trust: Packages whose classes the recipe may name besides ours.
        values: Arguments that replace the recipe's.

    Raises:
        AtrousError: See ``build_model``.
    """
    node = _checked(recipe, "data", "data", tuple(trust))
    if node.get("cache", "none") != "none":
        node["cache"] = "none"  # a file from elsewhere does not say where gigabytes are written
    return cast(SegmentationDataModule, _build({**node, **values}, "data", "data"))


def without_initial_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A ``model`` node for a network whose weights all come from a state dict: nothing is looked up or fitted."""
    bare = dict(model)
    if isinstance(backbone := bare.get("backbone"), Mapping) and "pretrained" in backbone:
        bare["backbone"] = {**backbone, "pretrained": False}
    if isinstance(upsampler := bare.get("upsampler"), Mapping) and "weights" in upsampler:
        bare["upsampler"] = {**upsampler, "weights": "fit"}
    return bare


def _checked(node: Any, slot_name: str, where: str, trust: tuple[str, ...]) -> dict[str, Any]:
    """A checked copy of a node: every target is allowed in its place and every value is plain."""
    slot = _SLOTS[slot_name]
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise AtrousError(f"the checkpoint's {where} names no class: it is {_shown(node)}")
    target = node["_target_"]
    trusted = any(target.startswith(f"{package}.") for package in trust)
    if target not in slot.class_of and not trusted:
        raise AtrousError(
            f"the checkpoint names {target!r} as its {where}, which is none of "
            f"{', '.join(each.__name__ for each in slot.classes)}, so nothing was built: if it is a class of "
            "yours, say trust=[<its package>]"
        )
    if node.get("_partial_", False) is not slot.called_later:
        raise AtrousError(f"the checkpoint's {where} must have _partial_={str(slot.called_later).lower()}")
    checked: dict[str, Any] = {"_target_": target}
    for key, value in node.items():
        if key in ("_target_", "_partial_"):
            continue
        place = f"{where}.{key}"
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            raise AtrousError(f"the checkpoint's {where} has an argument {_shown(key)}, which no class takes")
        if key in slot.droppable:
            if value:
                warnings.warn(f"the checkpoint's {place} is left out: it is not built from a file", stacklevel=4)
        elif key in slot.several and value is not None:
            check = functools.partial(_checked, slot_name=slot.several[key], where=place, trust=trust)
            checked[key] = _each(value, check)
        elif key in slot.parts:
            checked[key] = None if value is None else _checked(value, slot.parts[key], place, trust)
        else:
            _require_plain(value, place)
            checked[key] = value
    return checked


def _require_plain(value: Any, where: str, depth: int = 0) -> None:
    """Require numbers, strings, lists and mappings without keys that Hydra would interpret."""
    if depth > _DEEPEST:
        raise AtrousError(f"the checkpoint's {where} is nested too deeply")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int) or (isinstance(key, str) and key.startswith("_")):
                raise AtrousError(f"the checkpoint's {where} has a key {_shown(key)}, which does not belong there")
            _require_plain(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item, where, depth + 1)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise AtrousError(f"the checkpoint's {where} holds a {type(value).__name__}, not plain data")


def _build(node: Mapping[str, Any], slot_name: str, where: str, **values: Any) -> Any:
    slot = _SLOTS[slot_name]
    kind = slot.class_of.get(node["_target_"]) or _own_class(node["_target_"], slot, where)
    arguments: dict[str, Any] = {}
    for key, value in node.items():
        if key in slot.parts and value is not None:
            arguments[key] = _build(value, slot.parts[key], f"{where}.{key}")
        elif key in slot.several and value is not None:
            arguments[key] = _each(
                value, functools.partial(_build, slot_name=slot.several[key], where=f"{where}.{key}")
            )
        elif key != "_target_":
            arguments[key] = value
    if slot.called_later:
        return functools.partial(kind, **arguments)
    try:
        return kind(**arguments, **values)
    except TypeError as error:
        raise AtrousError(f"the checkpoint's {where} has values that {kind.__name__} does not take: {error}") from error


def _each(nodes: Any, function: Callable[[Any], Any]) -> Any:
    """A function's results for several nodes, by name or in a list."""
    if isinstance(nodes, Mapping):
        return {str(name): function(node) for name, node in nodes.items()}
    return [function(node) for node in nodes] if isinstance(nodes, list | tuple) else [function(nodes)]


def _own_class(target: str, slot: _Slot, where: str) -> type:
    """A class of a trusted package."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise AtrousError(f"the checkpoint's {where} needs {target}, which cannot be imported: {error}") from error
    if not isinstance(found, type) or not issubclass(found, slot.base):
        raise AtrousError(f"the checkpoint's {where} names {target}, which is no subclass of {slot.base.__name__}")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
