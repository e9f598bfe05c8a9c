"""How a model's training images were prepared: recorded beside the weights in training, found again for prediction."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from mammo_d2.core.files import write_json
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.engine.run_files.run_folder import PREPARATION_FILE
from mammo_d2.framework import CfgNode, DatasetCatalog, MetadataCatalog

MANIFEST_FILE = "manifest.json"

logger = logging.getLogger(__name__)


def record_preparation(cfg: CfgNode) -> Path | None:
    """Write ``OUTPUT_DIR/preparation.json`` from the manifest of the training data; the data sets must be registered.

    A manifest that cannot be read is only warned about.

    Returns:
        The file, or None if no training data set has a manifest (then prediction takes files as they are).
    """
    try:
        preparation = _of_training_data(cfg.DATASETS.TRAIN)
    except ValueError as error:
        logger.warning("%s (name another one with INPUT.PREPARATION when you predict)", error)
        return None
    if preparation is None:
        return None
    path = Path(cfg.OUTPUT_DIR) / PREPARATION_FILE
    write_json(path, preparation.to_dict())
    return path


def find_preparation(cfg: CfgNode) -> Preparation:
    """The preparation that ``INPUT.PREPARATION`` asks for.

    With "auto" it is that of the training data: as recorded beside ``MODEL.WEIGHTS``, else from the training data
    set's manifest. Without either, files are left as they are, with a warning.

    Raises:
        FileNotFoundError, ValueError: the file named does not exist or is no such file.
    """
    choice = cfg.INPUT.PREPARATION
    if choice == "none":
        return Preparation()
    if choice != "auto":
        return Preparation.from_file(choice)
    beside = Path(cfg.MODEL.WEIGHTS).parent / PREPARATION_FILE
    if beside.is_file():
        return Preparation.from_file(beside)
    preparation = _of_training_data(cfg.DATASETS.TRAIN)
    if preparation is None:
        logger.warning(
            "there is no record of how the training images were prepared (%s, or %s of a data set of DATASETS.TRAIN); "
            "files are taken as they are. Name the training data set's manifest with INPUT.PREPARATION, or set it to "
            "none to silence this",
            beside,
            MANIFEST_FILE,
        )
        return Preparation()
    return preparation


def _of_training_data(names: Sequence[str]) -> Preparation | None:
    """Preparation of the first data set that has a manifest; others that differ are warned about."""
    found: dict[str, Preparation] = {}
    for name in set(names) & set(DatasetCatalog.list()):
        image_root = MetadataCatalog.get(name).get("image_root")
        manifest = Path(image_root).parent / MANIFEST_FILE if image_root else None
        if manifest is not None and manifest.is_file():
            found[name] = Preparation.from_file(manifest)
    first = next((name for name in names if name in found), None)
    if first is None:
        return None
    for name, other in found.items():
        if other != found[first]:
            logger.warning(
                "the training data sets %s and %s were prepared differently; prediction will do as for %s: %s",
                first,
                name,
                first,
                json.dumps(found[first].to_dict()),
            )
    return found[first]
