"""Which images are the worst, and what is written about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.errors import AtrousError
from atrous.reports import (
    DrawnImage,
    ImageScore,
    extremes,
    read_image_scores,
    write_drawn_images,
    write_image_scores,
)


def scored(*values: float) -> list[ImageScore]:
    return [ImageScore(index, f"image {index}", value, value, 100) for index, value in enumerate(values)]


def chosen(values: tuple[float, ...], count: int) -> dict[str, list[float]]:
    return {kind: [each.miou for each in images] for kind, images in extremes(scored(*values), count).items()}


def test_worst_middle_and_best() -> None:
    values = (0.5, 0.9, 0.1, 0.4, 0.6, 0.2, 0.8)
    assert chosen(values, 1) == {"worst": [0.1], "median": [0.5], "best": [0.9]}
    assert chosen(values, 2) == {"worst": [0.1, 0.2], "median": [0.5, 0.6], "best": [0.9, 0.8]}


@pytest.mark.parametrize("length", range(12))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_image_is_of_two_kinds(length: int, count: int) -> None:
    found = extremes(scored(*np.random.default_rng(0).random(length)), count)
    indices = [each.index for images in found.values() for each in images]
    assert len(set(indices)) == len(indices) == min(length, 3 * max(1, min(count, length // 3)))


def test_scores_there_and_back(tmp_path: Path) -> None:
    written = [ImageScore(3, 'a "name", with signs\u00e9', 0.25, 0.5, 7), ImageScore(1, "b", 1.0, 1.0, 9)]
    write_image_scores(tmp_path / "scores.csv", written)
    assert read_image_scores(tmp_path / "scores.csv") == written[::-1]


@pytest.mark.parametrize("text", ["index,name\n1,a\n", "index,name,miou,pixel_accuracy,pixels\n1,a,high,1,1\n"])
def test_another_file_is_no_list_of_scores(text: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(AtrousError, match="has no scores of images"):
        read_image_scores(tmp_path / "scores.csv")


def test_drawn_images_replace_those_of_before(tmp_path: Path) -> None:
    mask = np.zeros((4, 6, 3), dtype=np.uint8)
    mask[:2] = (10, 200, 30)
    score = ImageScore(5, "a/b", 0.25, 0.5, 24)
    first = [DrawnImage("worst", number, score, 0.75, {"truth": mask}) for number in (1, 2)]
    write_drawn_images(tmp_path, first)
    write_drawn_images(tmp_path, first[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["worst_1"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "worst_1" / "truth.webp")), mask)  # not one color changed
    facts = json.loads((tmp_path / "worst_1" / "image.json").read_text())
    assert (facts["name"], facts["miou"], facts["confidence"], facts["tiles"]) == ("a/b", 0.25, 0.75, ["truth"])
