"""Data: what a sample is, what its labels mean, and the batches of a run."""

from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import RawSample, Sample, SegmentationDataset, to_sample
from atrous.data.label_space import LabelSpace
from atrous.data.search_data_module import SearchDataModule

__all__ = [
    "LabelSpace",
    "RawSample",
    "Sample",
    "SearchDataModule",
    "SegmentationDataModule",
    "SegmentationDataset",
    "to_sample",
]
