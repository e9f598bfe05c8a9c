"""Registration of data sets in the framework's catalogs, and the records they are loaded as.

A data set is a folder ``<root>/<dataset>/`` with ``annotations/<split>.json`` (format: ``annotations.py``) and
``images/``; each split is registered as ``<dataset>_<split>``. Others are named in ``DATASETS.REGISTER``.

A record is a detectron2 dataset dict: the image entry of the JSON with ``image_id`` instead of ``id`` and a full path
in ``file_name``, and ``annotations``, always present: [{bbox, bbox_mode XYWH_ABS in pixels of the image file,
category_id = contiguous class from 0, iscrowd, and the rest of the JSON's annotation}].

The records of a large annotation file come from its record store (``store_files.py``): a sequence of the same records,
each decoded when it is asked for.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammo_d2.data.format.annotations import load_coco
from mammo_d2.data.format.store_files import open_store, wants_store
from mammo_d2.data.format.stored_records import StoredRecords, StoredSource, make_record
from mammo_d2.data.format.subset import check_numbers, take_records
from mammo_d2.framework import CfgNode, DatasetCatalog, MetadataCatalog

# Wins over DATASETS.ROOT.
ROOT_VARIABLE = "MAMMO_D2_DATASETS"

# Metadata.evaluator_type of every data set registered here.
EVALUATOR_TYPE = "mammo"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoSource:
    """One registered data set; calling it loads the records.

    Attributes:
        name: name in the catalogs.
        json_file, image_root: annotation file, and the folder its file names are relative to.
        categories: category names that are detection classes, in class order.
        merge: if not empty, the one class that all ``categories`` become.
        take: (class, number of images) pairs; empty: all images. See ``subset.py``.
        take_seed: of the draw.
        record_store: DATASETS.RECORD_STORE, see ``store_files.py``.
    """

    name: str
    json_file: str
    image_root: str
    categories: tuple[str, ...]
    merge: str = ""
    take: tuple[tuple[str, int], ...] = ()
    take_seed: int = 0
    record_store: str = "auto"

    @property
    def is_stored(self) -> bool:
        """Whether the records come from a record store."""
        return wants_store(self.json_file, self.record_store)

    def __call__(self) -> Sequence[dict]:
        records: Sequence[dict]
        if self.is_stored:
            records = stored_mammo_coco(self.json_file, self.image_root, self.name, self.categories, self.merge)
        else:
            records = load_mammo_coco(self.json_file, self.image_root, self.name, self.categories, self.merge)
        return take_records(records, dict(self.take), self.take_seed, self.name) if self.take else records


# Data sets registered by this module; a name registered by other code is an error.
_registered: dict[str, CocoSource] = {}


def category_names(cfg: CfgNode) -> list[str]:
    """Detection classes in the order of their contiguous ids: DATASETS.CATEGORIES, or the one they are merged into.

    Raises:
        ValueError: no category, one listed twice, or one that is no text.
    """
    categories = list(cfg.DATASETS.CATEGORIES)
    if wrong := [name for name in categories if not isinstance(name, str)]:
        raise ValueError(f"DATASETS.CATEGORIES must hold the names of detection classes, not {wrong[0]!r}")
    if not categories or len(set(categories)) != len(categories):
        raise ValueError(f"DATASETS.CATEGORIES must name each detection class once, not {categories}")
    return _classes(categories, cfg.DATASETS.MERGE_CATEGORIES)


def _classes(categories: Sequence[str], merge: str) -> list[str]:
    return [merge] if merge else list(categories)


def datasets_root(cfg: CfgNode) -> Path:
    """Folder that holds the prepared data sets: the environment variable MAMMO_D2_DATASETS, or ``DATASETS.ROOT``."""
    return Path(os.environ.get(ROOT_VARIABLE) or cfg.DATASETS.ROOT)


def register_datasets(cfg: CfgNode) -> list[str]:
    """Register every data set found under the root and every triple of ``DATASETS.REGISTER``.

    May be called again: an unchanged data set is left alone, a changed one (another file, other categories) replaces
    the old entry in both catalogs. Annotation files are read when a data set is loaded, not here.

    Returns:
        The names, sorted.

    Raises:
        ValueError: a malformed triple, two data sets of one name, a name that other code has registered, or a malformed
            DATASETS.TAKE or DATASETS.RECORD_STORE.
    """
    numbers = check_numbers(cfg.DATASETS.TAKE)
    wants_store("", cfg.DATASETS.RECORD_STORE)
    categories, merge = tuple(cfg.DATASETS.CATEGORIES), cfg.DATASETS.MERGE_CATEGORIES
    category_names(cfg)
    sources: dict[str, CocoSource] = {}
    for name, json_file, image_root in [*_found_under(datasets_root(cfg)), *_configured(cfg)]:
        if name in sources:
            raise ValueError(
                f"two data sets are called {name!r}: {sources[name].json_file} and {json_file}; rename one of them in "
                "DATASETS.REGISTER or its folder under DATASETS.ROOT"
            )
        take = tuple(numbers.get(name, {}).items())
        sources[name] = CocoSource(
            name, json_file, image_root, categories, merge, take, cfg.DATASETS.TAKE_SEED if take else 0,
            cfg.DATASETS.RECORD_STORE,
        )  # fmt: skip
    for source in sources.values():
        _register(source)
    return sorted(sources)


def _found_under(root: Path) -> list[tuple[str, str, str]]:
    """[name, JSON, image folder] of each ``<root>/<dataset>/annotations/<split>.json``."""
    return [
        (f"{path.parents[1].name}_{path.stem}", str(path), str(path.parents[1] / "images"))
        for path in sorted(root.glob("*/annotations/*.json"))
    ]


def _configured(cfg: CfgNode) -> list[tuple[str, str, str]]:
    """The triples of DATASETS.REGISTER, checked."""
    for entry in cfg.DATASETS.REGISTER:
        ok = isinstance(entry, (list, tuple)) and len(entry) == 3 and all(isinstance(item, str) for item in entry)
        if not ok:
            raise ValueError(f"DATASETS.REGISTER: {entry!r} is not a [name, COCO JSON, image folder] triple of strings")
    return [tuple(entry) for entry in cfg.DATASETS.REGISTER]


def _register(source: CocoSource) -> None:
    present = source.name in DatasetCatalog.list()
    if present and _registered.get(source.name) == source:
        return
    if present:
        if source.name not in _registered:
            raise ValueError(
                f"the data set name {source.name!r} ({source.json_file}) is taken by a data set that other code "
                "registered; rename one of them"
            )
        DatasetCatalog.remove(source.name)
    if source.name in MetadataCatalog.list():
        MetadataCatalog.remove(source.name)
    DatasetCatalog.register(source.name, source)
    MetadataCatalog.get(source.name).set(
        json_file=source.json_file,
        image_root=source.image_root,
        evaluator_type=EVALUATOR_TYPE,
        thing_classes=_classes(source.categories, source.merge),
    )
    _registered[source.name] = source


def load_mammo_coco(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    name: str | None = None,
    categories: Sequence[str] = ("malignant",),
    merge: str = "",
) -> list[dict]:
    """Load a COCO file of ``annotations.py`` as dataset records, ordered by image id.

    Annotations of categories that are not listed are dropped; an image without any stays (see ``image_truth.py``).

    Args:
        json_file, image_root: annotation file, and the folder its file names are relative to.
        name: data set whose Metadata gets ``thing_classes``, ``thing_dataset_id_to_contiguous_id`` {JSON category id:
            class} and its inverse ``thing_contiguous_id_to_dataset_id`` {class: JSON category id} (of merged
            categories: the first listed). None: no Metadata.
        categories: category names that are detection classes, in class order.
        merge: if not empty, all ``categories`` are this one class; ``labels`` get an entry of it.

    Returns:
        The records.

    Raises:
        FileNotFoundError: there is no such JSON.
        ValueError: the JSON breaks the schema or lacks one of ``categories``, or an image file is missing.
    """
    json_file, image_root = str(json_file), str(image_root)
    # Missing files are found now rather than hours into a training.
    coco = load_coco(json_file, image_root, check_images="exists")
    class_of = _class_ids(coco["categories"], categories, merge, json_file)
    if name is not None:
        _set_metadata(name, class_of, categories, merge)
    annotations: dict[int, list[dict]] = {image["id"]: [] for image in coco["images"]}
    for annotation in sorted(coco["annotations"], key=lambda entry: entry["id"]):
        annotations[annotation["image_id"]].append(annotation)
    return [
        make_record(image, annotations[image["id"]], image_root, class_of, categories, merge)
        for image in sorted(coco["images"], key=lambda entry: entry["id"])
    ]


def stored_mammo_coco(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    name: str | None = None,
    categories: Sequence[str] = ("malignant",),
    merge: str = "",
) -> StoredRecords:
    """The records of ``load_mammo_coco`` from the annotation file's record store; arguments and errors as there."""
    json_file, image_root = str(json_file), str(image_root)
    store = open_store(json_file, image_root)
    class_of = _class_ids(store.categories, categories, merge, json_file)
    if name is not None:
        _set_metadata(name, class_of, categories, merge)
    return StoredRecords([StoredSource(store, image_root, class_of, tuple(categories), merge)])


def _set_metadata(name: str, class_of: dict[int, int], categories: Sequence[str], merge: str) -> None:
    inverse: dict[int, int] = {}
    for json_id, class_id in class_of.items():
        inverse.setdefault(class_id, json_id)
    MetadataCatalog.get(name).set(
        thing_classes=_classes(categories, merge),
        thing_dataset_id_to_contiguous_id=class_of,
        thing_contiguous_id_to_dataset_id=inverse,
    )


def _class_ids(json_categories: list[dict], categories: Sequence[str], merge: str, json_file: str) -> dict[int, int]:
    """{JSON category id: contiguous class} of the listed categories."""
    json_ids = {category["name"]: category["id"] for category in json_categories}
    unknown = [category for category in categories if category not in json_ids]
    if unknown:
        raise ValueError(
            f"{json_file}: DATASETS.CATEGORIES names {', '.join(map(repr, unknown))}, but the file's categories are "
            f"{', '.join(map(repr, json_ids)) or 'none'}; correct the name, or add the category to the file if it only "
            "has no annotation there"
        )
    return {json_ids[category]: 0 if merge else index for index, category in enumerate(categories)}


def check_names(cfg: CfgNode, names: Sequence[str]) -> None:
    """Check that all data sets are registered.

    Raises:
        ValueError: an unknown name, with the known ones and where they are looked for.
    """
    known = DatasetCatalog.list()
    unknown = [name for name in names if name not in known]
    if unknown:
        root = datasets_root(cfg)
        ours = sorted(name for name in known if name in _registered)
        raise ValueError(
            f"unknown data set {', '.join(map(repr, unknown))}; known are {', '.join(ours) or 'none'}. "
            f"<dataset>_<split> is looked for in {root.resolve()}/<dataset>/annotations/<split>.json (DATASETS.ROOT, "
            f"or the environment variable {ROOT_VARIABLE}) and in DATASETS.REGISTER"
        )


def load_records(cfg: CfgNode, names: str | Sequence[str]) -> Sequence[dict]:
    """Records of one or more registered data sets, in the order of ``names``.

    Raises:
        ValueError: an unknown name (with the known ones and where they are looked for), no name, or no image.
    """
    names = [names] if isinstance(names, str) else list(names)
    check_names(cfg, names)
    if not names:
        raise ValueError("no data set is named; set DATASETS.TRAIN or DATASETS.TEST")
    parts: list[Sequence[dict]] = [DatasetCatalog.get(name) for name in names]
    # ``take_records`` makes lists; whole stores stay what they are.
    stored = [part for part in parts if isinstance(part, StoredRecords)]
    records: Sequence[dict]
    if len(stored) == len(parts):
        records = StoredRecords([source for part in stored for source in part.sources])
    else:
        records = [record for part in parts for record in part]
    if not records:
        raise ValueError(
            f"{', '.join(names)}: there is no image in the data; prepare the data set, or name another one"
        )
    return records


def are_surely_apart(first: str, second: str) -> bool:
    """Whether two registered data sets share no patient and no source image, as far as their record stores tell.

    A cheap look before ``check_splits``, which says what is shared. False where nothing is known.
    """
    sources = [_registered.get(name) for name in (first, second)]
    if not all(source is not None and source.is_stored for source in sources):
        return False
    stores = [open_store(source.json_file, source.image_root) for source in sources if source is not None]
    return not any(
        np.isin(getattr(stores[0], column), getattr(stores[1], column)).any()
        for column in ("patient_hashes", "content_hashes")
    )
