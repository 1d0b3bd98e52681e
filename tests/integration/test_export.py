"""From a checkpoint to a file, and the file's score beside the checkpoint's, by the command line's configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from tests.exports.statistics import fill_statistics

import atrous
from atrous.checkpoints import Card
from atrous.commands.evaluate.command import evaluate
from atrous.commands.export import command as export
from atrous.commands.predict.command import predict
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError
from atrous.exports import Description, Onnx, Parity, Standalone, compare, load_network, require_parity

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def exported(trained: Any, composed_in: Compose, tmp_path_factory: Any) -> tuple[Path, str]:
    """A file of the trained run, and what was said."""
    folder = tmp_path_factory.mktemp("export")
    said: list[str] = []
    config = composed_in(folder, "export", f"ckpt_path={trained.folder}", f"output={folder}/deep/er/net.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "say", lambda console, line: said.append(line))
        export.export(config)
    return folder / "deep" / "er" / "net.onnx", "\n".join(said)


def test_it_says_how_equal_it_is(exported: tuple[Path, str]) -> None:
    path, said = exported
    assert [each.name for each in path.parent.iterdir()] == ["net.onnx"]
    found = re.search(r"the largest difference from the checkpoint is ([\d.e-]+), 100.00% of the labels", said)
    assert found is not None
    assert 0 < float(found[1]) < 1e-4
    assert f"predict.py ckpt_path={path} input=" in said


def test_its_score_is_that_of_the_checkpoint(exported: tuple[Path, str], trained: Any, composed: Compose) -> None:
    """By the same command, and the same protocol but for the numbers that it computes in."""
    written = {}
    for name, path in (("checkpoint", trained.folder), ("file", exported[0])):
        config = composed("evaluate", f"ckpt_path={path}", run=name)
        evaluate(config)
        written[name] = json.loads((Path(config.paths.run) / "scores.json").read_text())
        assert (Path(config.paths.run) / "report.html").is_file()
    before, after = written["checkpoint"], written["file"]
    assert after["miou"] == pytest.approx(before["miou"], abs=1e-3)
    assert 0 < before["miou"] < 1
    assert after["protocol"]["precision"] == "fp32"
    assert {**after["protocol"], "precision": "", "checkpoint": ""} == {
        **before["protocol"], "precision": "", "checkpoint": "",
    }  # fmt: skip


def test_its_masks_are_those_of_the_checkpoint(
    exported: tuple[Path, str], trained: Any, composed: Compose, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, size in enumerate(((50, 70), (64, 64))):
        coarse = np.random.default_rng(index).integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(photos / f"{index}.png")
    for name, path in (("a", trained.folder), ("b", exported[0])):
        predict(composed("predict", f"ckpt_path={path}", f"input={photos}", f"output={tmp_path / name}", "device=cpu"))
    for index in range(2):
        masks = [np.asarray(Image.open(tmp_path / name / f"{index}.png")) for name in "ab"]
        assert (masks[0] == masks[1]).mean() > 0.999
        assert len(np.unique(masks[0])) > 1


@pytest.mark.long
def test_labels_in_eight_bits_are_scored_too(
    trained: Any, composed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for result in ("logits", "labels"):
        words = [f"ckpt_path={trained.folder}", "format=onnx_int8", f"format.result={result}", "format.images=2"]
        export.export(composed("export", *words, "format.size=[65,65]", run=result))
        said[result] = re.findall(r"mIoU on shapes val: .*", capsys.readouterr().out)
    assert said["logits"] == said["labels"] != []


@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx_int8", "openvino_int8"])
def test_eight_bits_say_what_they_cost(
    form: str, trained: Any, composed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss that is said is the difference of two scores that evaluate gives."""
    config = composed("export", f"ckpt_path={trained.folder}", f"format={form}", "format.images=4")
    export.export(config)
    found = re.search(
        r"mIoU on shapes val: ([\d.]+)%, in 8 bits ([\d.]+)%: ([+-][\d.]+) points", capsys.readouterr().out
    )
    assert found is not None
    before, after, lost = map(float, found.groups())
    assert lost == pytest.approx(before - after, abs=0.02)
    assert abs(lost) < 10
    (path,) = [each for each in Path(config.paths.run).iterdir() if each.suffix in (".onnx", ".xml")]
    scored = composed("evaluate", f"ckpt_path={path}", run="scored")
    evaluate(scored)
    scores = json.loads((Path(scored.paths.run) / "scores.json").read_text())
    assert 100 * scores["miou"] == pytest.approx(after, abs=0.01)
    assert scores["protocol"]["precision"] == "int8"


def test_a_file_that_is_not_equal_is_not_kept(trained: Any, composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("export", f"ckpt_path={trained.folder}", "format=torch_export")
    monkeypatch.setattr(export, "compare", lambda *arguments: Parity(0.1, 1e-4, 0.9, ((1, 2),)))
    with pytest.raises(AtrousError, match=r"numbers differ by 0\.1\): nothing is written"):
        export.export(config)
    assert list(Path(config.paths.run).rglob("*")) == []


def test_a_hub_folder_is_a_checkpoint(trained: Any, composed: Compose, tmp_path: Path) -> None:
    export.export(composed("export", f"ckpt_path={trained.folder}", "format=hub", f"output={tmp_path / 'hub'}"))
    config = composed("evaluate", f"ckpt_path={tmp_path / 'hub'}")
    evaluate(config)
    network, card = atrous.load(tmp_path / "hub")
    scores = json.loads((Path(config.paths.run) / "scores.json").read_text())
    assert card.score is not None
    assert scores["miou"] == pytest.approx(card.score["miou"], abs=1e-3)
    assert network.num_classes == 8


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["output=net.pt"], r"output=net.pt must end in .onnx"),
        (["data=camvid"], r"data is for format=onnx_int8 and format=openvino_int8"),
        (["format=hub", "output_stride=8"], r"output_stride is chosen by who loads"),
        (["format.result=scores"], r"format.result=.* must be logits or probabilities"),
        (["format=torch_export", "format.images=3"], r"images"),
        (["output_stride=5"], r"output stride 5 is impossible"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(overrides: list[str], words: str, trained: Any, composed: Compose) -> None:
    with pytest.raises(Exception, match=words):
        export.export(composed("export", f"ckpt_path={trained.folder}", *overrides))


FAMILY = [
    ("deeplabv1", "vgg16", ()),
    ("deeplabv1_msc", "vgg16", ()),
    ("deeplabv2", "resnet18", ()),
    ("deeplabv3", "resnet18", ()),
    ("deeplabv3_cascade", "resnet18", ()),
    ("deeplabv3plus", "resnet18", ()),
    ("deeplabv3plus", "mobilenetv2", ()),
    ("deeplabv3plus", "mobilenetv2_050", ()),
    ("deeplabv3plus", "xception41", ()),
    ("deeplabv3plus", "efficientnet_lite0", ()),
    ("deeplabv3", "tf_deeplab_mobilenetv2_050", ()),
    ("deeplabv3", "resnet18", ("model.extend=false",)),
    ("deeplabv3", "timm", ("backbone.name=convnext_atto",)),
    ("hdc_duc", "resnet50", ()),
    ("dupsampling", "resnet18", ()),
    ("auto_deeplab", "auto_deeplab", ()),
    ("deeplabv3", "resnet18", ("upsampler=deconvolution",)),
    ("deeplabv3", "resnet18", ("upsampler=sub_pixel",)),
]


def test_every_model_and_upsampler_is_tried(repository: Path) -> None:
    assert {model for model, _, _ in FAMILY} == set(atrous.list_models())
    said = {word for _, _, words in FAMILY for word in words}
    upsamplers = {path.stem for path in (repository / "conf" / "upsampler").glob("*.yaml")}
    assert {f"upsampler={name}" for name in upsamplers} - said == {"upsampler=bilinear", "upsampler=dupsampling"}


@pytest.mark.long
@pytest.mark.parametrize(("model", "backbone", "words"), FAMILY, ids=lambda each: "-".join(each) if each else "")
def test_every_family_member_exports(model: str, backbone: str, words: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = atrous.create(model, backbone, num_classes=5, overrides=words)
    if model == "dupsampling":
        network.upsampler.load_state_dict({k: torch.randn_like(v) for k, v in network.upsampler.state_dict().items()})
    fill_statistics(network)
    space = LabelSpace("five", tuple("abcde"), ((0, 0, 0),) * 5)
    path = tmp_path / "network.onnx"
    description = Description.of(
        network, Card(space, network.preprocessing()), result="logits", size=None, precision="fp32"
    )
    Onnx().write(Standalone(network), description, path)
    run, _ = Onnx.load(path)
    require_parity(compare(network, run, Onnx()), Onnx())
    assert load_network(path)[0].grid is network.grid
