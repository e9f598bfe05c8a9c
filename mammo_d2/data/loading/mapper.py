"""Dataset record -> model input: read, scale the intensity, resize, augment, make tensors.

Coordinates are continuous pixel edges (see ``affine.py``): a resize from (h, w) to (H, W) multiplies x by W/w and y by
H/h.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mammo_d2.core.image_truth import truth_without_boxes
from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.breast.tissue_map import tissue_map
from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.data.format.catalog import category_names
from mammo_d2.data.loading.affine import visible_boxes, warp_cells
from mammo_d2.data.loading.augmentation import Augmentation
from mammo_d2.data.loading.network_image import ImageCache, NetworkImage
from mammo_d2.data.loading.preprocessing import Preprocessing, build_preprocessing
from mammo_d2.data.loading.proposals import FIELDS as PROPOSAL_FIELDS
from mammo_d2.data.loading.proposals import network_proposals
from mammo_d2.data.loading.random_windows import RandomWindows, add_noise, draw_offset
from mammo_d2.data.loading.resize import fitted_size, resize_image
from mammo_d2.data.reading.intensity import scale_intensity
from mammo_d2.data.reading.reader import read_image
from mammo_d2.framework import Boxes, BoxMode, CfgNode, Instances, configurable


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
    * ``image_labels`` (with ``instances``; only of images that show, or may show, a finding but have no usable box in
      the record): {class: 1, 0 or None where unknown}. Without boxes, but not negative.
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
        window_shift: int = 0,
        windows: RandomWindows | None = None,
        classes: Sequence[str] = (),
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
            cache_mb: MiB of network images that a process keeps in memory, see ``ImageCache``.
            preprocessing: takes the place of intensity scaling and resizing.
            tissue_cell: side of the cells of ``tissue`` in pixels; 0: none.
            window_shift: largest random shift of the breast window, in pixels; such images are not cached.
            windows: versions of the image that are added as ``windows``.
            classes: names of the detection classes, by number; without any there are no ``image_labels``.
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
        if window_shift < 0:
            raise ValueError(f"INPUT.WINDOW.RANDOM_SHIFT is {window_shift}; it must not be negative")
        self.window_shift = window_shift
        self.windows = windows or RandomWindows()
        self.classes = tuple(classes)
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
            "window_shift": cfg.INPUT.WINDOW.RANDOM_SHIFT if is_train else 0,
            "windows": None if is_train else RandomWindows.from_config(cfg),
            "classes": category_names(cfg),
        }

    def __call__(self, record: dict, rng: np.random.Generator | None = None) -> dict:
        """Map one record; it is not modified.

        Args:
            record: see ``catalog.py``.
            rng: the only source of randomness of the augmentation; None takes a fresh unseeded one.

        Raises:
            FileNotFoundError, ValueError: the image cannot be used; the message names image id and file.
        """
        rng = rng or np.random.default_rng()
        if self.window_shift:
            network = self.prepare_image(record, draw_offset(self.window_shift, rng))
        else:
            network = self._cache.get(record["file_name"], lambda: self.prepare_image(record))
        image = network.pixels
        boxes, classes = self.prepare_boxes(record, image.shape, network.transform)
        matrix = np.eye(2, 3)
        if self.augmentation is not None:
            # Black is 0, but for a standardised image its lowest value.
            fill = 0.0 if network.transform is None else float(image.min())
            image, geometry = self.augmentation(image, boxes, rng, fill)
            boxes, classes, matrix = geometry.boxes, classes[geometry.kept], geometry.matrix
            if network.tissue is not None:
                network = replace(network, tissue=warp_cells(network.tissue, self.tissue_cell, matrix))
        sample = {key: value for key, value in record.items() if key not in ("annotations", *PROPOSAL_FIELDS)}
        # A copy in every case: the cached array is never handed out.
        sample["image"] = self.to_tensor(image)
        sample.update(network.sample_fields())
        if self.windows.count > 1:
            sample["windows"] = self.window_fields(record["image_id"], lambda at: self.prepare_image(record, at))
        if PROPOSAL_FIELDS[0] in record:
            height, width = image.shape
            sample["proposals"] = network_proposals(record, (height, width), network.transform, matrix)
        if self.with_instances:
            instances = Instances(image.shape)
            instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
            instances.gt_classes = torch.as_tensor(classes, dtype=torch.int64)
            sample["instances"] = instances
            truth = truth_without_boxes(record, self.classes) if self.classes else None
            if truth is not None:
                sample["image_labels"] = dict(zip(self.classes, truth, strict=True))
        return sample

    def window_fields(self, image_id: object, make: Callable[[tuple[int, int]], NetworkImage]) -> list[dict[str, Any]]:
        """The versions of an image that ``windows`` draws, as fields of a model input each.

        Args:
            image_id: seeds the draws.
            make: the network image with the window's content moved by (x, y) pixels.
        """
        versions = []
        for rng in self.windows.generators(image_id):
            network = make(draw_offset(self.windows.shift, rng))
            pixels = add_noise(network.pixels, self.windows.noise, rng)
            versions.append({"image": self.to_tensor(pixels), **network.sample_fields()})
        return versions

    def prepare_image(self, record: dict, offset: tuple[int, int] = (0, 0)) -> NetworkImage:
        """Read the image of a record and make the network image (``offset`` as there); nothing is random."""
        try:
            pixels, meta = read_image(record["file_name"])
            if pixels.shape != (record["height"], record["width"]):
                raise ValueError(
                    f"the file has {pixels.shape[0]}x{pixels.shape[1]} pixels (height x width), its record says "
                    f"{record['height']}x{record['width']}; prepare the data set again"
                )
            return self.network_image(pixels, meta.max_value, record, offset)
        except FileNotFoundError as error:
            raise FileNotFoundError(_describe(record, error)) from error
        except (OSError, ValueError) as error:
            raise ValueError(_describe(record, error)) from error

    def network_image(
        self, pixels: np.ndarray, max_value: float, facts: Mapping[str, Any], offset: tuple[int, int] = (0, 0)
    ) -> NetworkImage:
        """Scale the intensity of (h, w) pixels to 0..255 and resize, or apply ``preprocessing`` instead.

        Args:
            pixels: float32.
            max_value: their full-scale value.
            facts: ``laterality``, ``view``, ``file_name`` as far as they are known.
            offset: (x, y) by which the content of the breast window is moved, in pixels; of other images 0.
        """
        transform = None
        if self.preprocessing is not None:
            preprocessing = self.preprocessing
            if any(offset):
                assert isinstance(preprocessing, BreastWindow)
                preprocessing = replace(preprocessing, offset=offset)
            pixels, transform = preprocessing(pixels, facts)
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


def _describe(record: dict, error: Exception) -> str:
    # The reader names the file, too.
    return f"image {record['image_id']!r}, {record['file_name']}: {str(error).removeprefix(record['file_name'] + ': ')}"
