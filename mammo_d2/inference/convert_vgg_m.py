"""Convert MatConvNet's VGG-M-128 ("CNN-M-128") to this package's weight files (``mammo-d2 convert-weights``).

The network was published as a Caffe model, whose channels are in the order BGR, and by the same group as a file of
MatConvNet, ``imagenet-vgg-m-128.mat``, in the order RGB. The latter is read here, by scipy: a .mat file of version 5
to 7 holds arrays, no code. On grey images the order matters only in that the mean has to be in the same one.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.core.files import atomic_write
from mammo_d2.framework import ShapeSpec
from mammo_d2.modeling.backbone.vgg_m import VGGM
from mammo_d2.modeling.roi_heads.region_encoders import VGGMRegionEncoder

#: Layers of the file that are used, and what they are called in a ``WeaklySupervisedRCNN``; fc8 is not.
LAYERS = {
    **{f"conv{number}": f"backbone.conv{number}" for number in range(1, 6)},
    **{name: f"roi_heads.encoder.{name}" for name in ("fc6", "fc7")},
}
VGG_M_CONFIG = ["MODEL.BACKBONE.NAME", "build_vgg_m_backbone", "MODEL.DUAL_BRANCH.REGION_ENCODER", "VGGMRegionEncoder"]


class ConvertedVGGM(NamedTuple):
    """What ``convert_vgg_m`` wrote: the number of tensors; the mean pixel in the order of the weights' channels (RGB),
    for MODEL.PIXEL_MEAN, or None if the file has none."""

    tensors: int
    mean: list[float] | None


def convert_vgg_m(source: str | Path, target: str | Path, config_file: str = "") -> ConvertedVGGM:
    """Write the weights of a MatConvNet file under the names of a dual branch on VGG-M.

    Args:
        source: ``imagenet-vgg-m-128.mat``.
        target: output file, ``{"model": weights}``, usable as MODEL.WEIGHTS of configs/dual_branch/.
        config_file: config with other widths (MODEL.VGG_M); empty: those of VGG-M-128.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of something else, or a layer is missing or has another shape.
    """
    if not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file")
    content = _read(source)
    layers = dict(_layers(content["layers"], source))
    expected = _expected_shapes(config_file)
    weights = {}
    for name, ours in LAYERS.items():
        if name not in layers:
            raise ValueError(f"{source}: no layer {name}; it has {', '.join(layers) or 'none'}. Is it a VGG-M?")
        kernel, bias = layers[name]
        # Rows, columns, inputs, outputs; missing ones at the end are 1.
        kernel = kernel.reshape(kernel.shape + (1,) * (4 - kernel.ndim)).transpose(3, 2, 0, 1)
        found = {
            f"{ours}.weight": kernel.reshape(len(kernel), -1) if name.startswith("fc") else kernel,
            f"{ours}.bias": bias.reshape(-1),
        }
        for key, value in found.items():
            if value.shape != expected[key]:
                raise ValueError(
                    f"{source}: {name} gives {key} the shape {value.shape}, not {expected[key]}; convert "
                    "imagenet-vgg-m-128.mat, or name a config with the file's MODEL.VGG_M"
                )
            weights[key] = torch.from_numpy(np.array(value, np.float32, order="C"))
    with atomic_write(target) as file:
        torch.save({"model": weights}, file)
    return ConvertedVGGM(len(weights), _mean(content))


def _read(source: str | Path) -> dict[str, Any]:
    try:
        content = scipy.io.loadmat(str(source))
    # A damaged file raises anything; version 7.3 is HDF5 and raises NotImplementedError.
    except Exception as error:
        raise ValueError(
            f"{source}: not a .mat file of version 5 to 7 ({type(error).__name__}: {error}); download "
            "imagenet-vgg-m-128.mat from the MatConvNet site again"
        ) from error
    if "layers" not in content:
        raise ValueError(f"{source}: no layers in it; it is not a MatConvNet network")
    return content


def _layers(cells: np.ndarray, source: str | Path) -> Any:
    """(name, (kernel, bias)) of every layer with weights; older files call them filters and biases."""
    try:
        for cell in np.asarray(cells).reshape(-1):
            layer = cell.reshape(-1)[0]
            names = layer.dtype.names or ()
            if "weights" in names:
                pair = layer["weights"].reshape(-1)
            elif "filters" in names:
                pair = [layer["filters"], layer["biases"]]
            else:
                continue
            if len(pair) == 2:
                yield str(layer["name"].reshape(-1)[0]), (np.asarray(pair[0]), np.asarray(pair[1]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: layers are not those of a MatConvNet network ({error})") from error


def _expected_shapes(config_file: str) -> dict[str, tuple[int, ...]]:
    cfg = load_config(config_file, [] if config_file else VGG_M_CONFIG)
    backbone = VGGM(3, cfg.MODEL.VGG_M.CHANNELS)
    shape: ShapeSpec = backbone.output_shape()["conv5"]
    encoder = VGGMRegionEncoder(shape.channels or 0, cfg.MODEL.VGG_M.FC_DIMS)
    parts = {"backbone.": backbone, "roi_heads.encoder.": encoder}
    return {p + name: tuple(value.shape) for p, part in parts.items() for name, value in part.state_dict().items()}


def _mean(content: dict[str, Any]) -> list[float] | None:
    """The mean of the average image, by channel."""
    node = content.get("meta", content)
    for name in ("normalization", "averageImage"):
        if isinstance(node, np.ndarray) and node.dtype.names:
            node = node.reshape(-1)[0]
            node = node[name] if name in node.dtype.names else None
        else:
            node = node.get(name) if isinstance(node, dict) else None
    if node is None or np.size(node) < 3 or np.size(node) % 3:
        return None
    # Rows, columns and channels; or three values.
    image = np.asarray(node, np.float64)
    image = image if image.ndim == 3 else image.reshape(1, 1, 3)
    return [round(float(value), 3) for value in image.mean(axis=(0, 1))]
