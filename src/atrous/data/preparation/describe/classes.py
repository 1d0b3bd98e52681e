"""The classes of masks: their names, ids and colors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from atrous.data.description import ColorCode
from atrous.data.description.color_code import Color
from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.preparation.describe.class_names import find_class_names
from atrous.data.preparation.describe.contents import Contents
from atrous.errors import AtrousError

_VOID = 255
_WORDS_OF_VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled")


class Classes(NamedTuple):
    """Classes of masks.

    Attributes:
        label_space: Names, ids and colors.
        color_code: Colors in the masks; ``None`` if they hold ids.
        said: Where the names are from.
    """

    label_space: LabelSpace
    color_code: ColorCode | None
    said: str


def find_classes(root: Path, name: str, contents: Contents) -> Classes:
    """Name what masks hold, by a file of names in the folder if there is one.

    Masks of 0 and 255 alone have a background and a foreground; 255 beside other ids is void.

    Args:
        root: The folder.
        name: Of the label space.
        contents: What its masks hold.

    Raises:
        AtrousError: There are more classes than are possible.
    """
    known = find_class_names(root, contents.ids, contents.colors)
    said = "" if known is None else f"names of classes are those of {known.file.relative_to(root)}"
    if contents.colors:
        said = said or f"masks hold {len(contents.colors)} colors, whose names you give in the description"
        return _of_colors(name, contents, {} if known is None else known.of_color, said)
    ids = sorted(contents.ids)
    named = {} if known is None else dict(known.of_id)
    if set(ids) <= {0, _VOID} and _VOID in ids:
        named = {0: named.get(0, "background"), _VOID: named.get(_VOID, "foreground")}
        return Classes(_space(name, named, contents.palette, void=()), None, said or "masks hold 0 and 255")
    void = [each for each in ids if named.get(each, "void" if each == _VOID else "").lower() in _WORDS_OF_VOID]
    classes = {each: named.get(each, f"class_{each}") for each in sorted({*ids, *named}) if each not in void}
    if len(classes) > _VOID:
        raise AtrousError(f"{root}: there are {len(classes)} classes; at most {_VOID} are possible")
    said = said or f"masks hold the ids {', '.join(map(str, ids))}, whose names you give in the description"
    return Classes(_space(name, classes, contents.palette, void=tuple(void) or (_VOID,)), None, said)


def _of_colors(name: str, contents: Contents, named: Mapping[Color, str], said: str) -> Classes:
    found = [color for color, _ in sorted(contents.colors.items(), key=lambda each: (-each[1], each[0]))]
    colors = [*named, *(color for color in found if color not in named)]
    void = [color for color in colors if named.get(color, "").lower() in _WORDS_OF_VOID]
    classes = [color for color in colors if color not in void]
    names = _distinct([named.get(color, f"class_{number}") for number, color in enumerate(classes)])
    return Classes(LabelSpace(name, names, tuple(classes)), ColorCode(classes, void), said)


def _space(name: str, named: Mapping[int, str], palette: Mapping[int, Color], *, void: tuple[int, ...]) -> LabelSpace:
    """Colors are those of the files, or VOC's by the order of classes."""
    usual = voc_color_map(max(2, len(named)))
    colors = tuple(palette.get(each, usual[place]) for place, each in enumerate(named))
    return LabelSpace(name, _distinct(list(named.values())), colors, tuple(named), void)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Names, with their place where several are the same."""
    return tuple(name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names))
