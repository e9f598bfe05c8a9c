"""Heads of DeepMIL: from a feature map to image logits, responses and the loss of one multi-instance scheme.

Shape shorthand:
    N: images; F: channels of the feature map; C: findings; h, w: its cells; M = h·w.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mammo_d2.framework import CfgNode, ShapeSpec
from mammo_d2.modeling.functional import mil
from mammo_d2.modeling.layers.receptive_field import shown_cells

#: (logits (N, M, C), mask (N, M), targets (N, C)) -> scalar.
ResponseLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


class ResponseHead(nn.Module):
    """Logistic regression shared by all cells, ``r_ij = σ(a·F_ij + b)``; the image's probability is the highest.

    The released code has two hidden layers before it, 1×1 convolutions of 128 channels with ReLU.

    Source:
        Zhu et al., "Deep multi-instance networks with sparse label assignment for whole mammogram classification",
        MICCAI 2017, eq. 1 to 3.
    """

    def __init__(self, channels: int, num_findings: int, loss: ResponseLoss, hidden: Sequence[int] = ()):
        """
        Args:
            channels: F.
            num_findings: C; each has its own regression.
            loss: the scheme.
            hidden: channels of the 1×1 convolutions before the regression; empty: the paper's head.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Conv2d(channels, width, kernel_size=1), nn.ReLU()]
            channels = width
        self.hidden = nn.Sequential(*layers)
        self.regression = nn.Conv2d(channels, num_findings, kernel_size=1)
        nn.init.normal_(self.regression.weight, std=0.01)
        nn.init.zeros_(self.regression.bias)  # type: ignore[arg-type]  # typed as optional
        self._loss = loss

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, h, w) to the logits of the responses, (N, C, h, w)."""
        return self.regression(self.hidden(features))

    def image_logits(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """(N, C) from the outputs of ``forward`` and the mask of the cells (N, h, w)."""
        return mil.max_pooling_logits(_as_regions(outputs), mask.flatten(1))

    def response_map(self, outputs: Tensor) -> Tensor | None:
        """(N, C, h, w) in [0, 1], float32."""
        return outputs.float().sigmoid()

    def loss(self, outputs: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The scheme's loss, with targets (N, C) of 1, 0 or NaN."""
        return self._loss(_as_regions(outputs), mask.flatten(1), targets)


class ClassifierHead(nn.Module):
    """The baseline: fully connected layers on the whole map, AlexNet's own for two of 4096; no response map.

    Names and sizes are torchvision's, so that its ImageNet weights are recognised up to the last layer. Without hidden
    layers it is global average pooling and one linear layer. Padding is seen like pixels: use inputs of one size.
    """

    def __init__(self, channels: int, num_findings: int, hidden: Sequence[int] = (4096, 4096), dropout: float = 0.5):
        """
        Args:
            channels: F.
            num_findings: C.
            hidden: widths of the hidden layers.
            dropout: probability, before each hidden layer.
        """
        super().__init__()
        side = 6 if hidden else 1
        self.pool = nn.AdaptiveAvgPool2d(side)
        layers: list[nn.Module] = []
        width = channels * side * side
        for size in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(width, size), nn.ReLU()]
            width = size
        self.classifier = nn.Sequential(*layers, nn.Linear(width, num_findings))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, h, w) to logits (N, C)."""
        return self.classifier(self.pool(features).flatten(1))

    def image_logits(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """The outputs themselves."""
        return outputs

    def response_map(self, outputs: Tensor) -> Tensor | None:
        """None: the classifier does not localise."""
        return None

    def loss(self, outputs: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, with targets (N, C) of 1, 0 or NaN."""
        return mil.classifier_loss(outputs, targets)


def _as_regions(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h·w, C)."""
    return maps.flatten(2).transpose(1, 2)


def build_mil_head(cfg: CfgNode, channels: int, num_findings: int) -> nn.Module:
    """The head named by MODEL.DEEP_MIL.HEAD.

    Raises:
        ValueError: an unknown name, or a value that is out of range.
    """
    keys = cfg.MODEL.DEEP_MIL
    if keys.TOP_K < 1 or keys.SPARSITY < 0 or keys.SPARSITY_CELLS < 0:
        raise ValueError(
            "MODEL.DEEP_MIL.TOP_K must be at least 1, SPARSITY and SPARSITY_CELLS not negative, got "
            f"{keys.TOP_K}, {keys.SPARSITY} and {keys.SPARSITY_CELLS}"
        )
    if any(not isinstance(width, int) or width < 1 for width in (*keys.HIDDEN, *keys.CLASSIFIER_FC)):
        raise ValueError(
            "MODEL.DEEP_MIL.HIDDEN and CLASSIFIER_FC must be lists of whole numbers of at least 1, got "
            f"{keys.HIDDEN} and {keys.CLASSIFIER_FC}"
        )
    if not 0 <= keys.CLASSIFIER_DROPOUT < 1:
        raise ValueError(f"MODEL.DEEP_MIL.CLASSIFIER_DROPOUT must be in [0, 1), got {keys.CLASSIFIER_DROPOUT}")
    losses: dict[str, ResponseLoss] = {
        "max": mil.max_pooling_loss,
        "label_assignment": partial(mil.label_assignment_loss, k=keys.TOP_K),
        "sparse": partial(mil.sparse_loss, mu=keys.SPARSITY, mu_regions=keys.SPARSITY_CELLS),
    }
    if keys.HEAD == "classifier":
        return ClassifierHead(channels, num_findings, keys.CLASSIFIER_FC, keys.CLASSIFIER_DROPOUT)
    if keys.HEAD not in losses:
        raise ValueError(f"MODEL.DEEP_MIL.HEAD is {keys.HEAD!r}; use one of {', '.join([*losses, 'classifier'])}")
    return ResponseHead(channels, num_findings, losses[keys.HEAD], keys.HIDDEN)


def cell_mask(image_sizes: Sequence[tuple[int, int]], shape: ShapeSpec, cells: tuple[int, int]) -> Tensor:
    """Cells of a feature map that show their image rather than padding, see ``shown_cells``.

    Args:
        image_sizes: (height, width) of each image, at the top left of the padded batch.
        shape: of the map; its stride.
        cells: (h, w) of the map.

    Returns:
        (N, h, w) bool on the CPU.
    """
    mask = torch.zeros(len(image_sizes), *cells, dtype=torch.bool)
    for image_mask, size in zip(mask, image_sizes, strict=True):
        rows, columns = shown_cells(cells, shape, size)
        image_mask[:rows, :columns] = True
    return mask
