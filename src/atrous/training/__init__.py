"""Training: the LightningModule and what it is made of."""

from atrous.training.architecture_search import ArchitectureSearch
from atrous.training.batch_norm import freeze_batch_norm
from atrous.training.evaluation import EvaluationTask
from atrous.training.fully_sharded import FullySharded
from atrous.training.kept_batch import KeptBatch
from atrous.training.parameter_groups import parameter_groups
from atrous.training.schedules import Cosine, Fixed, Inv, MultiStep, Poly, Schedule, Step
from atrous.training.task import SegmentationTask

__all__ = [
    "ArchitectureSearch",
    "Cosine",
    "EvaluationTask",
    "Fixed",
    "FullySharded",
    "Inv",
    "KeptBatch",
    "MultiStep",
    "Poly",
    "Schedule",
    "SegmentationTask",
    "Step",
    "freeze_batch_norm",
    "parameter_groups",
]
