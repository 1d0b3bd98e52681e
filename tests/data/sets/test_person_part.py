"""Persons of Pascal-Part merged to six parts, on generated MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from atrous.data.sets.person_part import PERSON_PART, PersonPart
from atrous.errors import AtrousError


@pytest.mark.parametrize(
    ("split", "names"),
    [("train", ["2008_000001"]), ("val", ["2009_000003"]), ("trainval", ["2008_000001", "2009_000003"])],
)
def test_a_split_is_its_images_with_persons(person_part_folder: Path, split: str, names: list[str]) -> None:
    data = PersonPart(split, root=person_part_folder)
    assert data.names == names
    assert [data[index].image.shape for index in range(len(data))] == [(24, 32, 3)] * len(names)


def test_a_list_of_its_own_is_followed_without_reading_annotations(person_part_folder: Path) -> None:
    devkit = person_part_folder / "VOCdevkit" / "VOC2010"
    (devkit / "ImageSets" / "Person-Part").mkdir()
    (devkit / "ImageSets" / "Person-Part" / "val.txt").write_text("2009_000004\n")
    (person_part_folder / "Annotations_Part" / "2009_000003.mat").write_bytes(b"not read")
    data = PersonPart("val", root=devkit)
    assert data.names == ["2009_000004"]
    assert (data.mask(0) == 0).all()  # a chair


def test_later_parts_and_persons_paint_over_earlier_ones(person_part_folder: Path) -> None:
    expected = np.zeros((24, 32), dtype=np.uint8)
    expected[0:8, 4:12] = 1  # head and hair
    expected[8:16, 4:12] = 2
    expected[16:20, 4:8] = 5
    expected[6:8, 10:20] = 2  # the second person's neck, over the first one's head
    expected[8:14, 10:14] = 4  # its arm and hand, over the first one's torso
    assert np.array_equal(PersonPart("train", root=person_part_folder).mask(0), expected)


def test_other_objects_and_the_rest_of_a_person_are_background(person_part_folder: Path) -> None:
    expected = np.zeros((24, 32), dtype=np.uint8)
    expected[4:10, 2:6] = 3
    expected[20:24, 2:6] = 6
    expected[2:3, 2:4] = 1
    assert np.array_equal(PersonPart("val", root=person_part_folder)[0].mask, expected)


def test_a_mask_needs_no_image(person_part_folder: Path) -> None:
    data = PersonPart("val", root=person_part_folder)
    data.images[0].unlink()
    assert data.mask(0).any()


def test_class_names() -> None:
    assert PERSON_PART.classes == (
        "background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg",
    )  # fmt: skip
    assert len(set(PERSON_PART.palette)) == 7


def test_mistakes_are_explained(person_part_folder: Path) -> None:
    with pytest.raises(AtrousError, match="person_part: unknown split 'test'; choose one of train, val, trainval"):
        PersonPart("test", root=person_part_folder)
    data = PersonPart("val", root=person_part_folder)
    path = person_part_folder / "Annotations_Part" / "2009_000003.mat"
    anno = loadmat(path)["anno"]
    person = anno[0, 0]["objects"][0, 1]
    person["parts"][0, 0]["part_name"] = "tail"
    savemat(path, {"anno": anno})
    with pytest.raises(
        AtrousError, match=r"2009_000003.mat: a person has the unknown part 'tail'; known are head, hair"
    ):
        data[0]
    person["parts"][0, 0] = ("head", np.ones((24, 30), dtype=np.uint8))
    savemat(path, {"anno": anno})
    with pytest.raises(AtrousError, match=r"2009_000003.mat: the mask of head is 30x24 pixels, but .* is 32x24"):
        data[0]
    savemat(path, {"anno": {"objects": np.empty((0, 0), dtype=anno[0, 0]["objects"].dtype)}})
    with pytest.raises(AtrousError, match=r"2009_000003.mat: the annotation has no object"):
        data[0]
    with pytest.raises(AtrousError, match="split 'val' lists no sample"):
        PersonPart("val", root=person_part_folder)
    for wrong in (1.0, {"objects": 3.0}, {"imname": "2009_000003"}):
        savemat(path, {"anno": wrong})
        with pytest.raises(AtrousError, match=r"2009_000003.mat: anno is not an annotation of Pascal-Part"):
            PersonPart("val", root=person_part_folder)
    path.unlink()
    with pytest.raises(AtrousError, match=r"2009_000003.mat: no such annotation; complete the copy"):
        PersonPart("val", root=person_part_folder)
    with pytest.raises(AtrousError, match=r"person_part: no VOC 2010 in .*expected JPEGImages and ImageSets there"):
        PersonPart("val", root=person_part_folder / "Annotations_Part")
    (person_part_folder / "Annotations_Part").rename(person_part_folder / "elsewhere")
    with pytest.raises(AtrousError, match=r"person_part: no folder Annotations_Part in .*unpack Pascal-Part's"):
        PersonPart("val", root=person_part_folder)
