"""From a foreign file to a checkpoint that the entry points take."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import DictConfig
from rich.console import Console

from atrous.checkpoints.load import load_segmentor
from atrous.commands.evaluate import command as evaluate
from atrous.commands.prepare import command as prepare
from atrous.commands.prepare.tasks.import_weights import run
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError

Compose = Callable[..., DictConfig]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Weights of a small classifier in timm's names."""
    torch.manual_seed(0)
    path = tmp_path / "classifier.pt"
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    return path


def test_the_checkpoint_builds_the_network_again(classifier: Path, tmp_path: Path) -> None:
    printed = io.StringIO()
    out = tmp_path / "folder" / "imported.ckpt"
    result = run(
        Console(file=printed, width=200), source="timm", path=str(classifier), out=str(out), backbone="test_resnet",
        classes=["sky", "sea", "sand"], output_stride=8,
    )  # fmt: skip
    for line in ("not used: fc.weight (after", "not used: fc.bias (after", "not in the file, random: head."):
        assert line in printed.getvalue()
    assert len(result["unused"]) == 2
    segmentor, card = load_segmentor(out)
    assert card.label_space.classes == ("sky", "sea", "sand")
    assert segmentor.output_stride == 8
    weights = torch.load(classifier, weights_only=True)
    backbone = segmentor.backbone.network
    assert isinstance(backbone, torch.nn.Module)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.state_dict().items())
    assert segmentor(torch.zeros(1, 3, 33, 33, dtype=torch.uint8)).shape == (1, 3, 33, 33)


@pytest.mark.integration
def test_an_imported_network_is_scored(classifier: Path, composed: Compose, voc_folder: Path, tmp_path: Path) -> None:
    """The classes are VOC's, so that the recipe finds the data without being told."""
    out = tmp_path / "imported.ckpt"
    prepare.prepare(
        composed(
            "prepare", "task=import_weights", "source=timm", f"path={classifier}", f"out={out}",
            "import_weights.backbone=test_resnet", f"import_weights.data_root={voc_folder.parent}", run="prepared",
        )
    )  # fmt: skip
    config = composed(
        "evaluate", f"ckpt_path={out}", "inference=stretched", "inference.size=33", "trainer=cpu", run="scored"
    )
    evaluate.evaluate(config)
    scores = json.loads((Path(config.paths.run) / "scores.json").read_text())
    assert set(scores["iou"]) == set(VOC_2012.classes)
    assert scores["protocol"]["split"] == "val"


def test_mistakes_are_explained(classifier: Path, tmp_path: Path) -> None:
    console, out = Console(file=io.StringIO()), str(tmp_path / "out.ckpt")
    with pytest.raises(AtrousError, match=r"import_weights\.out is missing"):
        run(console, source="timm", path=str(classifier), out=None)
    with pytest.raises(AtrousError, match="source='keras' is unknown; choose one of mmseg, smp, tflite"):
        run(console, source="keras", path=str(classifier), out=out)
    with pytest.raises(AtrousError, match="there is no weights file "):
        run(console, source="timm", path=str(tmp_path / "none.pt"), out=out, backbone="test_resnet")
    with pytest.raises(AtrousError, match="has no option 'rates'; it has backbone, output_stride, classes"):
        run(console, source="timm", path=str(classifier), out=out, backbone="test_resnet", rates=[6])
