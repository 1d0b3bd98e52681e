from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from atrous.data.label_space import IGNORE_COLOR, LabelSpace
from atrous.errors import AtrousError

# raw ids out of order and with gaps, two void ids: what Cityscapes does
STREETS = LabelSpace(
    name="streets",
    classes=("road", "car", "sky"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
    raw_ids=(7, 26, 23),
    ignored_raw_ids=(0, 4),
)


def test_encode_maps_raw_ids_to_train_ids_and_void_to_255() -> None:
    raw = np.array([[7, 26, 23], [0, 4, 7]], dtype=np.uint8)
    encoded = STREETS.encode(raw, "a.png")
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[0, 1, 2], [255, 255, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_encode_does_not_depend_on_the_integer_type(dtype: type) -> None:
    raw = np.array([[7, 26, 4]], dtype=dtype)
    assert STREETS.encode(raw, "a.png").tolist() == [[0, 1, 255]]


def test_raw_ids_above_255_survive_the_way_there_and_back() -> None:
    space = LabelSpace("context", ("a", "b"), ((1, 2, 3), (4, 5, 6)), raw_ids=(415, 9), ignored_raw_ids=(0,))
    raw = np.array([[415, 9, 0]], dtype=np.uint16)
    train = space.encode(raw, "a.mat")
    assert train.tolist() == [[0, 1, 255]]
    decoded = space.decode(train)
    assert decoded.dtype == np.uint16
    assert decoded.tolist() == raw.tolist()


@pytest.mark.parametrize(("raw", "named"), [([[7, 8, 200]], "8, 200"), ([[-1, 7]], "-1"), ([[7, 3000]], "3000")])
def test_unknown_ids_are_named_with_their_file(raw: list[list[int]], named: str) -> None:
    for kind in (np.int64, np.uint8):
        if np.array(raw).min() >= 0 and np.array(raw).max() <= np.iinfo(kind).max:
            with pytest.raises(
                AtrousError, match=rf"folder/a\.png: label ids {named} are outside the label space 'streets'"
            ):
                STREETS.encode(np.array(raw, kind), "folder/a.png")


def test_many_unknown_ids_do_not_flood_the_terminal() -> None:
    with pytest.raises(AtrousError, match=r"label ids 1, 2, 3, 5, 6, 8, 9, 10, 11, 12, \.\.\. are"):
        STREETS.encode(np.arange(256, dtype=np.uint8), "a.png")


def test_decode_is_the_inverse_for_submissions() -> None:
    train = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    assert STREETS.decode(train).tolist() == [[7, 26, 23, 0]]
    assert STREETS.encode(STREETS.decode(train), "a.png").tolist() == train.tolist()


def test_decode_refuses_what_is_no_train_id() -> None:
    with pytest.raises(AtrousError, match=r"\[3\] are no train ids of label space 'streets', only 0-2, 255 are"):
        STREETS.decode(np.array([[0, 3]], dtype=np.uint8))


def test_decode_refuses_void_where_the_data_set_has_none() -> None:
    space = dataclasses.replace(STREETS, ignored_raw_ids=())
    with pytest.raises(AtrousError, match=r"\[255\] are no train ids"):
        space.decode(np.array([[0, 255]], dtype=np.uint8))


def test_colorize_paints_each_pixel_with_its_class() -> None:
    mask = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    painted = STREETS.colorize(mask)
    assert painted.dtype == np.uint8
    assert painted.shape == (2, 2, 3)
    assert [tuple(pixel) for pixel in painted.reshape(-1, 3).tolist()] == [*STREETS.palette, IGNORE_COLOR]


def test_png_palette_makes_pillow_show_the_same_colors_as_colorize() -> None:
    mask = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(STREETS.png_palette())
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture.convert("RGB")), STREETS.colorize(mask))


def test_plain_form_survives_json() -> None:
    assert LabelSpace.from_dict(json.loads(json.dumps(STREETS.to_dict()))) == STREETS


def test_survives_pickling_after_use_as_loader_processes_need() -> None:
    STREETS.encode(np.array([[7]], dtype=np.uint8), "a.png")
    assert pickle.loads(pickle.dumps(STREETS)) == STREETS


def test_raw_ids_default_to_train_ids() -> None:
    space = LabelSpace("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert space.raw_ids == (0, 1)
    assert space.num_classes == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"palette": ((0, 0, 0),)}, "1 colors for 3 classes"),
        ({"raw_ids": (1, 2)}, "2 raw ids for 3 classes"),
        ({"raw_ids": (7, 7, 23)}, "raw ids must differ"),
        ({"ignored_raw_ids": (7,)}, "raw ids must differ"),
        ({"raw_ids": (-1, 2, 3)}, "raw ids must differ and be >= 0"),
        ({"ignore_index": 2}, "3 classes with ignore index 2"),
        ({"ignore_index": 300}, "3 classes with ignore index 300"),
    ],
)
def test_definitions_that_contradict_themselves_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        dataclasses.replace(STREETS, **change)
