"""Layers shared by the parts of a model: convolution with normalisation, frozen batch normalisation, NMS, ROIAlign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import boxes as box_ops
from torchvision.ops import roi_align

from mammo_d2.framework.embedded.detector.roi_align import sparse_roi_align


@dataclass
class ShapeSpec:
    """What is known in advance about a feature map; None where it is not."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate, without a copy where there is only one tensor."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def cross_entropy(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy whose mean over no rows is 0, still connected to ``logits``, and not NaN."""
    if reduction == "mean" and target.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(logits, target, reduction=reduction)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group.

    Args:
        boxes: ``(N, 4)`` XYXY; computed in float32.
        scores: ``(N,)``.
        idxs: ``(N,)`` group of each box: a class or a feature level.
        iou_threshold: a box goes if its IoU with a better one of its group is above this.

    Returns:
        Indices of the boxes kept, best score first.
    """
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)


class ROIAlign(nn.Module):
    """Bilinear pooling of regions of a feature map to a fixed size."""

    def __init__(
        self, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool = True
    ) -> None:
        """Set up the pooling.

        Args:
            output_size: (height, width) of the result.
            spatial_scale: feature cells per image pixel, 1 / stride.
            sampling_ratio: samples per bin and direction; 0: one per feature cell that the bin covers.
            aligned: pixel centres lie at half coordinates ("ROIAlignV2"); False shifts by half a cell, as the first
                version did.
        """
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def trains_sparsely(self, input: Tensor) -> bool:
        """Whether this map is pooled as a sparse product: in training on a CPU, where that is faster."""
        return input.requires_grad and input.device.type == "cpu" and self.sampling_ratio == 0

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool.

        Args:
            input: feature map ``(N, C, H, W)``.
            rois: ``(R, 5)``: index of the image, then XYXY in image pixels.

        Returns:
            ``(R, C, height, width)``.
        """
        if self.trains_sparsely(input):
            level = torch.zeros(len(rois), dtype=torch.int64)
            return sparse_roi_align([input], rois, level, self.output_size, [self.spatial_scale], self.aligned)
        # In float32 whatever the features' type: bfloat16 would round the regions to whole pixels and more.
        arguments = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
        return roi_align(input.float(), rois.float(), *arguments).to(input.dtype)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation that is only a fixed scale and shift per channel: everything it holds is a buffer."""

    _version = 3
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        # With eps added this is exactly 1: a new layer is the identity.
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return what the input is multiplied with and what is then added, each float32 ``(C,)``."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map ``(N, C, H, W)``."""
        if x.requires_grad:
            # F.batch_norm would keep the input to differentiate for weight and bias, which are constants here.
            scale, shift = self._as_factors(x)
            return x * scale + shift
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps)

    def forward_(self, x: Tensor) -> Tensor:
        """Normalise a map nobody else needs; the same numbers as ``forward``, written into ``x`` under autograd."""
        if x.requires_grad:
            scale, shift = self._as_factors(x)
            return x.mul_(scale).add_(shift)
        return self.forward(x)

    def _as_factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.scale_and_shift()
        return scale.to(x.dtype).view(1, -1, 1, 1), shift.to(x.dtype).view(1, -1, 1, 1)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:  # type: ignore[override]
        # Weights without a version are converted ones in which the statistics are already part of weight and bias.
        if (local_metadata.get("version") or 1) < 2:
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every batch normalisation below ``module`` by a frozen one with its values.

        Returns:
            ``module`` itself, or its replacement if it is a batch normalisation.
        """
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            if module.affine:
                frozen.weight = module.weight.detach().clone()
                frozen.bias = module.bias.detach().clone()
            # Not assigned as attributes: layers that keep no statistics have None in their place.
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                frozen.register_buffer(name, getattr(module, name))
            return frozen
        for name, child in module.named_children():
            converted = cls.convert_frozen_batchnorm(child)
            if converted is not child:
                setattr(module, name, converted)
        return module


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Make a normalisation layer.

    Args:
        norm: "BN", "SyncBN", "FrozenBN", "GN" (32 groups), a function of the channel count, or "" or None for none.
        out_channels: channels of the map it will normalise.

    Raises:
        ValueError: the name is unknown.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise ValueError(f"unknown normalisation {norm!r}; there are {', '.join(_NORMS)} and ''")
        norm = _NORMS[norm]
    return norm(out_channels)


class Conv2d(nn.Conv2d):
    """A convolution followed by an optional normalisation (child module ``norm``) and activation."""

    def __init__(
        self,
        *args,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs,
    ) -> None:
        """Take the arguments of ``torch.nn.Conv2d``, and the two that follow it."""
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if isinstance(self.norm, FrozenBatchNorm2d):
            x = self.norm.forward_(x)
        elif self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


class CNNBlockBase(nn.Module):
    """A block of a convolutional network with a fixed number of channels and stride.

    Attributes:
        in_channels: channels of the input map ``(N, C, H, W)``.
        out_channels: channels of the output map.
        stride: input size / output size.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> "CNNBlockBase":
        """Stop training the block: parameters get no gradient, batch normalisations become frozen ones."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self
