"""Data: what a sample is, what its labels mean, and the batches of a run."""

from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import RawSample, Sample, SegmentationDataset, to_sample
from atrous.data.label_space import LabelSpace

__all__ = ["LabelSpace", "RawSample", "Sample", "SegmentationDataModule", "SegmentationDataset", "to_sample"]
