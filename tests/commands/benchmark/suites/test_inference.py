"""Prediction of the same network here and at a peer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.peers import build_pair
from atrous.commands.benchmark.suites.inference import forms_of
from atrous.errors import AtrousError
from atrous.models import Segmentor

SMALL = {
    "networks": [{"peer": "smp", "model": "deeplabv3plus", "backbone": "resnet18"}],
    "cases": [[2, 65, 97]],
    "forms": ["eager", "folded", "bf16"],
    "rounds": 3,
    "threads": 1,
}


def run(**options: Any) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=400)
    result = run_suite("inference", {**SMALL, **options}, console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_ratios_are_of_the_network_as_it_comes_and_of_its_fastest_form() -> None:
    threads = torch.get_num_threads()
    result, said = run()
    (row,) = result["rows"]
    medians = {name: timing["median"] for name, timing in row["ms"].items()}
    assert medians.keys() == {
        *("ours, eager", "ours, folded", "ours, bf16", "theirs, channels last", "theirs, channels first")
    }
    theirs = min(medians["theirs, channels last"], medians["theirs, channels first"])
    ours = min(medians["ours, eager"], medians["ours, folded"], medians["ours, bf16"])
    assert result["means"]["folded"] == pytest.approx(theirs / medians["ours, folded"])
    assert row["ratio"] == theirs / medians["ours, eager"] == pytest.approx(result["means"]["eager"])
    assert row["best_ratio"] == theirs / ours == pytest.approx(result["means"]["best form"])
    assert row["images_per_second"] == pytest.approx(2000 / ours)
    assert row["case"] == "smp deeplabv3plus resnet18 2x65x97 os16 fp32"
    assert f"{row['case']}: {row['ratio']:.2f}x, best {row['best_ratio']:.2f}x" in said
    assert torch.get_num_threads() == threads


@torch.no_grad()
def test_all_forms_compute_the_peers_logits() -> None:
    pair = build_pair("smp", "deeplabv3plus", "resnet18", 16)
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    wanted = pair.theirs.eval()(image)
    forms = forms_of(pair.ours, ["folded"])
    assert [*forms] == ["eager", "folded"]
    for form in forms.values():
        torch.testing.assert_close(form(image), wanted, rtol=0, atol=float(1e-3 * wanted.std()))


def test_one_form_is_computed_in_bf16_whatever_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []  # whether batch norms are folded, whether autocast is on
    forward = Segmentor.forward

    def look(self: Segmentor, *inputs: Any, **options: Any) -> Any:
        folded = not [each for each in self.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        seen.append((folded, torch.is_autocast_enabled("cpu")))
        return forward(self, *inputs, **options)

    monkeypatch.setattr(Segmentor, "forward", look)
    run(forms=["bf16"], rounds=1)
    assert set(seen[-2:]) == {(False, False), (True, True)}


def test_the_compiled_form_is_the_folded_one() -> None:
    forms = forms_of(build_pair("smp", "deeplabv3plus", "resnet18", 16).ours, ["eager", "compiled"])
    assert [*forms] == ["eager", "compiled"]
    assert forms["compiled"]._compiled_call_impl is not None
    assert not [each for each in forms["compiled"].modules() if isinstance(each, torch.nn.BatchNorm2d)]


def test_the_interpreter_is_a_peer(shared: Path) -> None:
    file = shared / "weights/deeplabv3_257_mv_gpu.tflite"
    if not file.is_file():
        pytest.skip(f"{file} does not exist")
    pytest.importorskip("ai_edge_litert")
    result, said = run(networks=[], tflite=str(file), forms=["eager"])
    (row,) = result["rows"]
    assert row["case"] == "tflite deeplabv3_257_mv_gpu 1x257x257 fp32"
    assert row["ratio"] == row["ms"]["theirs, interpreter"]["median"] / row["ms"]["ours, eager"]["median"]
    assert result["means"] == {}  # of another kind than the peers
    assert "interpreter" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forms": ["fused"]}, r"inference.forms=\['fused'\]: fused is none of eager, folded, compiled, bf16"),
        ({"precisions": ["fp8"]}, "inference.precisions=.*fp8 is none of fp32, bf16"),
        ({"cases": [[1, 513]]}, r"inference.cases: \[1, 513\] must name batch, height and width"),
        ({"rounds": 0}, r"inference.rounds=0 must be at least 1"),
        ({"networks": [], "tflite": "missing.tflite"}, "there is no weights file path=missing.tflite"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AtrousError, match=words):
        run(**options)
