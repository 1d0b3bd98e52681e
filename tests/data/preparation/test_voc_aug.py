"""VOC's masks and SBD's together: which images are in the lists, and whose mask is taken."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from atrous.data.preparation import voc_aug
from atrous.data.preparation.voc_aug import build_trainaug
from atrous.data.sets import VOC2012
from atrous.errors import AtrousError

SHARED = Path(os.environ.get("ATROUS_SHARED", Path(__file__).parents[4] / "shared"))
ONLY_SBD, IN_TRAIN, IN_VAL = "2009_000004", "2007_000001", "2008_000003"


def write_sbd(root: Path, lists: dict[str, list[str]], *, size: tuple[int, int] = (24, 32)) -> Path:
    """SBD in the form of its release: ``GTcls`` with a map of ids and a boundary of every class."""
    folder = root / "benchmark_RELEASE" / "dataset"
    for name in ("cls", "img"):
        (folder / name).mkdir(parents=True)
    for part, names in lists.items():
        (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            ids = np.zeros(size, dtype=np.uint8)
            ids[2:9, 3:20] = 7
            boundaries = np.empty((20, 1), dtype=object)
            boundaries[:] = [[np.zeros(size)]]
            truth = {
                "Boundaries": boundaries,
                "Segmentation": ids,
                "CategoriesPresent": np.array([[7]], dtype=np.uint8),
            }
            savemat(folder / "cls" / f"{name}.mat", {"GTcls": truth}, do_compression=True)
            Image.fromarray(np.full((*size, 3), 9, dtype=np.uint8)).save(folder / "img" / f"{name}.jpg")
    return folder


@pytest.fixture
def root(voc_folder: Path, tmp_path: Path) -> Path:
    """VOC without what is to be made, and SBD with images that VOC has in train, in val, and in neither."""
    shutil.rmtree(voc_folder / "SegmentationClassAug")
    for name in ("trainaug", "trainval_aug"):
        (voc_folder / "ImageSets" / "Segmentation" / f"{name}.txt").unlink()
    write_sbd(tmp_path, {"train": [ONLY_SBD, IN_VAL], "val": [IN_TRAIN]})
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
def test_lists_and_masks(root: Path, workers: int) -> None:
    said: list[str] = []
    assert build_trainaug(root, workers=workers, say=said.append) == {"trainaug": 3, "trainval_aug": 4}
    train = VOC2012("trainaug", root=root)
    assert train.names == ["2007_000001", "2007_000002", ONLY_SBD], "nothing of val"
    assert VOC2012("trainval_aug", root=root).names == ["2007_000001", "2007_000002", IN_VAL, ONLY_SBD]
    assert set(np.unique(train[0].mask)) == {0, 15, 255}, "VOC's mask with its border where both have one"
    expected = np.zeros((24, 32), dtype=int)
    expected[2:9, 3:20] = 7
    np.testing.assert_array_equal(train[2].mask, expected)
    with Image.open(root / "VOCdevkit/VOC2012/SegmentationClassAug" / f"{ONLY_SBD}.png") as mask:
        assert mask.mode == "P"
        assert mask.convert("RGB").getpixel((5, 5)) == (128, 128, 128), "VOC's color of a car"
    assert said[0] == "voc_aug: trainaug has 3 images instead of 10,582: VOC or SBD is not complete"


def test_it_goes_on_where_it_was_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def stopped(path: Path, variable: str) -> Any:
        read.append(path.stem)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(voc_aug, "read_variable", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_trainaug(root, workers=1)
    assert not (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt").exists(), "the list comes last"
    build_trainaug(root, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(voc_aug, "read_variable", stopped)
        build_trainaug(root, workers=1)
    assert read == [ONLY_SBD]


def test_the_images_of_sbd_fill_gaps(root: Path) -> None:
    (root / "VOCdevkit/VOC2012/JPEGImages" / f"{ONLY_SBD}.jpg").unlink()
    build_trainaug(root, workers=1)
    assert VOC2012("trainaug", root=root)[2].image.max() < 20
    for folder in ("VOCdevkit/VOC2012/JPEGImages", "benchmark_RELEASE/dataset/img"):
        (root / folder / f"{ONLY_SBD}.jpg").unlink()
    with pytest.raises(AtrousError, match=rf"the image .*{ONLY_SBD}\.jpg is missing"):
        build_trainaug(root, workers=1)


def test_official_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lists as long and as entangled as the published ones, nothing is to be said."""
    train = [f"2007_{number:06d}" for number in range(1464)]
    val = [f"2008_{number:06d}" for number in range(1449)]
    others = [f"2009_{number:06d}" for number in range(10582 - 1464)]
    lists = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    for name, names in (("train", train), ("val", val)):
        (lists / f"{name}.txt").write_text("\n".join(names))
    both = [*others, *train, *val[:773]]
    assert len(both) == 8498 + 2857
    (root / "benchmark_RELEASE/dataset/train.txt").write_text("\n".join(both[:8498]))
    (root / "benchmark_RELEASE/dataset/val.txt").write_text("\n".join(both[8498:]))
    for function in ("in_parallel", "_add_images"):
        monkeypatch.setattr(voc_aug, function, lambda *args, **options: None)
    said: list[str] = []
    assert build_trainaug(root, say=said.append) == {"trainaug": 10582, "trainval_aug": 12031}
    assert said == []
    assert not {*(lists / "trainaug.txt").read_text().split()} & {*val}


def test_mistakes_are_explained(root: Path, tmp_path: Path) -> None:
    mat = root / "benchmark_RELEASE/dataset/cls" / f"{ONLY_SBD}.mat"
    for content, says in (({"GTcls": np.zeros((2, 2))}, "no map GTcls.Segmentation"), ({"a": 1}, "no variable GTcls")):
        savemat(mat, content)
        with pytest.raises(AtrousError, match=says):
            build_trainaug(root, workers=1)
    savemat(mat, {"GTcls": {"Segmentation": np.full((4, 4), 30, dtype=np.uint8)}})
    with pytest.raises(AtrousError, match=rf"{ONLY_SBD}\.mat: label ids 30 are outside the label space 'voc'"):
        build_trainaug(root, workers=1)
    shutil.rmtree(root / "benchmark_RELEASE")
    with pytest.raises(AtrousError, match=r"no SBD in .*unpack benchmark\.tgz there"):
        build_trainaug(root)
    with pytest.raises(AtrousError, match=r"`python src/prepare\.py task=data data=voc_aug` makes it from VOC and SBD"):
        VOC2012("trainaug", root=root)


@pytest.mark.skipif(not (SHARED / "data" / "sbd_rewrapped").is_dir(), reason="real files are not here")
def test_real_masks_of_sbd(tmp_path: Path) -> None:
    """They are those that everybody's SegmentationClassAug holds."""
    voc = SHARED / "data" / "VOCdevkit" / "VOC2012"
    shutil.copytree(voc / "ImageSets", tmp_path / "VOC2012" / "ImageSets")
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "VOC2012" / name).symlink_to(voc / name)
    (tmp_path / "SBD").symlink_to(SHARED / "data" / "sbd_rewrapped" / "dataset")
    build_trainaug(tmp_path, workers=2)
    names = {path.stem for path in (tmp_path / "SBD" / "cls").iterdir()}
    data = VOC2012("trainaug", root=tmp_path)
    assert len(data) == 442 + len(names)
    for index in (index for index, name in enumerate(data.names) if name in names):
        with Image.open(voc / "SegmentationClassAug" / f"{data.names[index]}.png") as mask:
            np.testing.assert_array_equal(data.mask(index), np.asarray(mask))
