"""Every setting that our own words name exists: those of messages, docstrings, comments, README, docs and Makefile.

A setting is a ``key=value``, a dotted key, or a choice in a table. Nothing here lists what there is: keys are looked up
in the composed configurations of all entry points, and where the default choice of a group lacks one, in those of its
other choices. ``{...}`` of f-strings, ``<...>`` and dots stand for anything.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from atrous.checkpoints.foreign import SOURCES
from atrous.commands.benchmark.command import SUITES
from atrous.commands.prepare.command import TASKS
from atrous.commands.search.command import TASKS as SEARCH_TASKS
from atrous.composition import ARCHITECTURE, register_resolvers

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
ENTRY_POINTS = tuple(path.stem for path in sorted(CONF.glob("*.yaml")) if path.stem != "wandb_sweep")  # W&B's
GROUPS = tuple(path.name for path in sorted(CONF.iterdir()) if path.is_dir())
# choices that are no files of conf/
NAMED_IN_CODE = {"task": (*TASKS, *SEARCH_TASKS, ARCHITECTURE), "suite": SUITES, "source": SOURCES}

# Words that look like settings and are none.
ARGUMENTS = {
    "num_classes": "the data set decides it; an argument in Python",
    "feature": "an argument of a head that takes part in training only, which has no section of its own",
    "bytes": "HTTP's",
    "filter": "timm's",
    "weights_only": "PyTorch's",
}

ANYTHING = "\0"
KEY = rf"[A-Za-z_{ANYTHING}][\w{ANYTHING}]*(?:\.[\w{ANYTHING}]+)*"
SETTING = re.compile(rf"(?<![\w.\-/\[{{@$])(?P<sign>\+{{0,2}})(?:(?P<group>\w+)@)?(?P<key>{KEY})=(?=[^\s=])")
BRACES = re.compile(r"([\w.]+\.)\{([^{}\s]*=[^{}\s]*)\}")  # a shell makes several of key.{a=1,b=2}


@dataclass(frozen=True)
class Setting:
    """One that is named somewhere.

    Attributes:
        where: File and line.
        key: Dotted; with a placeholder where any name can stand.
        value: As on the command line; empty where only the key is named.
        sign: ``+`` where the key is to be added.
        group: Group of a choice that is placed elsewhere, as in ``loss@loss.terms.dice``.
    """

    where: str
    key: str
    value: str = ""
    sign: str = ""
    group: str = ""

    def __str__(self) -> str:
        """As it stands there."""
        group = f"{self.group}@" if self.group else ""
        return f"{self.sign}{group}{self.key}={self.value}".rstrip("=")


# Where words are.


def texts() -> Iterator[tuple[str, str, bool]]:
    """File and line, text, and whether dotted names in it are settings rather than parts of Python or of a network."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for line, text, prose in python_texts(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}:{line}", text, prose
    for path in sorted(CONF.rglob("*.yaml")):
        for line, text in comments(path):
            yield f"{path.relative_to(ROOT)}:{line}", text, True
    pages = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("[!.]*/*.md")), ROOT / "Makefile"]
    for path in pages:
        of_people = re.sub(
            r"```python\n.*?```",
            lambda code: "\n" * code[0].count("\n"),
            path.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        for line, text in enumerate(of_people.splitlines(), start=1):
            if path.name != "Makefile" or "#" in text or "src/" in text:
                yield f"{path.relative_to(ROOT)}:{line}", re.sub(r"<(?:img|source)[^>]*>", "", text), True


def python_texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is for people, of the comments and strings of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False
    tree = ast.parse(source)
    for_people: set[int] = set()
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring stands for itself; print and warn are called for themselves
            called = node.value.func if isinstance(node.value, ast.Call) else None
            if called is None or ast.unparse(called) in ("print", "warnings.warn", "console.print"):
                for_people.update(map(id, ast.walk(node)))
        if isinstance(node, ast.Raise):
            for_people.update(map(id, ast.walk(node)))
        if isinstance(node, ast.JoinedStr):
            parts.update(id(part) for part in ast.walk(node) if part is not node)
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) in for_people
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in node.values)
            yield node.lineno, text, id(node) in for_people


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the comments of a configuration file."""
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = re.search(r"(?:^|\s)#\s(.*)", text)
        if found:
            yield line, found[1]


def settings(where: str, text: str, *, dotted: bool = True) -> Iterator[Setting]:
    """The settings that a text names."""
    for command in commands(where, text):
        yield from command
    if dotted:
        for found in dotted_keys().finditer(without_dots(text.replace("model.safetensors", ""))):  # a file
            yield Setting(where, found["key"])


def commands(where: str, text: str) -> list[list[Setting]]:
    """Settings with values, those together that have nothing but spaces between them."""
    text = BRACES.sub(lambda found: " ".join(found[1] + part for part in found[2].split(",")), without_dots(text))
    together: list[list[Setting]] = []
    end = -1
    for found in SETTING.finditer(text):
        value = value_at(text, found.end())
        if not value or found["key"].isupper():  # variables of the shell and of make
            continue
        if end < 0 or text[end : found.start()].strip():
            together.append([])
        together[-1].append(Setting(where, found["key"], value, found["sign"], found["group"] or ""))
        end = found.end() + len(value)
    return together


def without_dots(text: str) -> str:
    return re.sub(r"\.\.\.|…", ANYTHING, text.replace(r"\|", "|"))


@functools.cache
def dotted_keys() -> re.Pattern[str]:
    """Names whose first part is a group or a section, where no value follows; names of files are none."""
    roots = {key for entry in ENTRY_POINTS for key in keys(entry) if "." not in key} | set(GROUPS)
    key = rf"(?:{'|'.join(sorted(roots))})(?!\.(?:py|yaml|png)\b)(?:\.[a-z_{ANYTHING}][\w{ANYTHING}]*)+"
    return re.compile(rf"(?<![\w.\-/\[{{@$=])(?P<key>{key})(?!\.?[\w{ANYTHING}]|[(/=])")


def value_at(text: str, start: int) -> str:
    """The value that begins at a place: a quoted one, or up to what ends a word outside brackets."""
    if text[start] in "'\"":
        return text[start : text.find(text[start], start + 1) + 1]
    depth, end = 0, start
    while end < len(text):
        character = text[end]
        if character in "[{(<":
            depth += 1
        elif character in "]})>":
            depth -= 1
        ends = character in "`;'\"" or re.match(r"\s|,(\s|$)", text[end:])
        if depth < 0 or (depth == 0 and ends):
            break
        end += 1
    return text[start:end].rstrip(".:,")


# What there is.


@functools.cache
def keys(entry: str, *overrides: str) -> frozenset[str]:
    """Dotted keys of a configuration, sections included."""

    def paths(node: Any, prefix: str) -> Iterator[str]:
        for name, value in node.items() if isinstance(node, dict) else ():
            yield f"{prefix}{name}"
            yield from paths(value, f"{prefix}{name}.")

    return frozenset(paths(OmegaConf.to_container(composed_as(entry, *overrides)), ""))


def composed_as(entry: str, *overrides: str) -> DictConfig:
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(entry, list(overrides), return_hydra_config=any(each.startswith("hydra/") for each in overrides))


def problem(setting: Setting) -> str | None:
    """Why a setting would be refused; ``None`` for one that composes."""
    alternatives = [setting.value]
    if setting.group or setting.key in GROUPS:
        alternatives = re.split(r"[|,]", setting.value.strip("[]"))
        group = setting.group or setting.key
        for choice in alternatives:
            if setting.key in NAMED_IN_CODE and choice in NAMED_IN_CODE[setting.key]:
                continue
            if not is_placeholder(choice) and not (CONF / group / f"{choice}.yaml").is_file():
                return f"conf/{group} has no {choice}"
    elif setting.key in NAMED_IN_CODE:
        alternatives = re.split(r"[|,]", setting.value)
        unknown = [each for each in alternatives if not is_placeholder(each) and each not in NAMED_IN_CODE[setting.key]]
        if unknown:
            return f"{setting.key} is one of {', '.join(NAMED_IN_CODE[setting.key])}"
    elif setting.sign:  # a key to add needs a section to be added to
        if not exists(setting.key.rpartition(".")[0]):
            return "there is no such section"
    elif setting.key not in ARGUMENTS and not exists(setting.key):
        return "there is no such key"
    try:
        for value in alternatives:
            written = re.sub(rf"<[^<>]*>|{ANYTHING}", "x", f"{setting.key}={value}")
            OverridesParser.create().parse_override(written)
    except HydraException as error:
        return f"Hydra cannot read it: {error}"
    return None


def is_placeholder(value: str) -> bool:
    return ANYTHING in value or "<" in value


def exists(key: str) -> bool:
    """Whether a key is there in any entry point, with any choice of its group; a single name may be any key's last."""
    wanted = re.compile(re.escape(key).replace(re.escape(ANYTHING), r"[^.]+"))
    if "." not in key:
        wanted = re.compile(rf"(.+\.)?{wanted.pattern}")
    if any(wanted.fullmatch(each) for entry in ENTRY_POINTS for each in keys(entry)):
        return True
    if key.startswith("hydra."):
        return any(wanted.fullmatch(each) for each in keys("train", "hydra/sweeper=optuna", "hydra/launcher=joblib"))
    group = key.split(".")[0]
    choices = sorted((CONF / group).glob("*.yaml")) if "." in key else []
    last = key.rpartition(".")[2]
    choices.sort(key=lambda path: last not in path.read_text(encoding="utf-8"))  # those that have it themselves first
    entry = "export" if group == "format" else "train"
    return any(wanted.fullmatch(each) for path in choices for each in keys(entry, f"{group}={path.stem}"))


# Tests.


def test_every_setting_that_words_name_composes() -> None:
    named = [each for where, text, prose in texts() for each in settings(where, text, dotted=prose)]
    refused = [
        f"{each.where}: {str(each).replace(ANYTHING, '…')}: {why}"
        for each in named
        if (why := problem(each)) is not None
    ]
    assert not refused, "\n" + "\n".join(refused)
    different = {str(each) for each in named}
    assert len(different) > 80
    for kind, least in ((".py", 60), (".yaml", 50), (".md", 90), ("Makefile", 1)):
        assert sum(kind in each.where for each in named) >= least, kind
    unused = set(ARGUMENTS) - {each.key for each in named}
    assert unused == set(), "an exception that nothing needs"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("set model.head.low_level_stride=8.", "model.head.low_level_stride=8"),
        ("`backbone.output_stride=8\\|16`, or backbone=timm)", "backbone.output_stride=8|16; backbone=timm"),
        ("(``task.train_only=[head.taps]``)", "task.train_only=[head.taps]"),
        ("data.repeat_classes={bicycle: 2}, then", "data.repeat_classes={bicycle: 2}"),
        ("'model.multi_grid=[1,1],[1,2]' x", "model.multi_grid=[1,1],[1,2]"),
        ("input='my photos/*.jpg' output=masks", "input='my photos/*.jpg' output=masks"),
        ("ckpt_path=<run folder or checkpoint> data=... x", f"ckpt_path=<run folder or checkpoint> data={ANYTHING}"),
        ("dupsampling.{ratio=32,width=256}", "dupsampling.ratio=32 dupsampling.width=256"),
        ("+loss@loss.terms.dice=dice", "+loss@loss.terms.dice=dice"),
        ("atrous.data.dataset, a == b, --output-file=x, PYTHON=python3", ""),
    ],
)
def test_settings_are_found_in_words(text: str, found: str) -> None:
    assert "; ".join(" ".join(map(str, command)) for command in commands("here", text)) == found
    assert not set(settings("here", text)) - set(settings("here", text, dotted=False))


def test_messages_docstrings_and_comments_of_code_are_read() -> None:
    source = '''"""Set ``task.compile=true``."""
def f(x):
    # or seed=1
    y = f"backbone.network.conv{x}"
    raise AtrousError(f"augment.flip={x} of augment.scale or "
                      "augment.step")
'''
    found = {
        (line, str(each)) for line, text, prose in python_texts(source) for each in settings("here", text, dotted=prose)
    }
    flip = f"augment.flip={ANYTHING}"
    assert found == {(1, "task.compile=true"), (3, "seed=1"), (5, flip), (5, "augment.scale"), (5, "augment.step")}


@pytest.mark.parametrize(
    "wrong",
    [
        "model.upsampler.ratio=4",
        "model.upsampler.cell",
        "backbone.norm=folded",
        "augment.padvalue",
        "model=deeplabv9",
        "task=dup",
        "out_stride=8",
        "+bakbone.taps=[]",
        "data.repeat_classes={bicycle: 2",
        "+loss@loss.terms.dice=dise",
    ],
)  # fmt: skip
def test_a_wrong_setting_is_seen(wrong: str) -> None:
    (setting,) = settings("here", wrong)
    assert problem(setting) is not None


@pytest.mark.parametrize(("page", "choices", "recipes"), [("README.md", 60, 4), ("docs/results.md", 0, 34)])
def test_every_choice_in_the_tables_exists(page: str, choices: int, recipes: int) -> None:
    """Rows ``| `group` | choices |`` name files of ``conf/``, or keys of the section; recipes are named in short."""
    seen = {"choice": 0, "recipe": 0}
    of_recipes = False
    for line, text in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        cells = [cell.strip() for cell in text.replace(r"\|", "/").split("|")]
        if len(cells) < 3:
            of_recipes = False
            continue
        if cells[1].startswith("recipe"):
            of_recipes = True
        elif cells[1].startswith("---"):
            continue
        elif of_recipes:
            for recipe in recipe_names(cells[1]):
                assert (CONF / "experiment" / f"{recipe}.yaml").is_file(), f"{page}:{line}: {recipe}"
                seen["recipe"] += 1
        elif (groups := re.findall(r"`(\w+)`", cells[1])) and set(groups) <= {*GROUPS, "task"}:
            for name in re.findall(r"`([a-z]\w*)`", cells[2]):
                files = [CONF / group / f"{name}.yaml" for group in groups]
                there = any(map(Path.is_file, files)) or any(exists(f"{group}.{name}") for group in groups)
                assert there or name in GROUPS, f"{page}:{line}: {groups}={name}"
                seen["choice"] += 1
    assert seen["choice"] >= choices
    assert seen["recipe"] >= recipes


def recipe_names(cell: str) -> list[str]:
    """`` `a_voc`, `_large`, `{b,c}_voc` ``: a_voc, a_voc_large, b_voc and c_voc."""
    names: list[str] = []
    whole = ""
    for name in re.findall(r"`([\w{},]+)`", cell):
        if name.startswith("_"):
            names.append(whole + name)
            continue
        options = re.search(r"\{(.*)\}", name)
        names += [name.replace(options[0], each) for each in options[1].split(",")] if options else [name]
        whole = names[-1]
    return names


RECIPES = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_what_a_recipe_says_of_itself_composes_with_it(recipe: Path) -> None:
    """Settings that stand together are given together, and every part takes the values that it then has."""
    for line, text in comments(recipe):
        if "src/" in text:  # whole commands are run by tests/integration/test_named_commands.py
            continue
        for command in commands("", text):
            given = [re.sub(rf"<[^<>]*>|{ANYTHING}", "x", str(each)) for each in command]
            if "init_from=x" not in given:
                given.append("init_from=null")  # second stages need a first one's weights
            config = composed_as("train", f"experiment={recipe.stem}", *given)
            assert refusals(config) == [], f"{recipe.name}:{line}: {given}"


def refusals(config: Any) -> list[str]:
    """What the classes of a configuration would not take."""
    if OmegaConf.is_list(config):
        return [each for node in config for each in refusals(node)]
    if not OmegaConf.is_dict(config):
        return []
    nodes = {name: config._get_node(name) for name in config}
    found = [each for node in nodes.values() for each in refusals(node)]
    if "_target_" in nodes:
        target = get_class(config._target_)
        taken = inspect.signature(target).parameters
        given = [str(name) for name in nodes if not str(name).startswith("_")]
        if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
            found += [f"{target.__name__} takes no {name}" for name in given if name not in taken]
    return found
