"""Data loaders: records, a sampler and the mapper put together.

The data of a training run are a function of the seed alone: which image comes at which position (``samplers.py``), and
its augmentation, whose generator is made from (seed, position). They do not depend on the number of worker processes,
on the number of ranks (the joined batch of a step is the same), or on whether the run was interrupted.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from mammo_d2.core.image_truth import joined_truth, truth_without_boxes
from mammo_d2.data.format.box_share import keep_boxes
from mammo_d2.data.format.catalog import load_records
from mammo_d2.data.format.stored_records import StoredRecords
from mammo_d2.data.loading.exam_sampler import ExamSampler, share_breast_labels  # noqa: F401  importing registers the sampler
from mammo_d2.data.loading.mapped_images import (
    SampleLoader,
    StreamKeys,
    TestImages,
    TrainingImages,
    TrainLoader,
    worker_options,
)
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.loading.proposals import with_proposals
from mammo_d2.data.loading.samplers import SAMPLER_REGISTRY, ImagePools, StreamSampler, split_pools
from mammo_d2.framework import CfgNode, InferenceSampler, MetadataCatalog, comm

logger = logging.getLogger(__name__)


def build_train_loader(cfg: CfgNode, start_iter: int = 0, *, mapper: Callable | None = None) -> TrainLoader:
    """Loader of ``DATASETS.TRAIN`` with the sampler ``DATALOADER.SAMPLER_TRAIN``.

    Args:
        cfg: the config. ``SOLVER.IMS_PER_BATCH`` is the number of images of a batch over all ranks. A negative
            ``SEED`` is replaced by a random one, the same on all ranks.
        start_iter: number of batches that an interrupted run has used; the loader begins with the next one.
        mapper: called as mapper(record, rng); by default ``MammoMapper``.

    Raises:
        ValueError: unknown or empty data, a pool that the sampler needs is empty, a batch size that does not divide.
    """
    records, pools, classes = _training_records(cfg)
    records = with_proposals(cfg, records, cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN)
    seed = resolve_seed(cfg.SEED)
    rank, world_size = comm.get_rank(), comm.get_world_size()

    sampler_class = _sampler_class(cfg.DATALOADER.SAMPLER_TRAIN)
    batch_size = images_per_rank(cfg.SOLVER.IMS_PER_BATCH, world_size, sampler_class.UNIT)
    sampler = sampler_class.from_pools(
        pools, seed=seed, start=start_iter * batch_size, rank=rank, world_size=world_size
    )
    _log_training_set(records, pools, classes, seed)
    if not sampler_class.DRAWS_UNKNOWN and not pools.label_only:  # others learn from the labels of all images
        warn_of_unlocalized(pools, records)
    if pools.unknown and not sampler_class.DRAWS_UNKNOWN:
        logger.warning(
            "%s: %d images are left out as unknown: they have no box, and their label for %s is not 0 (first: %s); "
            "where an image is known to show none, write 0 in its labels",
            pools.source, len(pools.unknown), " or ".join(classes), records[pools.unknown[0]]["file_name"],
        )  # fmt: skip

    loader = TrainLoader(
        TrainingImages(records, mapper or MammoMapper(cfg, is_train=True), seed),
        batch_size=batch_size,
        sampler=StreamKeys(sampler),
        **worker_options(cfg.DATALOADER.NUM_WORKERS),
    )
    loader.seed = seed
    return loader


def epoch_images(cfg: CfgNode) -> float:
    """Images of an epoch of ``DATASETS.TRAIN`` with the sampler ``DATALOADER.SAMPLER_TRAIN``, over all ranks.

    Raises:
        ValueError: see ``build_train_loader``; also a sampler that does not say how long its epochs are.
    """
    _, pools, _ = _training_records(cfg)
    return _sampler_class(cfg.DATALOADER.SAMPLER_TRAIN).from_pools(pools, seed=0).epoch_images


def _annotated(records: Sequence[dict]) -> Sequence[dict]:
    """The records with annotations."""
    if isinstance(records, StoredRecords):
        return records.take(records.annotated_rows())
    return [record for record in records if record["annotations"]]


def _training_records(cfg: CfgNode) -> tuple[Sequence[dict], ImagePools, list[str]]:
    """Records of ``DATASETS.TRAIN`` as configured, their pools, and the classes."""
    names = list(cfg.DATASETS.TRAIN)
    records = load_records(cfg, names)
    classes = _check_classes(cfg, names)
    source = ", ".join(names)
    records = keep_boxes(records, classes, cfg.DATASETS.BOXES_FOR, cfg.DATASETS.BOXES_SEED, source)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = _annotated(records)
        if not records:
            raise ValueError(
                f"{', '.join(names)}: no image has a box of {', '.join(classes)}, and images without one are left out; "
                "check DATASETS.CATEGORIES, or set DATALOADER.FILTER_EMPTY_ANNOTATIONS False"
            )
    if cfg.DATASETS.LABEL_LEVEL == "breast":
        records = share_breast_labels(records)
    elif cfg.DATASETS.LABEL_LEVEL != "image":
        raise ValueError(f"DATASETS.LABEL_LEVEL is {cfg.DATASETS.LABEL_LEVEL!r}; use image or breast")
    pools = split_pools(records, classes, source=source)
    if cfg.DATALOADER.LABEL_ONLY_POSITIVES == "use":
        pools = _with_label_only(cfg, pools, records, classes)
    return records, pools, classes


def _with_label_only(cfg: CfgNode, pools: ImagePools, records: Sequence[dict], classes: list[str]) -> ImagePools:
    """The pools with the positive images that have labels only; ValueError for samplers that would not draw them."""
    sampler = _sampler_class(cfg.DATALOADER.SAMPLER_TRAIN)
    if not sampler.DRAWS_LABEL_ONLY and not sampler.DRAWS_UNKNOWN:
        raise ValueError(
            f"DATALOADER.LABEL_ONLY_POSITIVES is 'use', but DATALOADER.SAMPLER_TRAIN {sampler.__name__} draws no "
            "positive images without boxes; set it to PairSampler"
        )
    truths = {index: truth_without_boxes(records[index], classes) for index in pools.unlocalized}
    label_only = [index for index, truth in truths.items() if truth is not None and joined_truth(truth) == 1]
    return replace(pools, label_only=label_only, label_only_share=cfg.DATALOADER.LABEL_ONLY_SHARE)


def build_test_loader(
    cfg: CfgNode, dataset_name: str, *, mapper: Callable | None = None, with_instances: bool = False
) -> SampleLoader:
    """Loader that gives every image of a data set once, one per batch, without augmentation.

    With several ranks each gets a contiguous part; the parts differ by one image if the count does not divide.

    Args:
        cfg: the config.
        dataset_name: a registered name.
        mapper: called as mapper(record); by default ``MammoMapper``.
        with_instances: add the ground truth, for a validation loss.

    Raises:
        ValueError: unknown or empty data.
    """
    records = load_records(cfg, dataset_name)
    records = with_proposals(cfg, records, cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST)
    mapper = mapper or MammoMapper(cfg, is_train=False, with_instances=with_instances)
    return SampleLoader(
        TestImages(records, mapper),
        batch_size=1,
        sampler=InferenceSampler(len(records)),
        # A loader that is kept for the next evaluation keeps its workers, and with them their image caches.
        persistent_workers=cfg.DATALOADER.NUM_WORKERS > 0,
        **worker_options(cfg.DATALOADER.NUM_WORKERS),
    )


def resolve_seed(seed: int) -> int:
    """``seed`` itself, or a random one shared by all ranks if it is negative (every rank must call this)."""
    return seed if seed >= 0 else int(comm.shared_random_seed())


def images_per_rank(images_per_batch: int, world_size: int, unit: int = 1) -> int:
    """Share of a batch that one rank gets; ValueError if it does not divide.

    Args:
        images_per_batch: SOLVER.IMS_PER_BATCH, over all ranks.
        world_size: number of ranks.
        unit: number of images that stay together (2 for pairs).
    """
    step = unit * world_size
    if images_per_batch <= 0 or images_per_batch % step:
        what = "pairs of a positive and a negative image" if unit == 2 else "images"
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {images_per_batch}; it must be a multiple of {step} to share whole {what} among "
            f"{world_size} process{'es' if world_size > 1 else ''}, "
            f"for example {max(1, round(images_per_batch / step)) * step}"
        )
    return images_per_batch // world_size


def _sampler_class(name: str) -> type[StreamSampler]:
    if name not in SAMPLER_REGISTRY:
        known = ", ".join(sorted(key for key, _ in SAMPLER_REGISTRY))
        raise ValueError(f"DATALOADER.SAMPLER_TRAIN {name!r} is unknown; choose one of {known}")
    return SAMPLER_REGISTRY.get(name)


def _check_classes(cfg: CfgNode, names: list[str]) -> list[str]:
    """The classes of the data sets; ValueError if they are not named, differ, or are not as many as the model has."""
    by_name = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    for name, classes in by_name.items():
        if not classes:
            raise ValueError(
                f"the data set {name} does not name its classes; set MetadataCatalog.get({name!r}).thing_classes = "
                "[...] where it is registered"
            )
    classes = by_name[names[0]]
    for name, others in by_name.items():
        if others != classes:
            raise ValueError(f"the data sets {names[0]} and {name} have different classes: {classes} and {others}")
    if len(classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ValueError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {cfg.MODEL.ROI_HEADS.NUM_CLASSES}, but the data have {len(classes)} "
            f"classes ({', '.join(classes)}): set it to {len(classes)}; load_config sets it to the number of "
            "DATASETS.CATEGORIES"
        )
    return classes


def warn_of_unlocalized(pools: ImagePools, records: Sequence[dict]) -> None:
    """For samplers that draw from the pools of positives and negatives only."""
    if pools.unlocalized:
        logger.warning(
            "%s: %d images are labelled with a finding but have no box for it; they are in neither the positive nor "
            "the negative pool (first: %s)",
            pools.source,
            len(pools.unlocalized),
            records[pools.unlocalized[0]].get("file_name"),
        )


def _log_training_set(records: Sequence[dict], pools: ImagePools, classes: list[str], seed: int) -> None:
    boxes, labels = _counts(records, classes)
    logger.info(
        "training on %s: %d images, %d positive, %d negative, %d with a finding but no box, %d unknown; boxes: %s; "
        "labels: %s; seed %d",
        pools.source,
        len(records),
        len(pools.positives),
        len(pools.negatives),
        len(pools.unlocalized),
        len(pools.unknown),
        ", ".join(f"{boxes[name]} {name}" for name in classes),
        ", ".join(f"{name} {n[1]} yes, {n[0]} no, {n[None]} unknown" for name, n in labels.items()),
        seed,
    )
    for name, n in labels.items():
        if n[1] and not n[0]:
            logger.warning(
                "%s: no image has labels.%s = 0; a method that learns from image labels learns that every image shows "
                "%s",
                pools.source, name, name,
            )  # fmt: skip


def _counts(records: Sequence[dict], classes: list[str]) -> tuple[Counter, dict[str, Counter]]:
    """Boxes of each class, and per class how many images have which label (None: unknown)."""
    if isinstance(records, StoredRecords):
        columns = records.sampling_columns(classes)
        boxes = Counter(dict(zip(classes, columns.boxes.tolist(), strict=True)))
        codes = {name: columns.labels[:, row] for row, name in enumerate(classes)}
        return boxes, {
            name: Counter({1: int((c == 1).sum()), 0: int((c == 0).sum()), None: int((c < 0).sum())})
            for name, c in codes.items()
        }
    boxes = Counter(classes[entry["category_id"]] for record in records for entry in record["annotations"])
    return boxes, {name: Counter((record.get("labels") or {}).get(name) for record in records) for name in classes}
