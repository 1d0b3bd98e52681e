"""A model for the Hugging Face Hub: weights, card, and a page for people."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path, PurePath
from typing import Any

from atrous.atomic_file import atomic_file
from atrous.checkpoints import Card
from atrous.checkpoints.hub_folder import write_hub_folder
from atrous.errors import AtrousError
from atrous.hub import CARD, PREFIX, WEIGHTS, upload
from atrous.metrics import Protocol
from atrous.models import Segmentor


class Hub:
    """Writes a folder as the hub keeps models: ``model.safetensors``, ``card.json`` and ``README.md``.

    Nothing in it says where files of this machine are: of absolute paths the last part is kept.

    Args:
        repository: ``user/name`` to upload it to; ``None`` to write it alone.
        private: Whether a new repository is private.

    Raises:
        AtrousError: The repository has no such name, or ``private`` is set without one.
    """

    def __init__(self, *, repository: str | None = None, private: bool = False) -> None:
        if repository is not None and (repository.count("/") != 1 or not all(repository.split("/"))):
            raise AtrousError(f"format.repository={repository} is no name of a repository: give <user>/<name>")
        if private and repository is None:
            raise AtrousError("format.private=true is about a repository: give format.repository=<user>/<name> too")
        self.repository = repository
        self.private = private

    def write(self, segmentor: Segmentor, card: Card, folder: Path) -> list[str]:
        """Write the folder, and upload it if asked.

        Returns:
            What was done, in lines.

        Raises:
            AtrousError: The folder cannot be written, or the hub refuses it.
        """
        card = _without_places(card)
        name = self.repository or f"<user>/{folder.resolve().name}"
        try:
            write_hub_folder(folder, card, segmentor.state_dict())
            with atomic_file(folder / "README.md") as file:
                file.write(_page(segmentor, card, name).encode())
        except OSError as error:
            raise AtrousError(f"output={folder} cannot be written: {error.strerror or error}") from error
        lines = [f"written to {folder}: {WEIGHTS}, {CARD}, README.md; ckpt_path={folder} takes it"]
        if self.repository is not None:
            place = upload(folder, self.repository, private=self.private)
            lines.append(f"uploaded: {place}; ckpt_path={PREFIX}{self.repository} takes it")
        return lines


def _without_places(card: Card) -> Card:
    recipe = {key: value for key, value in card.recipe.items() if key not in ("paths", "ckpt_path", "init_from")}
    return dataclasses.replace(
        card, recipe=_shortened(recipe), overrides=tuple(_shortened(each) for each in card.overrides)
    )


def _shortened(value: Any) -> Any:
    """Plain data with the last part alone of absolute paths, also behind ``key=``."""
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(each) for each in value]
    if isinstance(value, str):
        key, equals, text = value.rpartition("=")
        return f"{key}{equals}{PurePath(text).name}" if text.startswith(("/", "~")) else value
    return value


def _page(segmentor: Segmentor, card: Card, name: str) -> str:
    """The model card: front matter for the hub, then what people want to know."""
    from huggingface_hub import EvalResult, ModelCardData  # takes a second

    space, score = card.label_space, card.score or {}
    protocol = Protocol.from_dict(score["protocol"]) if "protocol" in score else None
    results = None
    if protocol is not None and not math.isnan(score.get("miou", math.nan)):
        results = [
            EvalResult(
                task_type="image-segmentation",
                dataset_type=protocol.dataset,
                dataset_name=protocol.dataset,
                dataset_split=protocol.split,
                metric_type="mean_iou",
                metric_name=f"mIoU ({protocol})",
                metric_value=round(100 * score["miou"], 2),
            )
        ]
    front = ModelCardData(
        model_name=name.rpartition("/")[2],
        library_name="atrous",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "deeplab", "pytorch"],
        datasets=[space.name],
        eval_results=results,
    )
    parameters = sum(weight.numel() for weight in segmentor.parameters())
    lines = [
        "---",
        front.to_yaml(),
        "---",
        "",
        f"# {name}",
        "",
        f"Semantic segmentation into the {space.num_classes} classes of {space.name}: {_network(card)}, "
        f"output stride {segmentor.output_stride}, {parameters / 1e6:.1f} million parameters.",
        "",
        "```python",
        "import atrous",
        "",
        f'network, card = atrous.load("{PREFIX}{name}")',
        "logits = network(image)  # uint8 B×3×H×W, RGB → B×C×H×W",
        "```",
        "",
        f"On the command line: `atrous predict ckpt_path={PREFIX}{name} input=<image or folder>`.",
        "",
        *_scores(score, protocol),
        "## Classes",
        "",
        ", ".join(f"{number} {each}" for number, each in enumerate(space.classes)) + ".",
        "",
        *_recipe(card),
    ]
    return "\n".join(lines)


def _network(card: Card) -> str:
    """Names of model and backbone, as the recipe's class and the command line say them."""
    model = card.recipe.get("model", {})
    head = str(model.get("head", {}).get("_target_", "")).rpartition(".")[2].removesuffix("Head")
    backbone = model.get("backbone", {})
    body = backbone.get("name") or str(backbone.get("_target_", "")).rpartition(".")[2]
    return " on ".join(filter(None, (head, body))) or "a network of the DeepLab family"


def _scores(score: dict[str, Any], protocol: Protocol | None) -> list[str]:
    if protocol is None:
        return ["It was not scored yet.", ""]
    rows = [(title, score[key]) for title, key in _SCORES.items() if isinstance(score.get(key), float)]
    rows += [(name, value) for name, value in score.get("iou", {}).items() if value is not None]
    table = [f"| {title} | {100 * value:.2f} |" for title, value in rows if not math.isnan(value)]
    return ["## Scores", "", f"{protocol}", "", "| | % |", "|---|---|", *table, ""]


_SCORES = {"mIoU": "miou", "pixel accuracy": "pixel_accuracy", "mean accuracy": "mean_accuracy"}


def _recipe(card: Card) -> list[str]:
    words = " ".join(["atrous train", *card.overrides])
    return [
        "## Recipe",
        "",
        "Trained with",
        "",
        "```shell",
        words,
        "```",
        "",
        f"The whole of it is in `{CARD}`.",
        "",
    ]
