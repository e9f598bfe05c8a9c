"""Data loaders of the lesion classifier's two stages; see ``patches.py`` and ``embeddings.py``."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from mammo_d2.data.format.catalog import category_names, load_records
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.patches import (
    LesionPatchMapper,
    LesionTestMapper,
    PatchSampler,
    PatchSources,
    patch_sources,
)
from mammo_d2.data.lesions.windows import WindowRule
from mammo_d2.data.loading.exam_sampler import share_breast_labels
from mammo_d2.data.loading.loader import images_per_rank, resolve_seed
from mammo_d2.data.loading.mapped_images import (
    SampleLoader,
    StreamKeys,
    TestImages,
    TrainingImages,
    TrainLoader,
    worker_options,
)
from mammo_d2.data.loading.samplers import StreamSampler, exam_key
from mammo_d2.framework import CfgNode, InferenceSampler, comm


def store_from_config(cfg: CfgNode) -> PatchStore:
    """The store of MODEL.LESION.STORE, by default the folder ``patch_store`` in OUTPUT_DIR."""
    folder = cfg.MODEL.LESION.STORE or str(Path(cfg.OUTPUT_DIR) / "patch_store")
    return PatchStore(folder, cfg.INPUT.INTENSITY, cfg.INPUT.INTENSITY_PERCENTILES)


def window_rule_from_config(cfg: CfgNode) -> WindowRule:
    """The windows of MODEL.LESION."""
    smallest, largest = cfg.MODEL.LESION.WINDOW_SIDES
    return WindowRule((int(smallest), int(largest)), cfg.MODEL.LESION.ROTATION)


def sources_from_config(cfg: CfgNode, names: Sequence[str]) -> PatchSources:
    """Sources of the training patches of some data sets.

    With DATASETS.LABEL_LEVEL "breast" an image without a finding is no negative where another view of its breast has
    one, by label or by box.

    Raises:
        ValueError: unknown or empty data, another LABEL_LEVEL.
    """
    records = load_records(cfg, names)
    if cfg.DATASETS.LABEL_LEVEL == "breast":
        records = _label_annotated_breasts(share_breast_labels(records), category_names(cfg))
    elif cfg.DATASETS.LABEL_LEVEL != "image":
        raise ValueError(f"DATASETS.LABEL_LEVEL is {cfg.DATASETS.LABEL_LEVEL!r}; use image or breast")
    smallest = window_rule_from_config(cfg).sides[0]
    return patch_sources(records, category_names(cfg), smallest=smallest, source=", ".join(names))


def _label_annotated_breasts(records: Sequence[dict], classes: Sequence[str]) -> list[dict]:
    """Records with a label 1 of every class that some view of their breast has a box of; data may have no labels."""
    found: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for record in records:
        for annotation in record["annotations"] if record.get("laterality") else ():
            found[exam_key(record), record["laterality"]][classes[annotation["category_id"]]] = 1
    return [
        {**record, "labels": {**(record.get("labels") or {}), **labels}}
        if (labels := found.get((exam_key(record), record.get("laterality"))))
        else record
        for record in records
    ]


def patch_mapper_from_config(cfg: CfgNode) -> LesionPatchMapper:
    """The mapper of training patches."""
    return LesionPatchMapper(
        store_from_config(cfg), window_rule_from_config(cfg), cfg.MODEL.LESION.PATCH_SIZE, category_names(cfg)
    )


def build_patch_loader(cfg: CfgNode, start_iter: int = 0) -> TrainLoader:
    """Endless loader of one rank's batches of training patches of ``DATASETS.TRAIN``.

    Args:
        cfg: the config. ``SOLVER.IMS_PER_BATCH`` patches make a batch over all ranks.
        start_iter: number of batches that an interrupted run has used.

    Raises:
        ValueError: unknown or empty data, a patch class without a source, a batch size that does not divide.
    """
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    seed = resolve_seed(cfg.SEED)

    def make(start: int, rank: int, world_size: int) -> PatchSampler:
        return PatchSampler(
            sources.pools, cfg.MODEL.LESION.EPOCH, seed=seed, start=start, rank=rank, world_size=world_size
        )

    return stream_loader(cfg, start_iter, sources.records, patch_mapper_from_config(cfg), make, seed)


def stream_loader(
    cfg: CfgNode,
    start_iter: int,
    records: Sequence[dict],
    mapper: Callable,
    make_sampler: Callable[[int, int, int], StreamSampler],
    seed: int,
) -> TrainLoader:
    """A training loader over a stream.

    Args:
        cfg: for batch size and workers.
        start_iter: batches already used.
        records: what the sampler's indices are rows of.
        mapper: called as mapper(record, rng).
        make_sampler: (start, rank, world_size) to the sampler.
        seed: of the mapper's generators.
    """
    rank, world_size = comm.get_rank(), comm.get_world_size()
    batch_size = images_per_rank(cfg.SOLVER.IMS_PER_BATCH, world_size)
    loader = TrainLoader(
        TrainingImages(records, mapper, seed),
        batch_size=batch_size,
        sampler=StreamKeys(make_sampler(start_iter * batch_size, rank, world_size)),
        **worker_options(cfg.DATALOADER.NUM_WORKERS),
    )
    loader.seed = seed
    return loader


def lesion_mapper_from_config(cfg: CfgNode) -> LesionTestMapper:
    """The mapper of test windows. They follow from a fixed seed, so that two runs are compared on the same windows."""
    return LesionTestMapper(
        store_from_config(cfg),
        window_rule_from_config(cfg),
        cfg.MODEL.LESION.PATCH_SIZE,
        cfg.MODEL.LESION.WINDOWS,
    )


def build_lesion_loader(records: Sequence[dict], mapper: Callable[[dict], dict], num_workers: int = 0) -> SampleLoader:
    """Loader that gives every image once, with the windows of its lesions, one image per batch.

    Args:
        records: dataset records; images without a lesion give an input without windows.
        mapper: ``LesionTestMapper`` or a wrapper of it.
        num_workers: worker processes.
    """
    return SampleLoader(
        TestImages(records, mapper),
        batch_size=1,
        sampler=InferenceSampler(len(records)),
        **worker_options(num_workers),
    )
