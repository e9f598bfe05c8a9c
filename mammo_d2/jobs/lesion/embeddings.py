"""The lesion classifier's embeddings: computed by the best f_loc, stored in parts, the training data of f_agg."""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mammo_d2.data.lesions.patches import PatchSampler, PatchSources
from mammo_d2.data.lesions.stage_loaders import patch_mapper_from_config, sources_from_config, stream_loader
from mammo_d2.data.lesions.stored_epochs import StoredEpochs, StoredRows
from mammo_d2.data.lesions.stores import EmbeddingStore, StoredPatchMapper, StoredPatchSampler
from mammo_d2.data.loading.mapped_images import TrainingImages, TrainLoader, UnusableImage
from mammo_d2.framework import CfgNode, comm
from mammo_d2.jobs.lesion.context_saliency import needs_saliency, saliency_store
from mammo_d2.jobs.lesion.lesion_stages import PATCH_MODEL, cache_folder, digest_of, load_classifier

logger = logging.getLogger(__name__)


def make_embeddings(cfg: CfgNode) -> None:
    """Compute the missing parts of a context stage's embeddings with the best f_loc, shared among the ranks."""
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    sampler = PatchSampler(sources.pools, cfg.MODEL.LESION.EPOCH, seed=cfg.SEED)
    stored = stored_epochs(cfg, sampler)
    store = embedding_store(cfg, sources, stored)
    parts = store.missing()
    comm.synchronize()  # every rank has listed the missing parts before any rank writes
    own_parts = parts[comm.get_rank() :: comm.get_world_size()]
    if own_parts:
        keys = cfg.MODEL.LESION
        logger.info(
            "embeddings of %d patches in %d parts, %d of them missing: %d epochs of lesion patches, %d of the others",
            *(len(stored.positions), len(store.parts()), len(parts), *stored.counts),
        )
        patch_cfg = cfg.clone()
        patch_cfg.defrost()
        patch_cfg.MODEL.META_ARCHITECTURE = PATCH_MODEL
        model = load_classifier(patch_cfg, Path(keys.PATCH_WEIGHTS))
        patches = TrainingImages(sources.records, patch_mapper_from_config(cfg), cfg.SEED)
        for part in own_parts:
            positions = stored.positions[part.start : part.stop]
            store.put(part, _embed(model, patches, sampler, positions, keys.WINDOWS_PER_FORWARD))
    comm.synchronize()


def _embed(
    model: Any, patches: TrainingImages, sampler: PatchSampler, positions: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """Embeddings, windows, classes and sources of the patches at some positions."""
    rows, embeddings, windows, classes = [], [], [], []
    for begin in range(0, len(positions), batch_size):
        batch = positions[begin : begin + batch_size].tolist()
        keys = [(position, sampler.index_at(position)) for position in batch]
        samples = []
        for key in keys:
            sample = patches[key]
            if isinstance(sample, UnusableImage):
                raise sample.error
            samples.append(sample)
        with torch.inference_mode():
            embeddings.append(model.embed(torch.stack([sample["image"] for sample in samples])).float().cpu().numpy())
        rows += [row for _, row in keys]
        windows += [sample["window"].numpy() for sample in samples]
        classes += [sample["patch_class"] for sample in samples]
    return {
        "embedding": np.concatenate(embeddings),
        "window": np.stack(windows),
        "patch_class": np.array(classes, np.int64),
        "source": np.array(rows, np.int64),
    }


def stored_epochs(cfg: CfgNode, sampler: PatchSampler) -> StoredEpochs:
    """The patches that MODEL.LESION.STORED_EPOCHS and STORED_BACKGROUND_EPOCHS of a context stage store.

    Raises:
        ValueError: a negative number.
    """
    keys, trained = cfg.MODEL.LESION, math.ceil(cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / sampler.length)
    numbers = (keys.STORED_EPOCHS, keys.STORED_BACKGROUND_EPOCHS)
    if min(numbers) < 0:
        raise ValueError(
            f"MODEL.LESION.STORED_EPOCHS and STORED_BACKGROUND_EPOCHS are {numbers[0]} and {numbers[1]}; they must be "
            "numbers of epochs, or 0 for as many as the aggregation network is trained for"
        )
    lesions = numbers[0] or max(1, trained)
    return StoredEpochs(sampler, lesions, numbers[1] or lesions)


def embedding_store(cfg: CfgNode, sources: PatchSources, stored: StoredEpochs) -> EmbeddingStore:
    """The store of a context stage's embeddings, keyed by f_loc's weights, the sources and the patch settings.

    An image file counts with its name, size and modification time: hashing it would take longer than cutting patches.
    """
    keys = cfg.MODEL.LESION
    decided = [keys.EPOCH, stored.counts, keys.WINDOW_SIDES, keys.ROTATION, keys.PATCH_SIZE, cfg.SEED]
    network = [cfg.INPUT.INTENSITY, cfg.INPUT.INTENSITY_PERCENTILES, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD]
    rows = [(_image(s["record"]), s["patch_class"], _place(s)) for s in sources.records]
    key = digest_of([repr(decided), repr(network), keys.NETWORK, repr(rows)], keys.PATCH_WEIGHTS)
    return EmbeddingStore(cache_folder(cfg) / "embeddings" / key, len(stored.positions))


def _image(record: Mapping[str, Any]) -> tuple[str, int, int]:
    state = os.stat(record["file_name"])
    return record["file_name"], state.st_size, state.st_mtime_ns


def _place(source: Mapping[str, Any]) -> list[Any]:
    return [(annotation["bbox"], annotation.get("segmentation")) for annotation in source["record"]["annotations"]]


def build_context_loader(cfg: CfgNode, start_iter: int = 0) -> TrainLoader:
    """Endless loader of one rank's batches of stored patches, with the saliency of their images."""
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    stored = stored_epochs(cfg, PatchSampler(sources.pools, cfg.MODEL.LESION.EPOCH, seed=cfg.SEED))
    rows = StoredRows(embedding_store(cfg, sources, stored).load())
    mapper = StoredPatchMapper(
        [source["record"] for source in sources.records], saliency_store(cfg).get if needs_saliency(cfg) else None
    )

    def make(start: int, rank: int, world_size: int) -> StoredPatchSampler:
        return StoredPatchSampler(stored, seed=cfg.SEED, start=start, rank=rank, world_size=world_size)

    return stream_loader(cfg, start_iter, rows, mapper, make, cfg.SEED)
