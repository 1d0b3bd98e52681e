"""What a checkpoint says about itself, and what is said about files that are none."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.checkpoints import Card, read_checkpoint
from atrous.checkpoints.card import require_same_classes
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

Network = Callable[..., Segmentor]
CheckpointOf = Callable[[Segmentor], Path]


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def test_a_card_survives_the_way_through_a_file(card: Card, tmp_path: Path) -> None:
    assert is_plain(card.to_dict())
    torch.save({Card.KEY: card.to_dict()}, tmp_path / "card.ckpt")
    read = Card.of(torch.load(tmp_path / "card.ckpt", weights_only=True))
    assert read.score is not None
    assert math.isnan(read.score["iou"].pop("sky"))
    assert card.score is not None
    card.score["iou"].pop("sky")
    assert read == card


def test_a_card_without_score(card: Card) -> None:
    unscored = replace(card, score=None)
    assert Card.of({Card.KEY: unscored.to_dict()}) == unscored


def test_checkpoint_gives_card_and_weights_of_the_network(network: Network, checkpoint_of: CheckpointOf) -> None:
    segmentor = network(1)
    card, weights = read_checkpoint(checkpoint_of(segmentor))
    assert card.label_space.classes == ("sky", "sea", "sand")
    other = network(2)
    other.load_state_dict(weights)
    for name, tensor in segmentor.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"there is no checkpoint .*none\.ckpt"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file_is_one_sentence(kept: float, network: Network, checkpoint_of: CheckpointOf) -> None:
    path = checkpoint_of(network())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(AtrousError, match=r"run\.ckpt is not a checkpoint that can be read as plain data") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


class _Harmful:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, ("import atrous; atrous.harmed = True",)


@pytest.mark.parametrize("save", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data, protocol=2))])
def test_code_in_a_file_does_not_run(save: Callable[[object, Path], None], card: Card, tmp_path: Path) -> None:
    import atrous

    path = tmp_path / "harmful.ckpt"
    save({Card.KEY: card.to_dict(), "state_dict": {}, "payload": _Harmful()}, path)
    with pytest.raises(AtrousError, match="plain data") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not hasattr(atrous, "harmed")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {"weight": torch.ones(1)}}, {"atrous": "no card"}, {"atrous": {}, "state_dict": {}}],
    ids=["state dict", "string", "empty card"],
)
def test_checkpoint_of_another_program(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(AtrousError, match=r"foreign\.ckpt was not written by Atrous"):
        read_checkpoint(tmp_path / "foreign.ckpt")


def test_card_without_weights(card: Card, tmp_path: Path) -> None:
    torch.save({Card.KEY: card.to_dict()}, tmp_path / "empty.ckpt")
    with pytest.raises(AtrousError, match=r"empty\.ckpt holds no weights"):
        read_checkpoint(tmp_path / "empty.ckpt")


def test_file_that_holds_no_mapping(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(AtrousError, match=r"list\.ckpt is not a checkpoint: it holds a list"):
        read_checkpoint(tmp_path / "list.ckpt")


def test_newer_format(card: Card, tmp_path: Path) -> None:
    torch.save({Card.KEY: {**card.to_dict(), "format": Card.FORMAT + 1}, "state_dict": {}}, tmp_path / "new.ckpt")
    with pytest.raises(AtrousError, match=r"new\.ckpt has format 3, newer than this version's 2: update Atrous"):
        read_checkpoint(tmp_path / "new.ckpt")


def test_other_classes_are_refused(card: Card) -> None:
    space = card.label_space
    require_same_classes(space, replace(space, name="copy", raw_ids=(7, 8, 11)))
    other = LabelSpace("pair", ("sky", "sea"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(
        AtrousError, match=r"knows the 3 classes of 'toy', the data set has the 2 of 'pair': .*init_from"
    ):
        require_same_classes(space, other)
    with pytest.raises(AtrousError, match="3 classes of 'toy'"):
        require_same_classes(space, replace(space, classes=("sea", "sky", "sand")))
