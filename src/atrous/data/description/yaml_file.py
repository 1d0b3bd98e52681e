"""Reading and writing a description: ten lines of YAML that a person can correct."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from atrous.atomic_file import atomic_file
from atrous.data.description.color_code import Color, ColorCode, to_hex
from atrous.data.description.description import Description, Split
from atrous.data.description.patterns import Pattern
from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.errors import AtrousError

_KEYS = ("name", "images", "masks", "classes", "palette", "void", "splits", "seed", "orientation", "unlabeled")
_LINE = 100
_FORM_OF_CLASSES = (
    "classes are a list of names, whose ids count from 0, or names with their ids, or names with their colors "
    "([r, g, b] or '#rrggbb')"
)


def read_description(path: Path) -> Description:
    """Read a description.

    Raises:
        AtrousError: The file is missing, is no YAML, or says something impossible; the sentence names file and key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise AtrousError(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AtrousError(f"{path}: this is no YAML: {' '.join(str(error).split())}") from error
    try:
        return _described(content, path.parent.resolve().name)
    except AtrousError as error:
        raise AtrousError(f"{path}: {error}") from error


def _described(content: Any, folder: str) -> Description:
    if not isinstance(content, Mapping):
        raise AtrousError(f"expected the keys {', '.join(_KEYS)}")
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise AtrousError(f"unknown key {unknown[0]!r}; there are {', '.join(_KEYS)}")
    missing = [key for key in ("images", "masks", "classes", "splits") if key not in content]
    if missing:
        raise AtrousError(f"{missing[0]} is missing")
    for key, choices in (("orientation", ("stored", "upright", None)), ("unlabeled", ("error", "skip"))):
        if key in content and content[key] not in choices:
            raise AtrousError(f"{key} must be {' or '.join(str(each) for each in choices if each)}")
    seed = content.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise AtrousError("seed must be a whole number")
    space, code = _classes(content, str(content.get("name") or safe_name(folder)))
    return Description(
        space,
        Pattern(str(content["images"]), key="images"),
        Pattern(str(content["masks"]), key="masks"),
        _splits(content["splits"]),
        code,
        seed=seed,
        orientation=content.get("orientation"),
        unlabeled=content.get("unlabeled", "error"),
    )


def safe_name(text: str) -> str:
    """A name for a label space, which is a part of file names too."""
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "folder"


def _classes(content: Mapping[str, Any], name: str) -> tuple[LabelSpace, ColorCode | None]:
    if name != safe_name(name):
        raise AtrousError(f"name {name!r} must consist of letters, digits, _ and -")
    classes = content["classes"]
    if isinstance(classes, list):
        classes = {each if isinstance(each, str) else str(each): index for index, each in enumerate(classes)}
        if len(classes) != len(content["classes"]):
            raise AtrousError("two classes have the same name")
    if not isinstance(classes, Mapping) or not classes:
        raise AtrousError(_FORM_OF_CLASSES)
    for each in classes:
        if isinstance(each, bool) or each is None:
            raise AtrousError(f"classes: YAML reads a name as {each!r}; put it in quotes")
    names = tuple(str(each) for each in classes)
    values = list(classes.values())
    hold_ids = [isinstance(value, int) and not isinstance(value, bool) for value in values]
    void = content.get("void")
    if void is not None and not isinstance(void, list):
        raise AtrousError("void must be a list of ids, or of colors where masks hold colors")
    if all(hold_ids):
        ids = tuple(values)
        if any(not 0 <= each <= 65535 for each in ids):
            raise AtrousError("classes: ids must lie in 0..65535")
        ignored = ((255,) if 255 not in ids else ()) if void is None else tuple(_id(each) for each in void)
        return LabelSpace(name, names, _palette(content.get("palette"), names), ids, ignored), None
    if any(hold_ids):
        raise AtrousError(_FORM_OF_CLASSES)
    if "palette" in content:
        raise AtrousError("palette is of no use where classes have colors already")
    colors = tuple(_color(value, f"classes.{each}") for each, value in classes.items())
    code = ColorCode(colors, tuple(_color(each, "void") for each in void or ()))
    return LabelSpace(name, names, colors), code


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise AtrousError(f"void: {value!r} is no id; ids lie in 0..65535")
    return value


def _palette(palette: Any, names: tuple[str, ...]) -> tuple[Color, ...]:
    colors = voc_color_map(max(2, len(names)))[: len(names)]
    if palette is None:
        return colors
    if isinstance(palette, list):
        palette = dict(zip(names, palette, strict=False)) if len(palette) <= len(names) else palette
    if not isinstance(palette, Mapping):
        raise AtrousError("palette must give colors by the names of classes, or a color for each class in order")
    unknown = [str(name) for name in palette if str(name) not in names]
    if unknown:
        raise AtrousError(f"palette: there is no class {unknown[0]!r}")
    given = {str(name): _color(value, f"palette.{name}") for name, value in palette.items()}
    return tuple(given.get(name, color) for name, color in zip(names, colors, strict=True))


def _color(value: Any, key: str) -> Color:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    if (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= 255 for each in value)
    ):
        return value[0], value[1], value[2]
    raise AtrousError(f"{key}: {value!r} is no color; give [r, g, b] of 0..255 or '#rrggbb'")


def _splits(splits: Any) -> dict[str, Split]:
    if not isinstance(splits, Mapping) or not splits:
        raise AtrousError("splits must name shares, lists or patterns, as in {train: 0.8, val: 0.2}")
    found: dict[str, Split] = {}
    for name, value in splits.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 < value <= 1:
                raise AtrousError(f"splits.{name}: a share must lie between 0 and 1, got {value}")
            found[str(name)] = float(value)
        elif isinstance(value, str) and value:
            found[str(name)] = (value,)
        elif isinstance(value, list) and value and all(isinstance(each, str) and each for each in value):
            found[str(name)] = tuple(value)
        else:
            raise AtrousError(
                f"splits.{name}: give a share, a list of names in a .txt file, or a pattern such as train/*"
            )
    total = sum(share for share in found.values() if isinstance(share, float))
    if total > 1 + 1e-6:
        raise AtrousError(f"splits: the shares add up to {total:g}, more than 1")
    return found


def write_description(path: Path, description: Description) -> None:
    """Write a description so that a person can correct it; the file appears whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    space, code = description.label_space, description.color_code
    content: dict[str, Any] = {"name": space.name}
    content |= {"images": description.images.text, "masks": description.masks.text}
    if code is None:
        content["classes"] = dict(zip(space.classes, space.raw_ids, strict=True))
        content["palette"] = dict(zip(space.classes, map(to_hex, space.palette), strict=True))
        content["void"] = list(space.ignored_raw_ids)
    else:
        content["classes"] = dict(zip(space.classes, map(to_hex, code.classes), strict=True))
        content["void"] = [to_hex(color) for color in code.void]
    content["splits"] = {
        name: value if isinstance(value, float) else value[0] if len(value) == 1 else list(value)
        for name, value in description.splits.items()
    }
    if any(isinstance(value, float) for value in description.splits.values()):
        content["seed"] = description.seed
    if description.orientation is not None:
        content["orientation"] = description.orientation
    if description.unlabeled != "error":
        content["unlabeled"] = description.unlabeled
    lines = [_line(key, value) for key, value in content.items()]
    with atomic_file(path) as file:
        file.write("".join(lines).encode())


def _line(key: str, value: object) -> str:
    """A key with its value: on one line, or on several if that would be long."""
    on_one_line = not isinstance(value, dict | list) or len(str(value)) <= _LINE
    node: object = value if on_one_line else {key: value}
    text = yaml.safe_dump(node, default_flow_style=on_one_line, sort_keys=False, allow_unicode=True, width=10**6)
    return f"{key}: {text.removesuffix('...' + chr(10))}" if on_one_line else text
