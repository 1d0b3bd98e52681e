"""Every data set is trained on, scored and labeled by the commands, from files in its own format."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from atrous.commands.evaluate import command as evaluate
from atrous.commands.predict import command as predict
from atrous.commands.prepare import command as prepare
from atrous.commands.train import command as train
from atrous.composition.parts import build_data
from atrous.data.mask_file import write_mask
from atrous.data.sets import ADE20K, VOC2012, CamVid, Cityscapes, PascalContext, PersonPart
from atrous.data.sets.files import read_mask

pytestmark = pytest.mark.integration

DATA = sorted(
    path.stem for path in (Path(__file__).parents[2] / "conf" / "data").glob("*.yaml") if path.stem != "default"
)
OPTIONS = {
    "shapes": ["data.dataset.size=64", "data.dataset.lengths={train: 3, val: 2, test: 2}"],
    "mix": ["data.parts={voc: 1, coco_voc: 2}"],
    "cityscapes": ["data.train_split=trainval_extra"],
}
SMALL = (
    "backbone=timm", "backbone.name=test_resnet", "backbone.pretrained=false", "model.head.aspp_channels=8",
    "model.head.decoder_channels=8", "data.num_workers=0", "data.batch_size=2", "augment.crop_size=33", "trainer=cpu",
    "trainer.max_steps=2", "validate_every=2", "logger=csv", "callbacks=minimal",
)  # fmt: skip


@pytest.fixture
def roots(
    tmp_path: Path,
    voc_folder: Path,
    camvid_folder: Path,
    cityscapes_folder: Path,
    ade20k_folder: Path,
    coco_folder: Path,
    context_folder: Path,
    person_part_folder: Path,
    own_folder: Path,
) -> dict[str, str]:
    """Where each data set is; COCO and coarse Cityscapes as their owners give them."""
    for index in range(2):
        name = f"augsburg_000000_{index:06d}"
        image = cityscapes_folder / "leftImg8bit" / "train_extra" / "augsburg" / f"{name}_leftImg8bit.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 64, 3), 90 * index, np.uint8)).save(image)
        mask = cityscapes_folder / "gtCoarse" / "train_extra" / "augsburg" / f"{name}_gtCoarse_labelIds.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 64), 7 + index, np.uint8)).save(mask)
    folders = {
        "voc": voc_folder,
        "voc_aug": voc_folder,
        "camvid": camvid_folder,
        "cityscapes": cityscapes_folder,
        "ade20k": ade20k_folder,
        "coco_voc": coco_folder,
        "pascal_context": context_folder,
        "person_part": person_part_folder,
        "folder": own_folder,
        "mix": tmp_path,
    }
    return {name: str(folder) for name, folder in folders.items()}


def test_they_are_all() -> None:
    assert set(DATA) == {
        "ade20k", "camvid", "cityscapes", "coco_voc", "folder", "mix", "pascal_context", "person_part", "shapes",
        "voc", "voc_aug",
    }  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_prepare_train_score_and_label(
    name: str, roots: dict[str, str], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    at = [f"data={name}", *([f"data.root={roots[name]}"] if name in roots else []), *OPTIONS.get(name, [])]
    prepare.prepare(composed("prepare", "task=data", *at, "preparation.workers=1", run="prepared"))
    config = composed("train", *at, *SMALL, run="trained")
    task = train.train(config)
    run = Path(config.paths.run)
    scored = composed("evaluate", f"ckpt_path={run}", *at[:2], *OPTIONS.get(name, []), "trainer=cpu", run="scored")
    evaluate.evaluate(scored)
    scores = json.loads((Path(scored.paths.run) / "scores.json").read_text(encoding="utf-8"))
    assert 0 <= scores["miou"] <= 1
    assert set(scores["iou"]) == set(task.label_space.classes)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(photos / "a.png")
    predict.predict(composed("predict", f"ckpt_path={run}", f"input={photos}", "device=cpu", run="predicted"))
    with Image.open(tmp_path / "predicted" / "predictions" / "a.png") as mask:
        found = set(np.unique(np.asarray(mask)).tolist())
    assert found <= set(task.label_space.raw_ids)


@pytest.mark.parametrize("name", [name for name in DATA if name not in ("mix", "shapes", "folder")])
def test_labels_come_back_as_they_were(
    name: str, roots: dict[str, str], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """From a mask file to train ids, to a file as for a test server, and back."""
    at = [f"data={name}", f"data.root={roots[name]}", *OPTIONS.get(name, [])]
    prepare.prepare(composed("prepare", "task=data", *at, "preparation.workers=1", run="prepared"))
    module = build_data(composed("train", *at).data)
    space, path = module.label_space, tmp_path / "written.png"
    for stage in ("train", "val"):
        dataset: Any = module.dataset(stage)
        for index in range(len(dataset)):
            train_ids = dataset.mask(index)
            write_mask(path, train_ids, space)
            raw, counted = read_mask(path), train_ids != 255
            assert (space.encode(raw, "written") == train_ids).all()
            if dataset.masks[index].suffix == ".png":
                before = read_mask(dataset.masks[index])
                assert (raw[counted] == before[counted]).all()
                assert set(np.unique(before[~counted]).tolist()) <= set(space.ignored_raw_ids)


def touched(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def listed(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n", encoding="utf-8")


def test_a_whole_voc_is_no_subset(tmp_path: Path) -> None:
    folder = tmp_path / "VOC2012"
    counts = {"train": 1464, "val": 1449}
    names = {split: [f"{split}_{index:06d}" for index in range(count)] for split, count in counts.items()}
    names["trainval"] = [*names["train"], *names["val"]]
    for split, of_split in names.items():
        listed(folder / "ImageSets" / "Segmentation" / f"{split}.txt", of_split)
    touched(folder / "JPEGImages", [f"{name}.jpg" for name in names["trainval"]])
    touched(folder / "SegmentationClass", [f"{name}.png" for name in names["trainval"]])
    for split, count in {**counts, "trainval": 2913}.items():
        dataset = VOC2012(split, root=tmp_path)
        assert len(dataset) == dataset.published == count
    listed(folder / "ImageSets" / "Segmentation" / "val.txt", names["val"][:-1])
    assert len(VOC2012("val", root=tmp_path)) == 1448 != VOC2012("val", root=tmp_path).published


def test_whole_street_scenes_are_no_subsets(tmp_path: Path) -> None:
    for part, count in (("train", 2975), ("val", 500)):
        names = [f"city_{index:06d}_000019" for index in range(count)]
        touched(tmp_path / "leftImg8bit" / part / "city", [f"{name}_leftImg8bit.png" for name in names])
        touched(tmp_path / "gtFine" / part / "city", [f"{name}_gtFine_labelIds.png" for name in names])
    for part, count in (("train", 367), ("val", 101), ("test", 233)):
        names = [f"{index:06d}.png" for index in range(count)]
        touched(tmp_path / part, names)
        touched(tmp_path / f"{part}annot", names)
    for split, count in (("train", 2975), ("val", 500), ("trainval", 3475)):
        dataset = Cityscapes(split, root=tmp_path)
        assert len(dataset) == dataset.published == count
    for split, count in (("train", 367), ("val", 101), ("test", 233), ("trainval", 468)):
        camvid = CamVid(split, root=tmp_path)
        assert len(camvid) == camvid.published == count


def test_a_whole_context_is_no_subset(tmp_path: Path) -> None:
    voc = tmp_path / "VOC2010"
    names = {
        split: [f"{split}_{index:06d}" for index in range(count)] for split, count in (("train", 4998), ("val", 5105))
    }
    for split, of_split in names.items():
        listed(voc / "ImageSets" / "Main" / f"{split}.txt", of_split)
    everything = list(itertools.chain(*names.values()))
    touched(voc / "JPEGImages", [f"{name}.jpg" for name in everything])
    touched(tmp_path / "trainval", [f"{name}.mat" for name in everything])
    for split, count in (("train", 4998), ("val", 5105), ("trainval", 10103)):
        dataset = PascalContext(split, root=tmp_path)
        assert len(dataset) == dataset.published == count


def test_from_coco_to_voc_in_two_commands(
    roots: dict[str, str], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """The second begins with all weights of the first, its classifier too."""
    at = ["data=coco_voc", f"data.root={roots['coco_voc']}"]
    prepare.prepare(composed("prepare", "task=data", *at, "preparation.workers=1", run="prepared"))
    small = [word for word in SMALL if not word.startswith(("backbone", "model"))]
    still = [
        "task.learning_rate=1e-12",
        "model.batch_norm_momentum=1e-12",
        "trainer.devices=1",
        "backbone.pretrained=false",
    ]
    first = composed(
        "train", "experiment=deeplabv3_mobilenetv2_coco", at[1], *small, "trainer.devices=1",
        "backbone.pretrained=false", "task.learning_rate=0.01", run="coco",
    )  # fmt: skip
    trained = train.train(first).segmentor.state_dict()
    second = composed(
        "train", "experiment=deeplabv3_mobilenetv2_voc", f"data.root={roots['voc']}", "data.train_split=train",
        f"init_from={first.paths.run}", *small, *still, run="voc",
    )  # fmt: skip
    tuned = train.train(second).segmentor.state_dict()
    assert trained.keys() == tuned.keys()
    for name, values in trained.items():
        if values.is_floating_point():
            torch.testing.assert_close(tuned[name], values, rtol=1e-4, atol=1e-6, msg=name)


def test_a_whole_person_part_is_no_subset(tmp_path: Path) -> None:
    for split, count in (("train", 1716), ("val", 1817)):
        names = [f"{split}_{index:06d}" for index in range(count)]
        listed(tmp_path / "VOC2010" / "ImageSets" / "Person-Part" / f"{split}.txt", names)
        listed(tmp_path / "VOC2010" / "ImageSets" / "Main" / f"{split}.txt", names)
        touched(tmp_path / "VOC2010" / "JPEGImages", [f"{name}.jpg" for name in names])
        touched(tmp_path / "Annotations_Part", [f"{name}.mat" for name in names])
    for split, count in (("train", 1716), ("val", 1817), ("trainval", 3533)):
        dataset = PersonPart(split, root=tmp_path)
        assert len(dataset) == dataset.published == count


@pytest.mark.long
def test_whole_coarse_cityscapes_and_ade20k_are_no_subsets(ade20k_folder: Path, tmp_path: Path) -> None:
    names = [f"city_{index:06d}_000019" for index in range(19_998)]
    touched(tmp_path / "leftImg8bit" / "train_extra" / "city", [f"{name}_leftImg8bit.png" for name in names])
    touched(tmp_path / "gtCoarse" / "train_extra" / "city", [f"{name}_gtCoarse_labelIds.png" for name in names])
    extra = Cityscapes("train_extra", root=tmp_path)
    assert len(extra) == extra.published == 19_998
    for part, stem, count in (("training", "train", 20_210), ("validation", "val", 2_000)):
        names = [f"ADE_{stem}_{index:08d}" for index in range(count)]
        touched(ade20k_folder / "images" / part, [f"{name}.jpg" for name in names])
        touched(ade20k_folder / "annotations" / part, [f"{name}.png" for name in names])
    for split, count in (("train", 20_210), ("val", 2_000), ("trainval", 22_210)):
        dataset = ADE20K(split, root=ade20k_folder)
        assert len(dataset) == dataset.published == count
