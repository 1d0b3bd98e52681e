"""Data: label spaces, data sets, augmentation, loaders."""

from atrous.data.camvid import CamVid
from atrous.data.cityscapes import Cityscapes
from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import RawSample, Sample, SegmentationDataset, to_sample
from atrous.data.label_space import LabelSpace
from atrous.data.pascal_context import PascalContext
from atrous.data.person_part import PersonPart
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012

__all__ = [
    "VOC2012",
    "CamVid",
    "Cityscapes",
    "LabelSpace",
    "PascalContext",
    "PersonPart",
    "RawSample",
    "Sample",
    "SegmentationDataModule",
    "SegmentationDataset",
    "Shapes",
    "to_sample",
]
