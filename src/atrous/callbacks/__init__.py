"""What happens beside training: pictures, report, progress, averaged weights, the checkpoint to resume from."""

from atrous.callbacks.architecture_report import ArchitectureReport
from atrous.callbacks.baselines import Baselines
from atrous.callbacks.best_checkpoint import BestCheckpoint
from atrous.callbacks.borders import Borders
from atrous.callbacks.cost_meter import CostMeter
from atrous.callbacks.image_scores import ImageScores
from atrous.callbacks.inference_stage import InferenceStage
from atrous.callbacks.interrupts import Interrupts
from atrous.callbacks.learning_rates import LearningRates
from atrous.callbacks.moving_average import MovingAverage
from atrous.callbacks.panels import Panels
from atrous.callbacks.progress import RunProgress
from atrous.callbacks.report import RunReport
from atrous.callbacks.resume_point import ResumePoint
from atrous.callbacks.run_record import RunRecord
from atrous.callbacks.submission import Submission

__all__ = [
    "ArchitectureReport",
    "Baselines",
    "BestCheckpoint",
    "Borders",
    "CostMeter",
    "ImageScores",
    "InferenceStage",
    "Interrupts",
    "LearningRates",
    "MovingAverage",
    "Panels",
    "ResumePoint",
    "RunProgress",
    "RunRecord",
    "RunReport",
    "Submission",
]
