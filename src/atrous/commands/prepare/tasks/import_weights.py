"""Import third-party weights as an Atrous checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from atrous.checkpoints.atomic import AtomicCheckpointIO
from atrous.checkpoints.card import Card
from atrous.checkpoints.foreign import SOURCES, Translation, translate_file
from atrous.checkpoints.recipe import build_model
from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor


def run(
    console: Console,
    *,
    source: str | None,
    path: str | None,
    out: str | None,
    classes: Sequence[str] | None = None,
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
    align_corners: bool | None = None,
    backbone: str | None = None,
    data_root: str | None = None,
) -> dict[str, Any]:
    """Translate a file of foreign weights, print what was not used, and write a checkpoint.

    Args:
        console: Where to print.
        source: Where the weights come from, one of ``atrous.checkpoints.foreign.SOURCES``.
        path: The file.
        out: The checkpoint to write.
        classes: Names of the classes in the order of the scores; ``None`` for those of VOC where there are 21.
        output_stride: Output stride that the network was trained at, if the file does not say and the source lets
            you choose; ``None`` for the source's own default. The next three work the same way.
        rates: Atrous rates of the ASPP at that output stride.
        align_corners: How the network enlarges its scores.
        backbone: timm's name of the backbone.
        data_root: Folder of VOC, kept in the recipe of a network with its classes.

    Returns:
        Source, file, checkpoint, number of tensors and the names of those without a place.

    Raises:
        AtrousError: An option is missing or wrong, or the file's tensors do not form a network that we know.
    """
    for name, value, example in (("source", source, SOURCES[0]), ("path", path, "<file>"), ("out", out, "<file.ckpt>")):
        if not value:
            raise AtrousError(f"import_weights.{name} is missing: give import_weights.{name}={example}")
    assert source is not None
    assert path is not None
    assert out is not None
    options: dict[str, Any] = {
        "output_stride": output_stride,
        "rates": rates,
        "align_corners": align_corners,
        "backbone": backbone,
        "classes": classes if source == "timm" else None,  # the only one whose file has no classifier
    }
    translation = translate_file(source, path, **{name: value for name, value in options.items() if value is not None})
    label_space = _label_space(translation.num_classes, classes)
    segmentor = _load(translation)
    _write(Path(out).expanduser(), segmentor, translation, label_space, data_root=data_root)
    parameters = sum(parameter.numel() for parameter in segmentor.parameters())
    console.print(f"{len(translation.state)} tensors, {parameters:,} parameters of {source}: {path} → {out}")
    for name in translation.missing:
        console.print(f"not in the file, random: {name}", markup=False, highlight=False)
    for name in translation.unused:
        console.print(f"not used: {name}", markup=False, highlight=False)
    if not translation.unused:
        console.print("every tensor of the file was used")
    return {
        "source": source,
        "path": str(path),
        "checkpoint": str(out),
        "parameters": parameters,
        "unused": list(translation.unused),
        "missing": list(translation.missing),
    }


def _label_space(num_classes: int, names: Sequence[str] | None) -> LabelSpace:
    if names is None:
        if num_classes != VOC_2012.num_classes:
            raise AtrousError(
                f"the network has {num_classes} classes, not VOC's {VOC_2012.num_classes}: name them in order with "
                "import_weights.classes=[...]"
            )
        return VOC_2012
    if len(names) != num_classes:
        raise AtrousError(f"import_weights.classes names {len(names)} classes, the network has {num_classes}")
    if tuple(names) == VOC_2012.classes:
        return VOC_2012
    return LabelSpace("imported", tuple(str(name) for name in names), voc_color_map(num_classes))


def _load(translation: Translation) -> Segmentor:
    """Build the network and load every tensor.

    Raises:
        AtrousError: A tensor is missing, has no place or has another shape.
    """
    segmentor = build_model(translation.model, translation.num_classes)
    expected = segmentor.state_dict()
    missing = [name for name in expected if name not in translation.state and not name.startswith(translation.missing)]
    unexpected = [name for name in translation.state if name not in expected]
    misshapen = [
        f"{name} {list(tensor.shape)} for {list(expected[name].shape)}"
        for name, tensor in translation.state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if missing or unexpected or misshapen:
        reasons = (("missing", missing), ("without a place", unexpected), ("of another shape", misshapen))
        listed = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in reasons if names)
        raise AtrousError(f"the tensors of the file do not make up the network that they seemed to belong to: {listed}")
    segmentor.load_state_dict({**expected, **translation.state})
    return segmentor


def _write(
    out: Path, segmentor: Segmentor, translation: Translation, label_space: LabelSpace, *, data_root: str | None
) -> None:
    recipe: dict[str, Any] = {"model": translation.model}
    if label_space is VOC_2012:
        recipe["data"] = {
            "_target_": "atrous.data.SegmentationDataModule",
            "root": data_root or "data",
            "dataset": {"_target_": "atrous.data.sets.VOC2012", "_partial_": True},
            "augment": None,
            "train_split": "trainaug",
            "val_split": "val",
            "test_split": "val",
            "eval_batch_size": 1,
        }
    card = Card(label_space=label_space, preprocessing=dict(segmentor.preprocessing()), recipe=recipe)
    state = {f"segmentor.{name}": tensor for name, tensor in segmentor.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, Card.KEY: card.to_dict()}, out)
