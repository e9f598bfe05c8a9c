"""Backbones of the package."""

from mammo_d2.modeling.backbone.resnet22 import ResNet22

__all__ = ["ResNet22"]
