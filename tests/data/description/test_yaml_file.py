from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from atrous.data.description import FILE, read_description, write_description
from atrous.errors import AtrousError

LEAST = "images: images\nmasks: masks\nsplits: {train: 0.8, val: 0.2}\n"


def described(folder: Path, text: str) -> Path:
    path = folder / FILE
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        LEAST + "classes: [road, sky]",
        LEAST + "classes: {road: 7, sky: 400, 'no': 26}\nvoid: [0, 65535]\npalette: {sky: '#0080ff'}\nname: straße",
        LEAST + "classes: {road: [128, 64, 128], sky: '#4682b4'}\nvoid: ['#000000']\norientation: upright",
        LEAST + "classes: {nothing: 0, ship: 255}\nvoid: []\nunlabeled: skip\nseed: 5",
        "images: '{folder}/x/{name}.jpg'\nmasks: '{folder}/y/{name}.png'\nclasses: [a]\n"
        "splits: {train: [a/*, lists/more.txt], val: b.txt, test: 0.1}",
        LEAST + "classes: {" + ", ".join(f"class number {each}: {each}" for each in range(255)) + "}",
    ],
)
def test_what_is_written_is_read_as_it_was(tmp_path: Path, text: str) -> None:
    first = read_description(described(tmp_path, text))
    write_description(tmp_path / FILE, first)
    second = read_description(tmp_path / FILE)
    assert second.label_space == first.label_space
    assert second.splits == first.splits
    assert (second.images.text, second.masks.text) == (first.images.text, first.masks.text)
    assert (second.seed, second.orientation, second.unlabeled) == (first.seed, first.orientation, first.unlabeled)
    if first.color_code is None:
        assert second.color_code is None
    else:
        assert second.color_code is not None
        assert second.color_code.classes == first.color_code.classes
        assert second.color_code.void == first.color_code.void


def test_ten_lines_are_enough(tmp_path: Path) -> None:
    description = read_description(described(tmp_path, LEAST + "classes: {road: 7, sky: 400}\nvoid: [0]"))
    write_description(tmp_path / FILE, description)
    assert len((tmp_path / FILE).read_text(encoding="utf-8").splitlines()) <= 10


def test_ids_are_the_places_of_a_list_and_255_is_void(tmp_path: Path) -> None:
    space = read_description(described(tmp_path, LEAST + "classes: [road, sky]")).label_space
    assert space.classes == ("road", "sky")
    assert space.raw_ids == (0, 1)
    assert space.ignored_raw_ids == (255,)
    assert space.name == tmp_path.name


def test_255_of_a_class_is_not_void(tmp_path: Path) -> None:
    space = read_description(described(tmp_path, LEAST + "classes: {sea: 0, ship: 255}")).label_space
    assert space.ignored_raw_ids == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a", "expected the keys"),
        ("{", "no YAML"),
        ("!!python/object/apply:os.system [echo]", "no YAML"),
        (LEAST, "classes is missing"),
        (LEAST + "classes: [a]\ncolor: 3", "unknown key 'color'"),
        (LEAST + "classes: [a, a]", "same name"),
        (LEAST + "classes: {no: 1}", "quotes"),
        (LEAST + "classes: {a: 1, b: 1}", "raw ids must differ"),
        (LEAST + "classes: {a: 70000}", "0..65535"),
        (LEAST + "classes: {a: 1, b: [1, 2, 3]}", "classes are a list of names"),
        (LEAST + "classes: {a: [1, 2]}", "no color"),
        (LEAST + "classes: {a: '#12'}", "no color"),
        (LEAST + "classes: [a]\npalette: {b: '#000000'}", "no class 'b'"),
        (LEAST + "classes: [a]\nvoid: 3", "void must be a list"),
        (LEAST + "classes: [a]\nvoid: [0]", "raw ids must differ"),
        (LEAST + "classes: [a]\norientation: left", "orientation must be stored or upright"),
        (LEAST + "classes: [a]\nname: a/b", "letters, digits"),
        (LEAST + "classes: [a]\nseed: x", "seed"),
        ("images: i\nmasks: m\nclasses: [a]\nsplits: {train: 0.9, val: 0.2}", "add up to 1.1"),
        ("images: i\nmasks: m\nclasses: [a]\nsplits: {train: 2}", "between 0 and 1"),
        ("images: i\nmasks: m\nclasses: [a]\nsplits: {train: {}}", "give a share"),
        ("images: i\nmasks: m\nclasses: [a]\nsplits: [train]", "splits must name"),
        ("images: i/*.jpg\nmasks: m\nclasses: [a]\nsplits: {train: 1}", "no pattern"),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(AtrousError, match=sentence) as error:
        read_description(described(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / FILE))
    assert "\n" not in str(error.value)


NAMES = [f"{folder}/{index:03d}" for folder in ("a", "b") for index in range(100)]


def test_shares_are_a_partition_that_a_seed_decides(tmp_path: Path) -> None:
    text = "images: i\nmasks: m\nclasses: [a]\nsplits: {train: 0.7, val: 0.2, test: 0.1}\n"
    chosen = {
        seed: [
            read_description(described(tmp_path, f"{text}seed: {seed}")).choose(split, NAMES, root=tmp_path)
            for split in ("train", "val", "test")
        ]
        for seed in (0, 1)
    }
    for parts in chosen.values():
        assert [len(part) for part in parts] == [140, 40, 20]
        assert sorted(itertools.chain(*parts)) == NAMES
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize(("count", "lengths"), [(2, (1, 1)), (3, (2, 1)), (4, (3, 1)), (10, (8, 2)), (1, (1, 0))])
def test_a_share_of_few_images_is_not_none(tmp_path: Path, count: int, lengths: tuple[int, int]) -> None:
    description = read_description(described(tmp_path, LEAST + "classes: [a]"))
    chosen = [description.choose(split, NAMES[:count], root=tmp_path) for split in ("train", "val")]
    assert tuple(map(len, chosen)) == lengths
    assert sorted(itertools.chain(*chosen)) == NAMES[:count]


def test_more_images_move_few_of_the_others(tmp_path: Path) -> None:
    description = read_description(described(tmp_path, LEAST + "classes: [a]"))
    before = set(description.choose("val", NAMES, root=tmp_path))
    after = set(description.choose("val", [*NAMES, *(f"c/{index}" for index in range(10))], root=tmp_path))
    assert len(before & after) >= 0.8 * len(before)


def test_shares_leave_out_what_other_splits_name(tmp_path: Path) -> None:
    text = "images: i\nmasks: m\nclasses: [a]\nsplits: {train: 0.5, val: 0.5, test: b/*}"
    description = read_description(described(tmp_path, text))
    train, val = (description.choose(split, NAMES, root=tmp_path) for split in ("train", "val"))
    assert len(train) == len(val) == 50
    assert all(name.startswith("a/") for name in train + val)
    assert description.choose("test", NAMES, root=tmp_path) == NAMES[100:]


@pytest.mark.parametrize(
    "line", ["a/003", "a/003.png", "./a/003.jpg", "images/a/003.jpg", "a\\003.jpg", "a/003.jpg a/003.png"]
)
def test_lists_may_name_samples_or_files(tmp_path: Path, line: str) -> None:
    description = read_description(described(tmp_path, "images: i\nmasks: m\nclasses: [a]\nsplits: {train: train.txt}"))
    (tmp_path / "train.txt").write_text(f"{line}\n\n", encoding="utf-8")
    assert description.choose("train", NAMES, root=tmp_path) == ["a/003"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("a/003\nnothing\n", "line 2: 'nothing': there is no such image"), ("003\n", "2 images"), ("\n", "empty")],
)
def test_lists_that_name_no_sample(tmp_path: Path, content: str, sentence: str) -> None:
    description = read_description(described(tmp_path, "images: i\nmasks: m\nclasses: [a]\nsplits: {train: train.txt}"))
    (tmp_path / "train.txt").write_text(content, encoding="utf-8")
    with pytest.raises(AtrousError, match=sentence):
        description.choose("train", NAMES, root=tmp_path)


def test_unknown_splits_and_patterns_without_samples(tmp_path: Path) -> None:
    text = "images: i\nmasks: m\nclasses: [a]\nsplits: {train: c/*}"
    description = read_description(described(tmp_path, text))
    with pytest.raises(AtrousError, match="unknown split 'val'"):
        description.choose("val", NAMES, root=tmp_path)
    with pytest.raises(AtrousError, match=r"no sample has a name like 'c/\*'"):
        description.choose("train", NAMES, root=tmp_path)
