"""Backbones: an image classifier becomes a dense feature extractor."""

from atrous.backbones.backbone import Backbone, FeatureSpec
from atrous.backbones.mobilenetv2 import tf_deeplab_mobilenetv2_050
from atrous.backbones.timm_backbone import TimmBackbone
from atrous.backbones.vgg16 import VGG16

# importing a model of our own puts it into timm's registry
__all__ = ["VGG16", "Backbone", "FeatureSpec", "TimmBackbone", "tf_deeplab_mobilenetv2_050"]
