"""Counts of masks and colors, and weights from them, on masks that can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data import LabelSpace, RawSample, SegmentationDataset
from atrous.data.sets import VOC2012
from atrous.data.statistics import ClassCounts, count_classes, count_colors


class Masks(SegmentationDataset):
    """Given masks of two by five pixels."""

    def __init__(self, rows: Sequence[Sequence[int]], classes: int = 4) -> None:
        names = tuple("abcdefgh"[:classes])
        self.label_space = LabelSpace("toy", names, tuple((i, i, i) for i in range(classes)))
        self.split = "train"
        self.names = [str(i) for i in range(len(rows))]
        self._masks = [np.array(row, dtype=np.uint8).reshape(2, -1) for row in rows]
        self.images = [np.zeros((*mask.shape, 3), dtype=np.uint8) for mask in self._masks]
        self.read: list[int] = []

    def __getitem__(self, index: int) -> RawSample:
        self.read.append(index)
        return RawSample(self.images[index], self._masks[index], self.names[index])


def weights_of(dataset: SegmentationDataset) -> list[float]:
    return count_classes(dataset).median_frequency_weights()


def test_weights_by_hand() -> None:
    """Frequencies: class 0 11 of 20 (in both images), class 1 6 of 20, class 2 3 of 10 (in the second only)."""
    dataset = Masks([[0] * 7 + [1] * 3, [0] * 4 + [1] * 3 + [2] * 3], classes=3)
    assert weights_of(dataset) == pytest.approx([0.3 / 0.55, 1.0, 1.0])


def test_ignored_pixels_count_for_nothing() -> None:
    """Six pixels of class 0 and two of class 1 are left: 6/8 and 2/8, whose median is 1/2."""
    dataset = Masks([[0] * 6 + [1] * 2 + [255] * 2], classes=2)
    assert weights_of(dataset) == pytest.approx([0.5 / 0.75, 0.5 / 0.25])


def test_a_class_that_does_not_occur_has_weight_one_and_no_say_in_the_median() -> None:
    dataset = Masks([[0] * 8 + [2] * 2], classes=4)
    assert weights_of(dataset) == pytest.approx([0.5 / 0.8, 1.0, 0.5 / 0.2, 1.0])


def test_an_image_without_labels_changes_nothing() -> None:
    rows = [[0] * 6 + [1] * 4]
    assert weights_of(Masks([*rows, [255] * 10], 2)) == weights_of(Masks(rows, 2))


def test_every_mask_is_counted_once() -> None:
    dataset = Masks([[0] * 7 + [1] * 3, [0] * 4 + [255] * 6, [2] * 10], classes=3)
    counts = count_classes(dataset)
    assert counts.pixels.tolist() == [[7, 3, 0], [4, 0, 0], [0, 0, 10]]
    assert counts.occurs.tolist() == [[True, True, False], [True, False, False], [False, False, True]]
    assert dataset.read == [0, 1, 2]


def test_counts_are_kept_for_as_long_as_the_labels_are_the_same(tmp_path: Path) -> None:
    rows = [[0] * 7 + [1] * 3, [0] * 4 + [2] * 6]
    dataset = Masks(rows, 3)
    wanted = count_classes(dataset, folder=tmp_path)
    assert dataset.read == [0, 1, 0, 1]  # for the fingerprint and for the counts
    assert np.array_equal(count_classes(dataset, folder=tmp_path).pixels, wanted.pixels)
    assert dataset.read[4:] == [0, 1]  # for the fingerprint alone
    other = Masks([rows[1], rows[1]], 3)
    assert count_classes(other, folder=tmp_path).pixels.tolist() == [[4, 0, 6], [4, 0, 6]]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damaged", [b"", b"\x93NUMPY", b"not an array", b"full"])
def test_a_damaged_file_is_written_again(damaged: bytes, tmp_path: Path) -> None:
    dataset = Masks([[0] * 7 + [1] * 3], 2)
    wanted = count_classes(dataset, folder=tmp_path).pixels
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-5] if damaged == b"full" else damaged)
    assert np.array_equal(count_classes(dataset, folder=tmp_path).pixels, wanted)
    assert file.read_bytes() == whole


def test_a_file_is_data(tmp_path: Path) -> None:
    """An array of objects is a pickle, which would be run."""
    dataset = Masks([[0] * 7 + [1] * 3], 2)
    count_classes(dataset, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    np.save(file, np.array([[print, print]], dtype=object), allow_pickle=True)
    assert count_classes(dataset, folder=tmp_path).pixels.tolist() == [[7, 3]]


def test_a_folder_that_cannot_be_written_to_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert count_classes(Masks([[0] * 10], 1), folder=tmp_path / "file").pixels.tolist() == [[10]]


def test_weights_of_counts_are_a_function_of_the_counts() -> None:
    assert ClassCounts(np.array([[8, 2, 0]])).median_frequency_weights() == pytest.approx([0.5 / 0.8, 0.5 / 0.2, 1.0])


def test_colors_by_hand(tmp_path: Path) -> None:
    """Two levels: 200 is in the upper half. Red, green, blue from coarse to fine."""
    dataset = Masks([[0] * 5 + [1] * 5, [255] * 10], 2)
    dataset.images[0][1, :, 1] = 200
    dataset.images[1][:] = 200
    counts = count_colors(dataset, levels=2, folder=tmp_path)
    wanted = np.zeros((8, 2), dtype=np.int64)
    wanted[0, 0] = 5
    wanted[2, 1] = 5
    assert np.array_equal(counts, wanted)
    assert np.array_equal(count_colors(dataset, levels=2, folder=tmp_path), wanted)
    assert count_colors(dataset, levels=4, folder=tmp_path).shape == (64, 2)


def test_other_images_are_counted_anew(voc_folder: Path, tmp_path: Path) -> None:
    """Counts of masks do not change with an image, counts of colors do."""
    kept = tmp_path / "kept"
    before = VOC2012("train", root=voc_folder)
    classes, colors = count_classes(before, folder=kept).pixels, count_colors(before, levels=2, folder=kept)
    Image.new("RGB", (32, 24), (255, 0, 0)).save(before.images[0])
    after = VOC2012("train", root=voc_folder)
    assert np.array_equal(count_classes(after, folder=kept).pixels, classes)
    assert not np.array_equal(count_colors(after, levels=2, folder=kept), colors)
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize("images", [False, True])
def test_a_fingerprint_changes_with_what_it_is_about(images: bool) -> None:
    rows = [[0] * 7 + [1] * 3]
    plain, painted, other = Masks(rows, 2), Masks(rows, 2), Masks([[0] * 10], 2)
    painted.images[0][:] = 9
    assert plain.fingerprint(images=images) != other.fingerprint(images=images)
    assert (plain.fingerprint(images=images) != painted.fingerprint(images=images)) == images
