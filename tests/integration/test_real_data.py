"""Real files of Pascal VOC, CamVid, Cityscapes and Pascal-Part through the data sets and the augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from atrous.data.augment import Augmentation
from atrous.data.dataset import SegmentationDataset
from atrous.data.label_space import voc_color_map
from atrous.data.preparation.describe import describe
from atrous.data.sets.camvid import CamVid
from atrous.data.sets.cityscapes import Cityscapes
from atrous.data.sets.folder import find_pairs
from atrous.data.sets.person_part import PersonPart
from atrous.data.sets.voc import VOC2012

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def voc(shared: Path) -> Path:
    return shared / "data" / "VOCdevkit" / "VOC2012"


@pytest.fixture(scope="module")
def camvid(shared: Path) -> Path:
    return shared / "data" / "camvid"


def check_every(data: SegmentationDataset, step: int) -> np.ndarray:
    """Look at every `step`-th sample; return how many pixels each id has."""
    augment = Augmentation(129, max_class_share=0.75, rare_class_probability=0.3, color={"brightness": 0.3})
    counts = np.zeros(256, dtype=np.int64)
    for index in range(0, len(data), step):
        image, mask, name = data[index]
        assert image.shape == (*mask.shape, 3), name
        assert image.dtype == mask.dtype == np.uint8
        assert image.std() > 1, name
        counts += np.bincount(mask.ravel(), minlength=256)
        sample = augment(data[index], index)
        assert sample["image"].shape == (3, 129, 129)
        assert set(np.unique(sample["mask"])) <= set(np.unique(mask)) | {255}
    assert counts[data.label_space.num_classes : 255].sum() == 0
    return counts


@pytest.mark.parametrize(("split", "length"), [("train", 442), ("val", 150), ("trainval", 592), ("trainaug", 1642)])
def test_voc_lists_have_the_counts_of_their_readme(voc: Path, split: str, length: int) -> None:
    assert len(VOC2012(split, root=voc.parent)) == length


@pytest.mark.parametrize("split", ["train", "val", "trainaug"])
def test_voc_samples(voc: Path, split: str) -> None:
    counts = check_every(VOC2012(split, root=voc), 20)
    assert counts[0] > counts[1:21].max()
    assert counts[255] > 0


def test_voc_trainaug_reads_masks_without_border_beyond_the_official_ones(voc: Path) -> None:
    official = set(VOC2012("train", root=voc).names)
    data = VOC2012("trainaug", root=voc)
    further = [index for index, name in enumerate(data.names) if name not in official]
    assert len(further) == 1200
    assert all((data[index].mask != 255).all() for index in further[::100])


def test_voc_colors_are_those_in_the_real_files(voc: Path) -> None:
    data = VOC2012("val", root=voc)
    expected = [value for color in voc_color_map(256) for value in color]
    for path in data.masks[::30]:
        with Image.open(path) as mask:
            palette = mask.getpalette()
            painted = np.asarray(mask.convert("RGB"))
            ids = np.asarray(mask)
        assert palette is not None
        assert palette[: 21 * 3] == expected[: 21 * 3]
        assert np.array_equal(painted, data.label_space.colorize(ids))


@pytest.mark.parametrize(("split", "length"), [("train", 367), ("val", 101), ("trainval", 468)])
def test_camvid_has_the_counts_of_its_readme(camvid: Path, split: str, length: int) -> None:
    assert len(CamVid(split, root=camvid)) == length


def test_camvid_samples_have_the_class_shares_of_their_readme(camvid: Path) -> None:
    counts = check_every(CamVid("trainval", root=camvid), 5)
    assert counts[255] > 0
    shares = counts[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]] / counts.sum()
    readme = [0.1519, 0.2384, 0.0089, 0.3107, 0.0540, 0.1115, 0.0111, 0.0155, 0.0498, 0.0064, 0.0071, 0.0346]
    assert np.allclose(shares, readme, atol=0.01)


def test_a_cityscapes_frame_has_the_train_ids_of_the_authors(shared: Path) -> None:
    """The reduced train ids were made apart from the reduced label ids: they differ at a few edges."""
    root = shared / "data" / "cityscapes"
    data = Cityscapes("val", root=root)
    assert data.names == ["frankfurt_000000_000294"]
    image, mask, _ = data[0]
    with Image.open(next(root.glob("gtFine/val/*/*_labelTrainIds.png"))) as picture:
        official = np.asarray(picture)
    assert image.shape == (128, 256, 3)
    assert (mask != official).mean() < 0.005


PERSONS = ["2008_000652", "2008_000700", "2008_000726", "2008_000939", "2008_003228", "2009_001103", "2010_002526",
           "2010_005243"]  # fmt: skip
"""Those of the 18 annotations that have persons, by their readme."""


@pytest.fixture
def person_part(shared: Path, tmp_path: Path) -> PersonPart:
    """The real annotations as a split of VOC 2010."""
    real = shared / "data" / "pascal_part"
    devkit = tmp_path / "VOCdevkit" / "VOC2010"
    (devkit / "ImageSets" / "Main").mkdir(parents=True)
    (devkit / "JPEGImages").symlink_to(real / "JPEGImages")
    (devkit / "Annotations_Part").symlink_to(real / "Annotations_Part")
    names = sorted(path.stem for path in (real / "Annotations_Part").glob("*.mat"))
    assert len(names) == 18
    (devkit / "ImageSets" / "Main" / "val.txt").write_text("\n".join(names))
    return PersonPart("val", root=tmp_path)


def test_person_part_finds_the_images_with_persons_and_knows_every_part(person_part: PersonPart) -> None:
    assert person_part.names == PERSONS
    counts = check_every(person_part, 1)
    assert (counts[:7] > 0).all()
    assert counts[:7].sum() == counts.sum()


def test_person_part_merges_the_parts_of_real_persons(person_part: PersonPart) -> None:
    """Where a single class covers a pixel, the mask has it; where none does, background; otherwise one of them."""
    ends = {1: ("head", "hair", "ear", "eye", "ebrow", "nose", "mouth"), 2: ("torso", "neck"), 3: ("uarm",),
            4: ("larm", "hand"), 5: ("uleg",), 6: ("lleg", "foot")}  # fmt: skip
    for index, path in enumerate(person_part.masks):
        mask = person_part.mask(index)
        covered = np.zeros((7, *mask.shape), dtype=bool)
        for item in np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["anno"].objects):
            for part in np.atleast_1d(item.parts) if item.class_ind == 15 else ():
                (label,) = (label for label, names in ends.items() if part.part_name.endswith(names))
                covered[label] |= part.mask == 1
        covered[0] = ~covered[1:].any(axis=0)
        assert np.take_along_axis(covered, mask[None].astype(np.int64), axis=0).all(), path


@pytest.mark.long
def test_a_folder_of_photographs_is_described(shared: Path) -> None:
    """Three photographs with masks beside them, as bitmaps."""
    found = describe(shared / "data" / "coral_segmentation", workers=1)
    assert (found.description.images.text, found.description.masks.text) == ("{name}.bmp", "{name}_mask.bmp")
    assert found.problems == []
    pairs = find_pairs(found.root, found.description)
    assert [sorted(each) for each in pairs] == 2 * [
        ["bird_segmentation", "cityscapes_segmentation", "dog_segmentation"]
    ]
    assert set(found.description.label_space.raw_ids) >= {0, 3}  # background and bird of VOC
