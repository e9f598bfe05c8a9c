"""Proposal generators of the package."""

from mammo_d2.modeling.proposal_generator.sliding_window import SlidingWindowRegions
from mammo_d2.modeling.proposal_generator.top_likelihood import TopLikelihoodRPN

__all__ = ["SlidingWindowRegions", "TopLikelihoodRPN"]
