"""Who may know whom: parts of a network stay plain PyTorch, data knows no model, few modules know Hydra."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FLOORS = (
    (
        "errors",
        "places",
        "geometry",
        "atomic_file",
        "signatures",
        "terminal",
        "runs",
        "native",
        "memory",
        "autocast",
        "machine",
        "hub",
        "launch",
        "trials",
    ),
    ("models", "losses", "metrics", "crf", "data"),
    ("inference", "checkpoints", "loggers", "reports"),
    ("training", "callbacks", "exports"),
    ("composition",),
    ("commands",),
)
"""The house from the ground up: a room knows those of its own floor and of the floors below."""
ROOMS = [room for floor in FLOORS for room in floor]
PLAIN = ("geometry", "native", "autocast", "models", "losses", "metrics", "crf", "inference")
FRAMEWORKS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb", "tensorboard", "rich", "albumentations"}
JOINING = {"data", "loggers", "callbacks", "training", "reports", "checkpoints", "composition", "commands", "terminal"}
NETWORK = {"models", "losses", "crf", "inference", "training"}
EXTRAS = {
    "ai_edge_litert",
    "pydensecrf",
    "optuna",
    "hydra_plugins",
    "submitit",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "gradio",
    "openvino",
    "nncf",
    "executorch",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module imports by itself, at any place in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def inside(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def reached(part: str) -> dict[str, str]:
    """Every module that is imported together with ``atrous.<part>``, with the one that asks for it."""
    asked = {module: "" for module in MODULES if inside(module, f"atrous.{part}")}
    asked["atrous"] = ""  # the door imports what it opens only when it is called; there is a test of its own
    queue = [module for module in asked if module != "atrous"]
    while queue:
        module = queue.pop()
        for name in imports(module):
            # a package's own initialization runs before any of its modules
            parents = [".".join(name.split(".")[: i + 1]) for i in range(name.count(".") + 1)]
            for each in parents if parents[0] == "atrous" else [parents[0]]:
                if each not in asked and (each in MODULES or parents[0] != "atrous"):
                    asked[each] = module
                    queue += [each] if each in MODULES else []
    return asked


def violations(part: str, forbidden: set[str]) -> list[str]:
    return [f"{asking} imports {name}" for name, asking in reached(part).items() if name in forbidden]


def test_the_walk_sees_imports() -> None:
    """Otherwise every rule below would hold of nothing."""
    assert "atrous.data.dataset" in reached("checkpoints")
    assert "lightning" in reached("training")
    assert "atrous.models.backbones.backbone" in reached("models.heads")


@pytest.mark.parametrize("part", [p for p in PLAIN if any(inside(m, f"atrous.{p}") for m in MODULES)])
def test_parts_of_a_network_are_plain_pytorch(part: str) -> None:
    assert reached(part)
    assert violations(part, FRAMEWORKS | {f"atrous.{each}" for each in JOINING}) == []
    if part != "metrics":
        assert violations(part, {"torchmetrics"}) == []


def test_data_knows_no_model() -> None:
    assert violations("data", {f"atrous.{part}" for part in NETWORK} | {"timm"}) == []


def room_of(module: str) -> str:
    return module.split(".")[1]


def arrows() -> set[tuple[str, str, str]]:
    """Which module of a room asks for which other room."""
    found = set()
    for module in MODULES:
        if module in ("atrous", "atrous.__main__") or not inside(module, "atrous"):  # doors, which may open any room
            continue
        for name in imports(module):
            if name == "atrous":
                found.add((module, room_of(module), "commands"))  # the door opens every room
            elif name.startswith("atrous.") and room_of(name) != room_of(module) and room_of(name) in ROOMS:
                found.add((module, room_of(module), room_of(name)))
    return found


def test_every_room_is_on_a_floor() -> None:
    assert {room_of(module) for module in MODULES if module.startswith("atrous.")} - {"__main__"} <= set(ROOMS)


def test_no_arrow_runs_up() -> None:
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    assert arrows()
    assert [each for each in sorted(arrows()) if level[each[2]] > level[each[1]]] == []


def test_there_is_no_circle() -> None:
    """Not even within a floor: rooms can be put in a row so that each knows only those before it."""
    knows = {room: {there for _, here, there in arrows() if here == room} for room in ROOMS}
    while knows:
        ground = [room for room, others in knows.items() if not others & knows.keys()]
        assert ground, f"a circle among {sorted(knows)}"
        for room in ground:
            del knows[room]


@pytest.mark.parametrize(
    ("room", "other"), [("upsamplers", "backbones"), ("upsamplers", "heads"), ("heads", "upsamplers")]
)
def test_upsamplers_know_no_other_part_of_a_network(room: str, other: str) -> None:
    asking = {m for m in MODULES if inside(m, f"atrous.models.{room}")}
    assert len(asking) > 3
    assert not [m for m in asking if any(inside(name, f"atrous.models.{other}") for name in imports(m))]


def test_no_head_names_a_backbone() -> None:
    known = {"atrous.models.backbones", "atrous.models.backbones.backbone"}
    for module in MODULES:
        if inside(module, "atrous.models.heads"):
            named = {n for n in imports(module) if inside(n, "atrous.models.backbones")}
            assert {n for n in named if n in MODULES} <= known, module


def test_only_composition_knows_hydra() -> None:
    knowing = {m for m in MODULES if any(n.split(".")[0] in ("hydra", "omegaconf") for n in imports(m))}
    assert knowing
    assert {m for m in knowing if not inside(m, "atrous.composition")} == {"hydra_plugins.atrous_search"}


def test_entry_points_are_a_few_lines() -> None:
    for name in (
        "train",
        "evaluate",
        "predict",
        "prepare",
        "search",
        "sweep",
        "figures",
        "benchmark",
        "export",
        "demo",
    ):
        assert {n for n in imports(name) if n in MODULES} == {f"atrous.commands.{name}"}


def test_what_configurations_name_is_shown_by_a_package() -> None:
    """Targets stand in checkpoints: they must not change when a class moves within its package."""
    named = set()
    for path in (SOURCE.parent / "conf").rglob("*.yaml"):
        named |= set(re.findall(r"_target_: (atrous\.[\w.]+)", path.read_text(encoding="utf-8")))
    assert len(named) > 40
    for target in named:
        package, _, name = target.rpartition(".")
        assert MODULES[package].name == "__init__.py", target
        assert hasattr(importlib.import_module(package), name), target


def test_only_augmentation_knows_albumentations() -> None:
    knowing = {m for m in MODULES if any(inside(n, "albumentations") for n in imports(m))}
    assert knowing
    assert {m for m in knowing if not inside(m, "atrous.data.augment")} == set()


def test_no_module_needs_an_extra_when_it_is_imported() -> None:
    found = []
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # the top level only
            if isinstance(node, ast.Import):
                found += [f"{module}: {a.name}" for a in node.names if a.name.split(".")[0] in EXTRAS]
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in EXTRAS:
                found.append(f"{module}: {node.module}")
    assert found == []


def test_there_are_no_utils() -> None:
    assert [m for m in MODULES if {"utils", "util", "helpers", "misc", "common"} & set(m.split("."))] == []


@pytest.mark.long
def test_a_notebook_gets_a_network_without_the_frameworks() -> None:
    """What the walk above cannot see: modules that third parties load."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import atrous.models.backbones, atrous.models.heads, atrous.models.upsamplers;"
        "import atrous.losses, atrous.inference, atrous.crf;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(SOURCE)], capture_output=True, text=True, check=True, timeout=120
    )
    # timm itself looks for wandb
    assert set(loaded.stdout.split()) & {"lightning", "hydra", "omegaconf", "albumentations", "torchmetrics"} == set()
