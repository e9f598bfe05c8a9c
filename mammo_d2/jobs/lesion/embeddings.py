"""The lesion classifier's embeddings: computed by the best f_loc, stored in parts, the training data of f_agg."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mammo_d2.data.lesions.patches import PatchSampler, PatchSources
from mammo_d2.data.lesions.stage_loaders import patch_mapper_from_config, sources_from_config, stream_loader
from mammo_d2.data.lesions.stores import EmbeddingStore, StoredPatchMapper, StoredPatchSampler
from mammo_d2.data.loading.mapped_images import TrainingImages, TrainLoader, UnusableImage
from mammo_d2.framework import CfgNode, comm
from mammo_d2.jobs.lesion.context_saliency import needs_saliency, saliency_store
from mammo_d2.jobs.lesion.lesion_stages import PATCH_MODEL, cache_folder, digest_of, load_classifier

logger = logging.getLogger(__name__)


def make_embeddings(cfg: CfgNode) -> None:
    """Compute the missing parts of a context stage's embeddings with the best f_loc, shared among the ranks."""
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    store = embedding_store(cfg, sources)
    parts = store.missing()
    comm.synchronize()  # every rank has listed the missing parts before any rank writes
    own_parts = parts[comm.get_rank() :: comm.get_world_size()]
    if own_parts:
        keys = cfg.MODEL.LESION
        logger.info("embeddings: %d parts", len(own_parts))
        patch_cfg = cfg.clone()
        patch_cfg.defrost()
        patch_cfg.MODEL.META_ARCHITECTURE = PATCH_MODEL
        model = load_classifier(patch_cfg, Path(keys.PATCH_WEIGHTS))
        sampler = PatchSampler(sources.pools, keys.EPOCH, seed=cfg.SEED)
        patches = TrainingImages(sources.records, patch_mapper_from_config(cfg), cfg.SEED)
        for part in own_parts:
            store.put(part, _embed(model, patches, sampler, part, keys.WINDOWS_PER_FORWARD))
    comm.synchronize()


def _embed(
    model: Any, patches: TrainingImages, sampler: PatchSampler, part: range, batch_size: int
) -> dict[str, np.ndarray]:
    """Embeddings, windows, classes and sources of the patches at some positions."""
    rows, embeddings, windows, classes = [], [], [], []
    for begin in range(part.start, part.stop, batch_size):
        keys = [(position, sampler.index_at(position)) for position in range(begin, min(begin + batch_size, part.stop))]
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


def embedding_store(cfg: CfgNode, sources: PatchSources) -> EmbeddingStore:
    """The store of a context stage's embeddings, keyed by f_loc's weights, the sources and the patch settings.

    An image file counts with its name, size and modification time: hashing it would take longer than cutting patches.
    """
    keys = cfg.MODEL.LESION
    decided = [keys.EPOCH, keys.STORED_EPOCHS, keys.WINDOW_SIDES, keys.ROTATION, keys.PATCH_SIZE, cfg.SEED]
    network = [cfg.INPUT.INTENSITY, cfg.INPUT.INTENSITY_PERCENTILES, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD]
    rows = [(_image(s["record"]), s["patch_class"], _place(s)) for s in sources.records]
    key = digest_of([repr(decided), repr(network), keys.NETWORK, repr(rows)], keys.PATCH_WEIGHTS)
    return EmbeddingStore(cache_folder(cfg) / "embeddings" / key, sum(keys.EPOCH) * keys.STORED_EPOCHS)


def _image(record: Mapping[str, Any]) -> tuple[str, int, int]:
    state = os.stat(record["file_name"])
    return record["file_name"], state.st_size, state.st_mtime_ns


def _place(source: Mapping[str, Any]) -> list[Any]:
    return [(annotation["bbox"], annotation.get("segmentation")) for annotation in source["record"]["annotations"]]


def build_context_loader(cfg: CfgNode, start_iter: int = 0) -> TrainLoader:
    """Endless loader of one rank's batches of stored patches, with the saliency of their images."""
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    stored = embedding_store(cfg, sources).load()
    rows = [
        {"embedding": h, "window": window, "patch_class": int(kind), "image": int(source)}
        for h, window, kind, source in zip(
            stored["embedding"], stored["window"], stored["patch_class"], stored["source"], strict=True
        )
    ]
    keys = cfg.MODEL.LESION
    mapper = StoredPatchMapper(
        [source["record"] for source in sources.records], saliency_store(cfg).get if needs_saliency(cfg) else None
    )

    def make(start: int, rank: int, world_size: int) -> StoredPatchSampler:
        share = {"start": start, "rank": rank, "world_size": world_size}
        return StoredPatchSampler(sum(keys.EPOCH), keys.STORED_EPOCHS, seed=cfg.SEED, **share)

    return stream_loader(cfg, start_iter, rows, mapper, make, cfg.SEED)
