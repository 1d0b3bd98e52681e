"""Learning-rate policies over a training of 20,000 steps: fixed, step, inv, cosine and poly with three powers."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from atrous.commands.figures.source import Source
from atrous.reports.theme import Theme, themed_figure
from atrous.training import Cosine, Fixed, Inv, Poly, Step

_STEPS = 20_000


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Factors on the base learning rate (DeepLabv2 §4.1, eq. of the poly policy)."""
    policies = {
        "fixed": Fixed(),
        "step, ÷ 10 every 2,000 (v1)": Step(gamma=0.1, step_size=2000),
        "inv": Inv(gamma=0.0001, power=0.75),
        "cosine": Cosine(),
        "poly, power 0.9 (v2 on)": Poly(power=0.9),
    }
    steps = range(0, _STEPS + 1, 50)
    curves = {name: [policy(_STEPS)(step) for step in steps] for name, policy in policies.items()}

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 6.6, 3.4)
        axes = drawn.add_subplot()
        styles = ("-", "--", "-.", ":", "-")
        for (name, values), color, style in zip(curves.items(), theme.series, styles, strict=False):
            width = 2.6 if name.startswith("poly") else 1.6
            axes.plot(steps, values, color=color, linestyle=style, linewidth=width, label=name)
        axes.set_xlabel("step", fontsize=9)
        axes.set_ylabel("factor on the base learning rate", fontsize=9)
        axes.set_xlim(0, _STEPS)
        axes.set_ylim(0, 1.04)
        theme.tidy(axes)
        axes.legend(frameon=False, fontsize=8.5, loc="upper right", bbox_to_anchor=(1.0, 0.95))
        return drawn

    return draw
