"""What an architecture search has learned so far, drawn and written after every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.atomic_file import atomic_file
from atrous.loggers import image_loggers
from atrous.models.nas import Supernet
from atrous.models.nas.decoding import decode
from atrous.reports import genotype_figure, operations_figure, paths_figure


class _Searches(Protocol):
    supernet: Supernet


class ArchitectureReport(Callback):
    """Writes the genotype that alpha and beta decode to, and draws all three, after every validation.

    The run's folder gets ``genotypes/step_000123.yaml`` (123 = steps done), ``genotype.yaml``, the same as the latest,
    and figures/alpha.png, figures/beta.png and figures/genotype.png. Loggers that show images get the figures.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self._folder = Path(run_dir)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decode, write and draw."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        architecture = cast("_Searches", pl_module).supernet.architecture
        genotype, step = decode(architecture), trainer.global_step
        for name in (f"genotypes/step_{step:06d}.yaml", "genotype.yaml"):
            genotype.write(self._folder / name, f"What a search has found in {step} steps.")
        figures = {
            "alpha": operations_figure(architecture.operation_weights(), genotype),
            "beta": paths_figure(architecture.path_weights(), genotype),
            "genotype": genotype_figure(genotype),
        }
        for name, figure in figures.items():
            with atomic_file(self._folder / "figures" / f"{name}.png") as file:
                figure.savefig(file, format="png")
            for logger in image_loggers(trainer.loggers):
                logger.log_figure(name, figure, step)
