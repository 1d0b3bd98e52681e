"""What labeling tools write: outlines of objects on images, and how they become masks of ids."""

from atrous.data.annotations.coco import read_coco
from atrous.data.annotations.labelme import read_labelme
from atrous.data.annotations.outlines import AnnotatedImage, Outline, draw
from atrous.data.annotations.yolo import read_yolo

__all__ = ["AnnotatedImage", "Outline", "draw", "read_coco", "read_labelme", "read_yolo"]
