"""The heat maps of a search show every weight in its place, and frame what is decoded."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from atrous.models.nas import Architecture, Trellis
from atrous.models.nas.decoding import decode
from atrous.models.nas.genotype import Operation
from atrous.reports import operations_figure, paths_figure


def searched(layers: int, blocks: int) -> Architecture:
    architecture = Architecture(Trellis(layers), blocks)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.nn.init.normal_(architecture.alpha)
        torch.nn.init.normal_(architecture.beta)
    return architecture


def read(axes: Axes) -> tuple[dict[tuple[str, str], str], set[tuple[str, str]]]:
    """Numbers by the labels of row and column, and the labels of what is framed."""
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    numbers = {(rows[int(text.get_position()[1])], columns[int(text.get_position()[0])]): text for text in axes.texts}
    framed = {
        (rows[int(patch.get_y() + 0.5)], columns[int(patch.get_x() + 0.5)])
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    }
    return {place: text.get_text() for place, text in numbers.items()}, framed


def test_alpha() -> None:
    architecture = searched(layers=3, blocks=2)
    weights, genotype = architecture.operation_weights(), decode(architecture)
    numbers, framed = read(operations_figure(weights, genotype).axes[0])
    assert len(numbers) == 5 * len(Operation)
    short = {"separable_3x3": "sep 3", "separable_5x5": "sep 5", "atrous_3x3": "atrous 3", "atrous_5x5": "atrous 5"}
    short |= {"average_pooling_3x3": "avg pool", "max_pooling_3x3": "max pool"}
    edges = ["block 1 from l-1", "block 1 from l-2", "block 2 from l-1", "block 2 from l-2", "block 2 from block 1"]
    for edge, row in zip(edges, weights, strict=True):
        for operation, weight in zip(Operation, row, strict=True):
            assert numbers[edge, short.get(operation.value, operation.value)] == f"{100 * float(weight):.0f}"
    assert framed == {
        (f"block {block} from {source}", short.get(operation, operation))
        for block, branches in enumerate(genotype.to_dict()["blocks"], start=1)
        for operation, source in branches
    }


def test_beta() -> None:
    architecture = searched(layers=4, blocks=1)
    weights, genotype = architecture.path_weights(), decode(architecture)
    numbers, framed = read(paths_figure(weights, genotype).axes[0])
    steps = {1: ["4 to 4", "4 to 8"]}
    steps[2] = [*steps[1], "8 to 4", "8 to 8", "8 to 16"]
    steps[3] = [*steps[2], "16 to 8", "16 to 16", "16 to 32"]
    assert numbers.keys() == {(step, str(layer)) for layer, of in steps.items() for step in of}
    strides = (4, 8, 16, 32)
    for (step, layer), shown in numbers.items():
        before, after = map(int, step.split(" to "))
        which = {before // 2: 0, before: 1, 2 * before: 2}[after]
        assert shown == f"{100 * float(weights[int(layer) - 1, strides.index(before), which]):.0f}"
    path = genotype.strides
    assert framed == {(f"{path[layer]} to {path[layer + 1]}", str(layer + 1)) for layer in range(3)}
