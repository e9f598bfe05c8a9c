"""Dataset record -> model input: read, scale the intensity, resize, augment, make tensors.

Coordinates are continuous pixel edges (see ``augmentation.py``): a resize from (h, w) to (H, W) multiplies x by W/w and
y by H/h.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.breast.tissue_map import tissue_map, warp_tissue
from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.data.loading.augmentation import Augmentation, visible_boxes
from mammo_d2.data.loading.proposals import FIELDS as PROPOSAL_FIELDS
from mammo_d2.data.loading.proposals import network_proposals
from mammo_d2.data.reading.intensity import scale_intensity
from mammo_d2.data.reading.reader import read_image
from mammo_d2.framework import META_ARCH_REGISTRY, Boxes, BoxMode, CfgNode, Instances, Registry, configurable

PREPROCESSING_REGISTRY = Registry("PREPROCESSING")
PREPROCESSING_REGISTRY.__doc__ = """
Other ways from stored pixels to network pixels than scaling and resizing, by the name used in INPUT.PREPROCESSING.

An entry is called as ``builder(cfg)`` and returns ``f(pixels (h, w), facts) -> ((H, W) float32, WindowTransform)``,
where the facts are a record's or a file's ``laterality``, ``view`` and ``file_name``.
"""

Preprocessing = Callable[[np.ndarray, Mapping[str, Any]], tuple[np.ndarray, WindowTransform]]


@PREPROCESSING_REGISTRY.register()
def breast_window(cfg: CfgNode) -> Preprocessing:
    """The breast in full resolution on a canvas of INPUT.SIZE, standardised (GMIC)."""
    height, width = cfg.INPUT.SIZE
    return BreastWindow((height, width), cfg.INPUT.WINDOW.EROSION, cfg.INPUT.WINDOW.MARGIN)


@dataclass(frozen=True)
class NetworkImage:
    """An image as the network takes it, before augmentation.

    Attributes:
        pixels: (H, W) float32.
        transform: from the image file's pixels, where it is more than a resize.
        tissue: (2, h, w) where breast and muscle are, if the model is told (see ``tissue_map.py``).
    """

    pixels: np.ndarray
    transform: WindowTransform | None = None
    tissue: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the pixels and the map."""
        return self.pixels.nbytes + (0 if self.tissue is None else self.tissue.nbytes)

    def sample_fields(self) -> dict[str, Any]:
        """What a model input holds beside the pixels: ``network_transform`` and ``tissue``, where they are."""
        fields: dict[str, Any] = {}
        if self.transform is not None:
            fields["network_transform"] = self.transform
        if self.tissue is not None:
            fields["tissue"] = torch.from_numpy(self.tissue)
        return fields


class MammoMapper:
    """Turns a record of ``catalog.py`` into the dict that a model takes.

    The result has the record's keys without ``annotations``, and

    * ``image``: (C, H, W) float32 tensor in 0..255, all channels equal. H, W = INPUT.SIZE, or with KEEP_ASPECT the
      largest size of the image's own shape that fits into it. The padding to a common size is then the model's
      (``ImageList`` pads on the bottom and right after normalisation), so that H and W are the image's own and
      ``height / H``, ``width / W`` map outputs back exactly.
    * ``height``, ``width``: size of the image file, in whose pixels the model gives its outputs.
    * ``instances`` (if asked for): ``gt_boxes`` on the scale of ``image``, ``gt_classes``; of length 0 for a negative
      image. Crowd annotations are left out.
    * ``network_transform`` (with ``INPUT.PREPROCESSING``): the ``WindowTransform`` from the file's pixels.
    * ``tissue`` (with ``INPUT.TISSUE_CELL``): (2, h, w) float32, the parts of each cell that are breast and muscle,
      found before the augmentation and moved by it.
    * ``proposals`` (of records with ``proposal_boxes``, see ``proposals.py``): regions on the scale of ``image``.
    """

    @configurable
    def __init__(
        self,
        *,
        size: Sequence[int],
        channels: int = 1,
        keep_aspect: bool = False,
        enlarge: bool = True,
        intensity: str = "bit_depth",
        percentiles: Sequence[float] = (0.5, 99.5),
        augmentation: Augmentation | None = None,
        with_instances: bool = False,
        cache_mb: float = 0,
        preprocessing: Preprocessing | None = None,
        tissue_cell: int = 0,
    ):
        """
        Args:
            size: network input (height, width) in pixels.
            channels: 1, or 3 for a backbone made for colour images.
            keep_aspect: fit into ``size`` instead of stretching to it.
            enlarge: with ``keep_aspect``, also what is smaller than ``size``; otherwise that keeps its resolution.
            intensity, percentiles: see ``scale_intensity``.
            augmentation: applied if given.
            with_instances: add the ground truth.
            cache_mb: see ``ImageCache``.
            preprocessing: takes the place of intensity scaling and resizing.
            tissue_cell: side of the cells of ``tissue`` in pixels; 0: none.
        """
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"INPUT.SIZE must be [height, width] in pixels, not {list(size)}")
        if channels not in (1, 3):
            raise ValueError(f"the network input has 1 or 3 channels, not {channels} (the length of MODEL.PIXEL_MEAN)")
        self.size = (int(size[0]), int(size[1]))
        self.channels = channels
        self.keep_aspect = keep_aspect
        self.enlarge = enlarge
        self.intensity = intensity
        self.percentiles = tuple(percentiles)
        self.augmentation = augmentation
        self.with_instances = with_instances
        self.preprocessing = preprocessing
        self.tissue_cell = tissue_cell
        self._cache = ImageCache(cache_mb)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, with_instances: bool | None = None) -> dict:
        """
        Args:
            cfg: the config.
            is_train: augment.
            with_instances: add the ground truth; by default, in training only.
        """
        return {
            "size": cfg.INPUT.SIZE,
            "channels": len(cfg.MODEL.PIXEL_MEAN),
            "keep_aspect": cfg.INPUT.KEEP_ASPECT,
            "enlarge": cfg.INPUT.ENLARGE,
            "intensity": cfg.INPUT.INTENSITY,
            "percentiles": cfg.INPUT.INTENSITY_PERCENTILES,
            "augmentation": Augmentation.from_config(cfg) if is_train else None,
            "with_instances": is_train if with_instances is None else with_instances,
            "cache_mb": cfg.DATALOADER.CACHE_MB,
            "preprocessing": build_preprocessing(cfg),
            "tissue_cell": cfg.INPUT.TISSUE_CELL,
        }

    def __call__(self, record: dict, rng: np.random.Generator | None = None) -> dict:
        """Map one record; it is not modified.

        Args:
            record: see ``catalog.py``.
            rng: the only source of randomness of the augmentation; None takes a fresh unseeded one.

        Raises:
            FileNotFoundError, ValueError: the image cannot be used; the message names image id and file.
        """
        network = self._cache.get(record["file_name"], lambda: self.prepare_image(record))
        image = network.pixels
        boxes, classes = self.prepare_boxes(record, image.shape, network.transform)
        matrix, has_proposals = np.eye(2, 3), PROPOSAL_FIELDS[0] in record
        if self.augmentation is not None:
            rng = rng or np.random.default_rng()
            if network.tissue is not None or has_proposals:
                matrix = self.augmentation.draw_geometry(image.shape, boxes, copy.deepcopy(rng)).matrix
            if network.tissue is not None:
                network = replace(network, tissue=warp_tissue(network.tissue, self.tissue_cell, matrix))
            # Black is 0, but for a standardised image its lowest value.
            fill = 0.0 if network.transform is None else float(image.min())
            image, boxes, kept = self.augmentation(image, boxes, rng, fill)
            classes = classes[kept]
        sample = {key: value for key, value in record.items() if key not in ("annotations", *PROPOSAL_FIELDS)}
        # A copy in every case: the cached array is never handed out.
        sample["image"] = self.to_tensor(image)
        sample.update(network.sample_fields())
        if has_proposals:
            height, width = image.shape
            sample["proposals"] = network_proposals(record, (height, width), network.transform, matrix)
        if self.with_instances:
            instances = Instances(image.shape)
            instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
            instances.gt_classes = torch.as_tensor(classes, dtype=torch.int64)
            sample["instances"] = instances
        return sample

    def prepare_image(self, record: dict) -> NetworkImage:
        """Read the image of a record and make the network's of it, no randomness."""
        try:
            pixels, meta = read_image(record["file_name"])
            if pixels.shape != (record["height"], record["width"]):
                raise ValueError(
                    f"the file has {pixels.shape[0]}x{pixels.shape[1]} pixels (height x width), its record says "
                    f"{record['height']}x{record['width']}; prepare the data set again"
                )
            return self.network_image(pixels, meta.max_value, record)
        except FileNotFoundError as error:
            raise FileNotFoundError(_describe(record, error)) from error
        except (OSError, ValueError) as error:
            raise ValueError(_describe(record, error)) from error

    def network_image(self, pixels: np.ndarray, max_value: float, facts: Mapping[str, Any]) -> NetworkImage:
        """Scale the intensity of (h, w) pixels to 0..255 and resize, or what ``preprocessing`` does instead.

        Args:
            pixels: float32.
            max_value: their full-scale value.
            facts: ``laterality``, ``view``, ``file_name`` as far as they are known.
        """
        transform = None
        if self.preprocessing is not None:
            pixels, transform = self.preprocessing(pixels, facts)
        else:
            pixels = scale_intensity(pixels, max_value, self.intensity, self.percentiles)
            size = fitted_size(pixels.shape, self.size, self.enlarge) if self.keep_aspect else self.size
            pixels = resize_image(pixels, size)
        tissue = tissue_map(pixels, self.tissue_cell, facts.get("view")) if self.tissue_cell else None
        return NetworkImage(pixels, transform, tissue)

    def to_tensor(self, image: np.ndarray) -> torch.Tensor:
        """A copy of (H, W) as the model's (C, H, W), all channels equal."""
        return torch.from_numpy(np.repeat(image[np.newaxis], self.channels, axis=0))

    def prepare_boxes(
        self, record: dict, size: tuple[int, ...], transform: WindowTransform | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) XYXY on the network image of ``size`` (H, W), clipped to it; classes (N,) int64."""
        height, width = size
        usable = [annotation for annotation in record["annotations"] if not annotation.get("iscrowd", 0)]
        boxes = np.array(
            [BoxMode.convert(entry["bbox"], entry["bbox_mode"], BoxMode.XYXY_ABS) for entry in usable], dtype=np.float64
        ).reshape(-1, 4)
        if transform is not None:
            boxes = transform.boxes_to_prepared(boxes)
        else:
            boxes *= np.tile([width / record["width"], height / record["height"]], 2)
        boxes, kept = visible_boxes(boxes, height, width, min_visible=0.0)
        return boxes, np.array([entry["category_id"] for entry in usable], dtype=np.int64)[kept]


class ImageCache:
    """Keeps prepared images in memory, as they are (float32), up to a number of bytes per process.

    When it is full it keeps what it has and takes no more. Training goes through the images in a new order each pass,
    and then the cache answers exactly the share of requests that it has room for, which an eviction of the least
    recently used image does not reach: that one is often needed soonest.
    """

    def __init__(self, megabytes: float):
        """
        Args:
            megabytes: limit in MiB of pixel data; 0 switches it off.
        """
        if megabytes < 0:
            raise ValueError(f"DATALOADER.CACHE_MB must not be negative: {megabytes}")
        self._free = int(megabytes * 2**20)
        self._images: dict[str, NetworkImage] = {}

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: str, make: Callable[[], NetworkImage]) -> NetworkImage:
        """The image of ``key``, made if it is not there; the caller must not write to it."""
        image = self._images.get(key)
        if image is None:
            image = make()
            if image.nbytes <= self._free:
                self._free -= image.nbytes
                self._images[key] = image
        return image


def build_preprocessing(cfg: CfgNode) -> Preprocessing | None:
    """What INPUT.PREPROCESSING names; None for "resize".

    Raises:
        ValueError: an unknown name, a model that would not map its boxes back, or an augmentation of grey levels.
    """
    name = cfg.INPUT.PREPROCESSING
    if name == "resize":
        return None
    if name not in PREPROCESSING_REGISTRY:
        known = ", ".join(["resize", *sorted(key for key, _ in PREPROCESSING_REGISTRY)])
        raise ValueError(f"INPUT.PREPROCESSING {name!r} is unknown; choose one of {known}")
    model = cfg.MODEL.META_ARCHITECTURE
    if not getattr(META_ARCH_REGISTRY.get(model), "takes_network_transform", False):
        raise ValueError(f"INPUT.PREPROCESSING {name} is for GMIC and the ResNet-22 classifier; {model} needs resize")
    changed = [key for key in ("BRIGHTNESS", "CONTRAST", "GAMMA") if cfg.INPUT.AUG[key]]
    if changed:
        raise ValueError(
            f"INPUT.AUG.{changed[0]} is {cfg.INPUT.AUG[changed[0]]}: it works on grey levels of 0 to 255, which "
            f"INPUT.PREPROCESSING {name} does not give; set it to 0"
        )
    return PREPROCESSING_REGISTRY.get(name)(cfg)


def fitted_size(image_size: Sequence[int], size: Sequence[int], enlarge: bool = True) -> tuple[int, int]:
    """Largest (height, width) of an image's aspect ratio that fits into ``size``, rounded, at least 1 pixel a side.

    Without ``enlarge``, an image that fits already stays as large as it is.
    """
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    if not enlarge:
        scale = min(scale, 1.0)
    height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(image_size, size, strict=True))
    return height, width


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize (h, w) to ``size`` (H, W): area averages where a side shrinks, bilinear where it grows.

    Averaging keeps what small bright calcifications contribute; sampling may miss them. Returns ``image`` itself if
    there is nothing to do.
    """
    height, width = size
    # OpenCV averages areas only if both sides shrink, so a side that grows waits for a second step.
    smaller = (min(height, image.shape[0]), min(width, image.shape[1]))
    if smaller != image.shape:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if image.shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def _describe(record: dict, error: Exception) -> str:
    # The reader names the file, too.
    return f"image {record['image_id']!r}, {record['file_name']}: {str(error).removeprefix(record['file_name'] + ': ')}"
