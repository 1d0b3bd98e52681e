"""Data sets: one file each, and what those stored in files share."""

from atrous.data.sets.ade20k import ADE20K
from atrous.data.sets.camvid import CamVid
from atrous.data.sets.cityscapes import Cityscapes
from atrous.data.sets.coco_voc import CocoVOC
from atrous.data.sets.folder import Folder
from atrous.data.sets.mix import Mix
from atrous.data.sets.pascal_context import PascalContext
from atrous.data.sets.person_part import PersonPart
from atrous.data.sets.shapes import Shapes
from atrous.data.sets.voc import VOC2012

__all__ = [
    "ADE20K",
    "VOC2012",
    "CamVid",
    "Cityscapes",
    "CocoVOC",
    "Folder",
    "Mix",
    "PascalContext",
    "PersonPart",
    "Shapes",
]
