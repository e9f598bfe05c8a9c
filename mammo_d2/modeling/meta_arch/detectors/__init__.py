"""Meta-architectures of detectors."""

from mammo_d2.modeling.meta_arch.detectors.mixed_supervision import MixedSupervisionRCNN

__all__ = ["MixedSupervisionRCNN"]
