"""COCO JSON -> records."""

import contextlib
import io
import logging
import os
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mammo_d2.core.files import path_problem
from mammo_d2.framework.embedded.data.catalog import DatasetCatalog, MetadataCatalog, Records
from mammo_d2.framework.embedded.structures.boxes import BoxMode
from mammo_d2.framework.embedded.utils.files import PathManager

logger = logging.getLogger(__name__)

_ANNOTATION_KEYS = ("iscrowd", "bbox", "category_id")


def load_coco_json(json_file: str, image_root: str | os.PathLike, dataset_name: str) -> Records:
    """Read a file in COCO's instances format.

    Args:
        json_file: path or URL of the file.
        image_root: folder that the images' file_name is relative to.
        dataset_name: the data set whose metadata get ``thing_classes`` and ``thing_dataset_id_to_contiguous_id``.

    Returns:
        One record per image, in ascending order of the image ids: file_name, height, width, image_id, annotations.
        ``annotations`` is always there, an empty list for an image without. Category ids become 0..K-1 in ascending
        order of the file's ids. Boxes stay [x, y, w, h] in pixels (BoxMode.XYWH_ABS). An annotation whose polygons all
        have fewer than three points is dropped.

    Raises:
        AssertionError: annotation ids are not unique, or an annotation has "ignore" other than 0.
        KeyError: an annotation's category is not in the file's categories.
        ValueError: an annotation has an empty bbox, or an image a path that may lead out of the image folder.
    """
    json_file = PathManager.get_local_path(json_file)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO(json_file)

    ids = [annotation["id"] for annotation in coco.dataset.get("annotations", [])]
    assert len(set(ids)) == len(ids), f"{json_file}: annotation ids are not unique"
    orphans = len(coco.anns) - sum(len(coco.imgToAnns[image_id]) for image_id in coco.imgs)
    if orphans:
        logger.warning("%s: %d annotations belong to no image of the file", json_file, orphans)

    id_map = _register_categories(coco, dataset_name)
    records = []
    num_dropped = 0
    for image_id in sorted(coco.imgs):
        image = coco.imgs[image_id]
        if problem := path_problem(str(image["file_name"])):
            raise ValueError(f"{json_file}: image {image_id}: file_name {image['file_name']!r:.80} {problem}; write it "
                             "relative to the image folder")  # fmt: skip
        annotations = []
        for source in coco.imgToAnns[image_id]:
            where = f"{json_file}: annotation {source['id']} of image {image_id}"
            annotation = _read_annotation(source, where)
            if annotation is None:
                num_dropped += 1
                continue
            if source["category_id"] not in id_map:
                raise KeyError(f"{where}: category_id {source['category_id']} is not in the file's categories")
            annotation["category_id"] = id_map[source["category_id"]]
            annotations.append(annotation)
        records.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": annotations,
            }
        )
    if num_dropped:
        logger.warning("%s: dropped %d annotations whose polygons have fewer than 3 points", json_file, num_dropped)
    logger.info("%s: %d images", json_file, len(records))
    return records


def _register_categories(coco: COCO, dataset_name: str) -> dict[int, int]:
    """Put the class names into the metadata; returns category id -> class index."""
    category_ids = sorted(coco.cats)
    id_map = {category_id: index for index, category_id in enumerate(category_ids)}
    metadata = MetadataCatalog.get(dataset_name)
    metadata.thing_classes = [coco.cats[category_id]["name"] for category_id in category_ids]
    metadata.thing_dataset_id_to_contiguous_id = id_map
    return id_map


def _read_annotation(source: dict[str, Any], where: str) -> dict[str, Any] | None:
    """One annotation without its category mapped, or None if it has polygons but no valid one."""
    assert source.get("ignore", 0) == 0, f"{where}: 'ignore' is {source['ignore']}; only 0 is supported"
    annotation = {key: source[key] for key in _ANNOTATION_KEYS if key in source}
    if "bbox" in annotation and len(annotation["bbox"]) == 0:
        raise ValueError(f"{where}: bbox is empty; it must be [x, y, width, height]")
    annotation["bbox_mode"] = BoxMode.XYWH_ABS

    segmentation = source.get("segmentation")
    if isinstance(segmentation, dict) and segmentation:
        if isinstance(segmentation["counts"], list):
            segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        annotation["segmentation"] = segmentation
    elif segmentation:
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
        if not polygons:
            return None
        annotation["segmentation"] = polygons
    return annotation


def register_coco_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str | os.PathLike) -> None:
    """Register a COCO JSON as a data set, read when it is first asked for.

    Args:
        name: name in both catalogs; if it is registered already, only the metadata is added.
        metadata: further metadata of the data set.
        json_file: see ``load_coco_json``.
        image_root: see ``load_coco_json``.
    """
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
