"""Names in format 1 checkpoints: translates their recipes to the current format.

Format 1 named classes by their modules, and gave the heads of DeepLabv3 and v3+ options for the forms
of other projects, which are classes of their own now. Tensors have the same names in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atrous.errors import AtrousError

_PACKAGES = {
    "atrous.segmentor": "atrous.models",
    "atrous.multi_scale_segmentor": "atrous.models",
    "atrous.backbones": "atrous.models.backbones",
    "atrous.heads": "atrous.models.heads",
    "atrous.upsamplers": "atrous.models.upsamplers",
    "atrous.schedules": "atrous.training",
}
_DATA_SETS = ("CamVid", "Cityscapes", "PascalContext", "PersonPart", "Shapes", "VOC2012")
_PAPER: Mapping[str, Any] = {
    "depthwise_activation": True,
    "projection_kernel": 1,
    "refinement": 0,
    "aspp_refinement": 0,
    "decoder_separable": None,
    "align_corners": None,
    "norm": "batch",
}
"""Options of the two heads that are gone, and their values in the papers' networks."""

_FIXED_IN_SMP: Mapping[str, Any] = {
    "image_pooling": "global",
    "low_level_stride": 4,
    "low_level_channels": 48,
    "decoder_depth": 1,
    "decoder_kernel": 3,
}
"""What cannot be chosen in the heads of segmentation_models.pytorch, besides the decoder's channels."""

_FORMS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("DeepLabV3Head", {}, "DeepLabV3Head"),
    ("DeepLabV3Head", {"refinement": 1}, "TorchvisionDeepLabV3Head"),
    ("DeepLabV3Head", {"refinement": 1, "depthwise_activation": False}, "SMPDeepLabV3Head"),
    ("DeepLabV3Head", {"projection_kernel": 3}, "MMSegDeepLabV3Head"),
    ("DeepLabV3Head", {"norm": "folded"}, "TFLiteDeepLabV3Head"),
    ("DeepLabV3PlusHead", {}, "DeepLabV3PlusHead"),
    (
        "DeepLabV3PlusHead",
        {"depthwise_activation": False, "aspp_refinement": 1, "align_corners": True},  # with a separable ASPP
        "SMPDeepLabV3PlusHead",
    ),
    (
        "DeepLabV3PlusHead",
        {"depthwise_activation": False, "aspp_refinement": 1, "decoder_separable": True, "align_corners": True},
        "SMPDeepLabV3PlusHead",
    ),
    ("DeepLabV3PlusHead", {"projection_kernel": 3, "align_corners": False}, "MMSegDeepLabV3PlusHead"),
    ("DeepLabV3PlusHead", {"projection_kernel": 3, "align_corners": True}, "MMSegDeepLabV3PlusHead"),
)
"""A head of format 1, the options in which it differs from the paper's, and the head that it is now."""


def upgraded(value: Any) -> Any:
    """A recipe of format 1, or a part of one, translated to format 2; unknown values stay as they are.

    Raises:
        AtrousError: A head has a form that no class supports.
    """
    if isinstance(value, list):
        return [upgraded(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    node = {key: upgraded(each) for key, each in value.items()}
    target = node.get("_target_")
    if not isinstance(target, str):
        return node
    kind = target.rpartition(".")[2]
    if target.startswith("atrous.heads.") and any(kind == old for old, _, _ in _FORMS):
        return _present_head(node, kind)
    if kind in ("Segmentor", "MultiScaleSegmentor"):
        node = {"auxiliary_weight": 0.4, **node}  # the default, which recipes of v1 and v2 did not state
    return node | {"_target_": _present_name(target, kind)}


def _present_name(target: str, kind: str) -> str:
    if target.startswith("atrous.data.") and kind in _DATA_SETS:
        return f"atrous.data.sets.{kind}"
    for old, new in _PACKAGES.items():
        if target.startswith(f"{old}."):
            return f"{new}.{kind}"
    return target


def _present_head(node: Mapping[str, Any], kind: str) -> dict[str, Any]:
    separable = node.get("separable", kind == "DeepLabV3PlusHead")
    node = {name: value for name, value in node.items() if (name, value) != ("decoder_separable", separable)}
    form = {name: node[name] for name, value in _PAPER.items() if node.get(name, value) != value}
    options = {name: value for name, value in node.items() if name not in _PAPER}
    present = next((new for old, needed, new in _FORMS if (old, needed) == (kind, form)), None)
    if present is not None and present.startswith("SMP"):
        fixed = {**_FIXED_IN_SMP, "decoder_channels": options.get("aspp_channels", 256)}
        other = {name: options[name] for name, value in fixed.items() if options.get(name, value) != value}
        options = {name: value for name, value in options.items() if name not in fixed}
        present, form = (None, form | other) if other else (present, form)
    if present is None:
        said = ", ".join(f"{name}={value}" for name, value in form.items())
        raise AtrousError(
            f"the checkpoint's head has a form that no head has anymore ({said}): use the version of Atrous that it "
            "was trained with"
        )
    if present == "MMSegDeepLabV3PlusHead":
        options["align_corners"] = form["align_corners"]
    return options | {"_target_": f"atrous.models.heads.{present}"}
