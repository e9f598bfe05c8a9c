"""Backbones of the package."""

from mammo_d2.modeling.backbone.alexnet import AlexNet
from mammo_d2.modeling.backbone.resnet22 import ResNet22
from mammo_d2.modeling.backbone.vgg_m import VGGM

__all__ = ["VGGM", "AlexNet", "ResNet22"]
