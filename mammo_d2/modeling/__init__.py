"""Tensors to losses and Instances: importing this package registers every component with the framework."""

from mammo_d2.modeling import backbone, meta_arch, proposal_generator, roi_heads

__all__ = ["backbone", "meta_arch", "proposal_generator", "roi_heads"]
