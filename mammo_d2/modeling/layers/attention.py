"""Gated attention: a weighted sum of the features of a bag's instances."""

import torch
from torch import Tensor, nn


class GatedAttention(nn.Module):
    """``α_k = softmax_k( w · (tanh(V h_k) ⊙ σ(U h_k)) )`` and ``z = Σ_k α_k h_k``.

    Source:
        Ilse et al., "Attention-based deep multiple instance learning", ICML 2018, eq. 9; Shen et al., MLMI 2019,
        section 2.3.
    """

    def __init__(self, channels: int, hidden: int = 128):
        """
        Args:
            channels: D, of the features.
            hidden: rows of U and V.
        """
        super().__init__()
        self.content = nn.Linear(channels, hidden, bias=False)
        self.gate = nn.Linear(channels, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Bags (N, K, D) to attention (N, K), summing to 1, and pooled features (N, D)."""
        scores = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features)))
        attention = scores.squeeze(-1).softmax(dim=1)
        return attention, (attention.unsqueeze(-1) * features).sum(dim=1)


class EqualAttention(nn.Module):
    """The same weight for every instance; the control experiment."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """As ``GatedAttention``."""
        return features.new_full(features.shape[:2], 1 / features.shape[1]), features.mean(dim=1)
