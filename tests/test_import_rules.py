"""Who may know whom: parts of a network stay plain PyTorch, data knows no model, few modules know Hydra."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PLAIN = ("backbones", "heads", "upsamplers", "nas", "losses", "schedules", "segmentor", "metrics", "crf", "inference")
FRAMEWORKS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb", "tensorboard", "rich", "albumentations"}
JOINING = {
    "data",
    "loggers",
    "callbacks",
    "training",
    "reports",
    "checkpoints",
    "composition",
    "benchmarks",
    "preparation",
}
NETWORK = {"backbones", "heads", "upsamplers", "nas", "segmentor", "losses", "crf", "inference", "training"}
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
    queue = list(asked)
    while queue:
        module = queue.pop()
        for name in imports(module):
            # a package's own initialisation runs before any of its modules
            parents = [".".join(name.split(".")[: i + 1]) for i in range(name.count(".") + 1)]
            for each in parents if parents[0] == "atrous" else [parents[0]]:
                if each not in asked and (each in MODULES or parents[0] != "atrous"):
                    asked[each] = module
                    queue += [each] if each in MODULES else []
    return asked


def offences(part: str, forbidden: set[str]) -> list[str]:
    return [f"{asking} imports {name}" for name, asking in reached(part).items() if name in forbidden]


def test_the_walk_sees_imports() -> None:
    """Otherwise every rule below would hold of nothing."""
    assert "atrous.data.dataset" in reached("checkpoints")
    assert "lightning" in reached("training")
    assert "atrous.backbones.backbone" in reached("heads")


@pytest.mark.parametrize("part", [p for p in PLAIN if any(inside(m, f"atrous.{p}") for m in MODULES)])
def test_parts_of_a_network_are_plain_pytorch(part: str) -> None:
    assert reached(part)
    assert offences(part, FRAMEWORKS | {f"atrous.{each}" for each in JOINING}) == []
    if part != "metrics":
        assert offences(part, {"torchmetrics"}) == []


def test_data_knows_no_model() -> None:
    assert offences("data", {f"atrous.{part}" for part in NETWORK} | {"timm"}) == []


def test_only_entry_points_and_composition_know_hydra() -> None:
    knowing = {m for m in MODULES if any(n.split(".")[0] in ("hydra", "omegaconf") for n in imports(m))}
    assert {m for m in knowing if "." in m} == {"atrous.composition"}


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
        "import atrous.segmentor, atrous.backbones, atrous.heads, atrous.upsamplers, atrous.losses, atrous.inference;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(SOURCE)], capture_output=True, text=True, check=True, timeout=120
    )
    # timm itself looks for wandb
    assert set(loaded.stdout.split()) & {"lightning", "hydra", "omegaconf", "albumentations", "torchmetrics"} == set()
