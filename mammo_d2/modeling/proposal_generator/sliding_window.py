"""SlidingWindowRegions: the windows of a regular grid over the breast, without the pectoral muscle."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mammo_d2.framework import PROPOSAL_GENERATOR_REGISTRY, Boxes, CfgNode, ImageList, Instances, configurable


@PROPOSAL_GENERATOR_REGISTRY.register()
class SlidingWindowRegions(nn.Module):
    """Square windows with a stride, kept where there is breast; nothing is learned.

    The last window of a row or column is moved inside, so that the grid reaches the border. Breast and muscle
    come as an input, ``tissue`` (INPUT.TISSUE_CELL): the loader finds them on the whole image and augments them with
    it. Without ``tissue`` every window is kept.

    Source:
        Bakalo et al., ISBI 2019, section 2; the shares of breast and muscle are decided by this package.
    """

    #: Fields of the model inputs that ``forward`` takes as keyword arguments, a list each (None where missing).
    input_fields = ("tissue",)
    #: Proposals depend on image sizes and ``input_fields`` only, so that with cached region features neither feature
    #: maps nor pixels are needed.
    needs_features = False

    @configurable
    def __init__(
        self,
        *,
        window: int = 224,
        stride: int = 112,
        min_breast: float = 0.5,
        max_pectoral: float = 0.5,
        tissue_cell: int = 16,
    ):
        """
        Args:
            window: side in pixels of the network input.
            stride: in pixels.
            min_breast: least part of a window that is breast.
            max_pectoral: largest part that is pectoral muscle.
            tissue_cell: side of the cells of ``tissue`` in pixels.

        Raises:
            ValueError: a window or stride below 1, or a part outside 0..1.
        """
        super().__init__()
        if window < 1 or stride < 1 or not (0 <= min_breast <= 1 and 0 <= max_pectoral <= 1):
            raise ValueError(
                f"MODEL.SLIDING_WINDOW: SIZE {window} and STRIDE {stride} must be positive, MIN_BREAST {min_breast} "
                f"and MAX_PECTORAL {max_pectoral} lie in 0..1"
            )
        self.window = window
        self.stride = stride
        self.min_breast = min_breast
        self.max_pectoral = max_pectoral
        self.tissue_cell = tissue_cell

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: object) -> dict:
        keys = cfg.MODEL.SLIDING_WINDOW
        return {
            "window": keys.SIZE,
            "stride": keys.STRIDE,
            "min_breast": keys.MIN_BREAST,
            "max_pectoral": keys.MAX_PECTORAL,
            "tissue_cell": cfg.INPUT.TISSUE_CELL,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor] | None = None,
        gt_instances: list[Instances] | None = None,
        tissue: Sequence[Tensor | None] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """
        Args:
            images: the batch; only sizes and device are used.
            features, gt_instances: not used.
            tissue: per image (2, h, w) in [0, 1], how much of each cell is breast and how much is pectoral muscle, in
                cells of ``tissue_cell`` pixels that cover the image (the last may reach beyond it); or None.

        Returns:
            Per image ``proposal_boxes`` (m, 4) XYXY on the network input, m ≥ 1, row by row, and ``objectness_logits``
            (zeros); no losses.
        """
        device = images.tensor.device
        proposals = []
        for index, size in enumerate(images.image_sizes):
            boxes = self.windows(size, None if tissue is None else tissue[index]).to(device)
            regions = Instances(size)
            regions.proposal_boxes = Boxes(boxes)
            regions.objectness_logits = torch.zeros(len(boxes), device=device)
            proposals.append(regions)
        return proposals, {}

    def windows(self, size: tuple[int, int], tissue: Tensor | None) -> Tensor:
        """Windows of one image of ``size`` (height, width): (m, 4) float32 XYXY on the CPU; see ``forward``."""
        spans_y, spans_x = (grid_spans(side, self.window, self.stride) for side in size)
        boxes = torch.empty(len(spans_y), len(spans_x), 4)
        boxes[..., 0::2], boxes[..., 1::2] = spans_x, spans_y[:, None]
        boxes = boxes.view(-1, 4)
        if tissue is None:
            return boxes
        # Of cells that reach beyond the image the part inside counts.
        rows_inside = cells_inside(size[0], tissue.shape[1], self.tissue_cell)
        columns_inside = cells_inside(size[1], tissue.shape[2], self.tissue_cell)
        tissue = (tissue.cpu().float() / (rows_inside[:, None] * columns_inside)).clamp(max=1.0)
        breast, pectoral = self._shares(tissue, spans_y, spans_x)
        keep = (breast >= self.min_breast) & (pectoral <= self.max_pectoral)
        if not keep.any():
            keep[(breast - pectoral).argmax()] = True
        return boxes[keep]

    def _shares(self, tissue: Tensor, spans_y: Tensor, spans_x: Tensor) -> Tensor:
        """Part of each window that is breast, and that is muscle: (2, windows)."""
        weights_y = overlap_weights(spans_y, tissue.shape[1], self.tissue_cell)
        weights_x = overlap_weights(spans_x, tissue.shape[2], self.tissue_cell)
        # Rounding errors must not decide about a window that is exactly half breast.
        return ((weights_y @ tissue @ weights_x.T).flatten(1) * 1e4).round() / 1e4


def grid_spans(side: int, window: int, stride: int) -> Tensor:
    """Windows along one side: (n, 2) float32 starts and ends inside 0..side; one short window on a short side."""
    if side <= window:
        return torch.tensor([[0.0, side]])
    starts = list(range(0, side - window + 1, stride))
    if starts[-1] + window < side:
        starts.append(side - window)
    begin = torch.tensor(starts, dtype=torch.float32)
    return torch.stack([begin, begin + window], dim=1)


def cells_inside(side: int, cells: int, cell: int) -> Tensor:
    """Part of each of ``cells`` cells of length ``cell`` that lies in 0..side: (cells,), 1 of those outside."""
    part = (side - torch.arange(cells) * cell).clamp(max=cell) / cell
    return torch.where(part > 0, part, 1.0)


def overlap_weights(spans: Tensor, cells: int, cell: float) -> Tensor:
    """Part of each span (n, 2) that lies in each of ``cells`` cells of length ``cell``: (n, cells), rows sum to 1."""
    begin = torch.arange(cells) * cell
    overlap = torch.minimum(spans[:, 1:], begin + cell) - torch.maximum(spans[:, :1], begin)
    return overlap.clamp(min=0) / (spans[:, 1:] - spans[:, :1])
