"""ROI heads of the package."""

from mammo_d2.modeling.roi_heads.dual_branch import DualBranchROIHeads
from mammo_d2.modeling.roi_heads.similarity import SimilarityRes5ROIHeads, SimilarityROIHeads

__all__ = ["DualBranchROIHeads", "SimilarityROIHeads", "SimilarityRes5ROIHeads"]
