"""The lesion classifier's training as one job of stages: context → f_loc → embeddings → f_agg.

* context: the frozen GMIC of MODEL.LESION.CONTEXT_WEIGHTS gives the saliency of every image, kept in a folder;
* f_loc: ``LesionPatchClassifier`` in OUTPUT_DIR/patch;
* embeddings: the best f_loc turns the patches of MODEL.LESION.STORED_EPOCHS epochs into embeddings, kept in parts;
* f_agg: ``LesionContextClassifier`` in OUTPUT_DIR/context_<maps>; its best weights are evaluated in .../best.

Every stage leaves whole files only and does what is missing, so that an interrupted job goes on where it was. With
another config or other data than it was begun with that is an error.
"""

import argparse
import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mammo_d2.data.catalog import category_names, load_records
from mammo_d2.data.lesion_loader import (
    build_lesion_loader,
    build_patch_loader,
    lesion_mapper_from_config,
    patch_mapper_from_config,
    sources_from_config,
    store_from_config,
    stream_loader,
)
from mammo_d2.data.lesion_patches import PatchSampler, PatchSources
from mammo_d2.data.lesion_stores import EmbeddingStore, SaliencyStore, StoredPatchMapper, StoredPatchSampler
from mammo_d2.data.loader import TrainingImages, TrainLoader, UnusableImage
from mammo_d2.data.mapper import MammoMapper
from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.run_record import claim_folders
from mammo_d2.engine.setup import check_patients_apart, load_config, setup
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.export.run_files import BEST_FOLDER, CONTEXT_PREFIX, PATCH_FOLDER
from mammo_d2.framework import CfgNode, SafeCheckpointer, comm, seed_all_rng

logger = logging.getLogger(__name__)

PATCH_MODEL, CONTEXT_MODEL = "LesionPatchClassifier", "LesionContextClassifier"
# Keys of MODEL.LESION that f_agg alone depends on.
_AGGREGATION_KEYS = ("MAPS", "CHANNELS", "CONTEXT_STAGE", "FINAL_TEST")
# Changed when saliency changes without a change of weights or settings.
SALIENCY_FORMAT = "2"


class LesionTrainer(MammoTrainer):
    """MammoTrainer on patches, evaluated lesion by lesion."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0) -> TrainLoader:
        if cfg.MODEL.META_ARCHITECTURE == PATCH_MODEL:
            return build_patch_loader(cfg, start_iter)
        return build_context_loader(cfg, start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        return build_lesion_loader(load_records(cfg, dataset_name), LesionMapper(cfg), cfg.DATALOADER.NUM_WORKERS)


class LesionMapper:
    """Windows of an image's lesions, with the saliency of the image where it has lesions and the model sees it."""

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: of the stage whose model it is for.
        """
        self.windows = lesion_mapper_from_config(cfg)
        self.saliency = saliency_store(cfg) if needs_saliency(cfg) else None

    def __call__(self, record: dict) -> dict[str, Any]:
        sample = self.windows(record)
        if self.saliency is not None and record["annotations"]:
            sample["saliency"] = self.saliency.get(record)
        return sample


def needs_saliency(cfg: CfgNode) -> bool:
    """Whether the model of a stage's config sees saliency."""
    return cfg.MODEL.META_ARCHITECTURE == CONTEXT_MODEL and "saliency" in cfg.MODEL.LESION.MAPS


def stage_config(cfg: CfgNode, model: str) -> CfgNode:
    """The config of a stage: its own overrides, its own folder in OUTPUT_DIR.

    Args:
        cfg: of the whole job.
        model: the stage's meta-architecture.

    Raises:
        ValueError: DATASETS.CATEGORIES without benign or malignant.
        FileNotFoundError: f_agg before f_loc has finished.
    """
    keys = cfg.MODEL.LESION
    if not {"benign", "malignant"} <= set(category_names(cfg)):
        raise ValueError(
            f"DATASETS.CATEGORIES is {list(cfg.DATASETS.CATEGORIES)}; the lesion classifier needs benign and malignant"
        )
    stage = _with_own_settings(cfg, model)
    Path(stage.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    if model == CONTEXT_MODEL:
        stage.MODEL.LESION.PATCH_WEIGHTS = keys.PATCH_WEIGHTS or str(best_weights(Path(cfg.OUTPUT_DIR) / PATCH_FOLDER))
        # The weights of f_loc have the names of the part of f_agg that they are, where it has that part.
        has_network = "embedding" in stage.MODEL.LESION.MAPS
        stage.MODEL.WEIGHTS = stage.MODEL.LESION.PATCH_WEIGHTS if has_network else ""
        stage.MODEL.LESION.NETWORK_WEIGHTS = ""  # f_loc is trained; where it started from need not be here
    stage.freeze()
    return stage


def _with_own_settings(cfg: CfgNode, model: str) -> CfgNode:
    """The job's config with a stage's overrides and folders, not frozen."""
    keys = cfg.MODEL.LESION
    stage = cfg.clone()
    stage.defrost()
    stage.MODEL.LESION.STORE = keys.STORE or str(Path(cfg.OUTPUT_DIR) / "patch_store")
    stage.MODEL.LESION.CACHE = keys.CACHE or str(Path(cfg.OUTPUT_DIR) / "cache")
    stage.merge_from_list(list(keys.PATCH_STAGE if model == PATCH_MODEL else keys.CONTEXT_STAGE))
    stage.MODEL.META_ARCHITECTURE = model
    name = PATCH_FOLDER if model == PATCH_MODEL else CONTEXT_PREFIX + "_".join(stage.MODEL.LESION.MAPS)
    stage.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / name)
    return stage


def without_aggregation(cfg: CfgNode) -> CfgNode:
    """A job's config without the keys that f_agg alone depends on."""
    rest = cfg.clone()
    rest.defrost()
    for key in _AGGREGATION_KEYS:
        rest.MODEL.LESION[key] = []
    return rest


def claim_stages(cfg: CfgNode, shared_only: bool, resume: bool) -> None:
    """Make the stages' folders those of a job, before the first one is trained.

    Args:
        cfg: of the job.
        shared_only: without f_agg.
        resume: go on with what is there; otherwise it is trained anew.

    Raises:
        RunConflictError: a stage to go on with was begun with another config or other data.
    """
    claims = {}
    if not cfg.MODEL.LESION.PATCH_WEIGHTS:
        claims[Path(_with_own_settings(cfg, PATCH_MODEL).OUTPUT_DIR)] = without_aggregation(cfg)
    if not shared_only:
        final = cfg.clone()
        final.defrost()
        final.MODEL.LESION.FINAL_TEST = []  # evaluated anew every time
        claims[Path(_with_own_settings(cfg, CONTEXT_MODEL).OUTPUT_DIR)] = final
    claim_folders(claims, "OUTPUT_DIR", resume, write=comm.is_main_process())
    if not resume and comm.is_main_process():
        # Once interrupted and resumed, an earlier run's weights would be taken for those of a stage not yet begun.
        for folder in claims:
            for name in ("last_checkpoint", "model_final.pth", "model_best.pth"):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / BEST_FOLDER, ignore_errors=True)
    comm.synchronize()


def best_weights(folder: Path) -> Path:
    """model_best.pth of a finished training, else model_final.pth.

    Raises:
        FileNotFoundError: the training has not finished.
    """
    if not (folder / "model_final.pth").is_file():
        raise FileNotFoundError(f"{folder}/model_final.pth: no such file; run tools/train_lesion.py --resume first")
    best = folder / "model_best.pth"
    return best if best.is_file() else folder / "model_final.pth"


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """The body of tools/train_lesion.py: all stages, then the evaluation of the best f_agg; see ``claim_stages``.

    That is on MODEL.LESION.FINAL_TEST, or on DATASETS.TEST where there is none and with ``eval_only``.

    Args:
        args: of ``default_argument_parser``; ``eval_only`` leaves out the training, ``shared_only`` all that depends
            on the combination of maps.
    """
    cfg = setup(args)
    for model in (PATCH_MODEL, CONTEXT_MODEL):
        check_evaluators(_with_own_settings(cfg, model))
    final = cfg.clone()
    if cfg.MODEL.LESION.FINAL_TEST and not args.eval_only:
        final.defrost()
        final.DATASETS.TEST = tuple(cfg.MODEL.LESION.FINAL_TEST)
    if not cfg.DATASETS.ALLOW_SHARED_PATIENTS:
        check_lesions_unseen(cfg, final)
    shared_only = getattr(args, "shared_only", False)
    if not args.eval_only:
        claim_stages(cfg, shared_only, args.resume)
    if "saliency" in cfg.MODEL.LESION.MAPS:
        records = [] if args.eval_only else load_records(cfg, list(cfg.DATASETS.TRAIN))
        tests = load_records(cfg, list(dict.fromkeys([*cfg.DATASETS.TEST, *final.DATASETS.TEST])))
        make_saliency(cfg, records + [record for record in tests if record["annotations"]])
    if not args.eval_only:
        if not cfg.MODEL.LESION.PATCH_WEIGHTS:
            train_stage(stage_config(cfg, PATCH_MODEL), args.resume)
        comm.synchronize()
        stage = stage_config(cfg, CONTEXT_MODEL)
        make_embeddings(stage)
        if shared_only:
            return None
        train_stage(stage, args.resume)
        comm.synchronize()
    stage = stage_config(final, CONTEXT_MODEL)
    return evaluate_best(stage)


def check_lesions_unseen(cfg: CfgNode, final: CfgNode) -> None:
    """Look for patients of the evaluation in what weights were chosen by, and in what given networks were trained on.

    The latter is known where a context or patch network's ``config.yaml`` lies beside its weights or one folder above.

    Args:
        cfg: of the job; its training and test sets have been compared.
        final: the same with the data sets of the final evaluation in DATASETS.TEST.

    Raises:
        ValueError: there are such patients.
    """
    seen = [(cfg.DATASETS.TRAIN, final.DATASETS.TEST), (cfg.DATASETS.TEST, final.DATASETS.TEST)]
    for weights in (cfg.MODEL.LESION.CONTEXT_WEIGHTS, cfg.MODEL.LESION.PATCH_WEIGHTS):
        configs = [folder / "config.yaml" for folder in Path(weights).parents[:2]] if weights else []
        for path in [path for path in configs if path.is_file()][:1]:
            trained = CfgNode.load_yaml_with_base(str(path), allow_unsafe=False).get("DATASETS", {}).get("TRAIN", ())
            seen.append((trained, (*cfg.DATASETS.TEST, *final.DATASETS.TEST)))
    for train, test in seen:
        pair = cfg.clone()
        pair.defrost()
        pair.DATASETS.TRAIN, pair.DATASETS.TEST = tuple(train), tuple(test)
        check_patients_apart(pair)


def evaluate_best(stage: CfgNode) -> dict[str, Any]:
    """Evaluate the best weights of a context stage, in a folder of their own: ``best`` in its OUTPUT_DIR.

    What the training writes about its last weights is thereby never taken for it.
    """
    cfg = stage.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(Path(stage.OUTPUT_DIR) / BEST_FOLDER)
    cfg.freeze()
    return LesionTrainer.test(cfg, load_classifier(stage, best_weights(Path(stage.OUTPUT_DIR))))


def train_stage(cfg: CfgNode, resume: bool) -> None:
    """Train a stage's model; with ``resume`` go on, or do nothing if it has finished."""
    if resume and (Path(cfg.OUTPUT_DIR) / "model_final.pth").is_file():
        logger.info("%s has finished: %s", cfg.MODEL.META_ARCHITECTURE, cfg.OUTPUT_DIR)
        return
    # The initial weights must not depend on which stages have run in this process before.
    seed_all_rng(cfg.SEED + comm.get_rank())
    trainer = LesionTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def load_classifier(cfg: CfgNode, weights: Path) -> torch.nn.Module:
    """The trained model of a stage's config, in evaluation mode."""
    model = LesionTrainer.build_model(cfg).eval()
    SafeCheckpointer(model, strict_weights=True).load(str(weights))
    return model


# --- context --------------------------------------------------------------------------------------------------------
def context_config(cfg: CfgNode) -> CfgNode:
    """The context network's config.

    Raises:
        FileNotFoundError: no such config or weights.
        ValueError: another number of classes than MODEL.LESION.SALIENCY_MAPS.
    """
    keys = cfg.MODEL.LESION
    if not Path(keys.CONTEXT_WEIGHTS).is_file():
        raise FileNotFoundError(
            f"MODEL.LESION.CONTEXT_WEIGHTS {keys.CONTEXT_WEIGHTS!r}: no such file; train a GMIC first (python "
            f"tools/train_net.py --config-file {keys.CONTEXT_CONFIG}) and name its model_final.pth"
        )
    # What its patch network started from is in the weights, too.
    settings = {"WEIGHTS": keys.CONTEXT_WEIGHTS, "DEVICE": cfg.MODEL.DEVICE, "GMIC.PATCH_WEIGHTS": ""}
    context = load_config(keys.CONTEXT_CONFIG, [one for k, v in settings.items() for one in (f"MODEL.{k}", v)])
    classes = category_names(context)
    if len(classes) != keys.SALIENCY_MAPS:
        raise ValueError(
            f"MODEL.LESION.SALIENCY_MAPS is {keys.SALIENCY_MAPS}, but the context network of {keys.CONTEXT_CONFIG} has "
            f"{len(classes)} class(es): {', '.join(classes)}"
        )
    return context


def saliency_store(cfg: CfgNode) -> SaliencyStore:
    """The saliency of the context network of MODEL.LESION, by weights, settings and size of the maps."""
    context = context_config(cfg)
    described = [context.MODEL.dump(), context.INPUT.dump(), str(tuple(cfg.MODEL.LESION.MAP_SIZE))]
    # The place of the weights and the device are no part of what they compute.
    described[0] = described[0].replace(context.MODEL.WEIGHTS, "").replace(context.MODEL.DEVICE, "")
    described.append(SALIENCY_FORMAT)
    key = _digest(described, cfg.MODEL.LESION.CONTEXT_WEIGHTS)
    return SaliencyStore(_cache(cfg) / "saliency", key, store_from_config(cfg))


def make_saliency(cfg: CfgNode, records: Sequence[dict]) -> None:
    """Run the context network on the images whose saliency is missing, shared among the ranks.

    Its maps cover the image file; they are brought to MODEL.LESION.MAP_SIZE by averaging.
    """
    store, context = saliency_store(cfg), context_config(cfg)
    missing = [
        record for record in records[comm.get_rank() :: comm.get_world_size()] if not store.path(record).is_file()
    ]
    if missing:
        logger.info("context: saliency of %d of %d images", len(missing), len(records))
        model = MammoTrainer.build_model(context).eval()
        SafeCheckpointer(model, strict_weights=True).load(context.MODEL.WEIGHTS)
        mapper = MammoMapper(context, is_train=False)
        for record in missing:
            with torch.inference_mode():
                saliency = model([mapper({**record, "annotations": []})])[0]["saliency"]
                maps = F.adaptive_avg_pool2d(saliency.float().cpu(), tuple(cfg.MODEL.LESION.MAP_SIZE))
            store.put(record, maps.numpy())
    comm.synchronize()


# --- embeddings -----------------------------------------------------------------------------------------------------
def embedding_store(cfg: CfgNode, sources: PatchSources) -> EmbeddingStore:
    """The embeddings of a context stage's config, by f_loc's weights, the sources, and what decides the patches.

    An image file counts with its name, size and time of change: reading it all would take longer than the patches.
    """
    keys = cfg.MODEL.LESION
    decided = [keys.EPOCH, keys.STORED_EPOCHS, keys.WINDOW_SIDES, keys.ROTATION, keys.PATCH_SIZE, cfg.SEED]
    network = [cfg.INPUT.INTENSITY, cfg.INPUT.INTENSITY_PERCENTILES, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD]
    rows = [(_image(s["record"]), s["patch_class"], _place(s)) for s in sources.records]
    key = _digest([repr(decided), repr(network), keys.NETWORK, repr(rows)], keys.PATCH_WEIGHTS)
    return EmbeddingStore(_cache(cfg) / "embeddings" / key, sum(keys.EPOCH) * keys.STORED_EPOCHS)


def _image(record: Mapping[str, Any]) -> tuple[str, int, int]:
    state = os.stat(record["file_name"])
    return record["file_name"], state.st_size, state.st_mtime_ns


def _place(source: Mapping[str, Any]) -> list[Any]:
    return [(annotation["bbox"], annotation.get("segmentation")) for annotation in source["record"]["annotations"]]


def make_embeddings(cfg: CfgNode) -> None:
    """Compute the missing parts of a context stage's embeddings with the best f_loc, shared among the ranks."""
    sources = sources_from_config(cfg, list(cfg.DATASETS.TRAIN))
    store = embedding_store(cfg, sources)
    parts = store.missing()
    comm.synchronize()  # every rank has looked before any writes
    mine = parts[comm.get_rank() :: comm.get_world_size()]
    if mine:
        keys = cfg.MODEL.LESION
        logger.info("embeddings: %d parts", len(mine))
        patch_cfg = cfg.clone()
        patch_cfg.defrost()
        patch_cfg.MODEL.META_ARCHITECTURE = PATCH_MODEL
        model = load_classifier(patch_cfg, Path(keys.PATCH_WEIGHTS))
        sampler = PatchSampler(sources.pools, keys.EPOCH, seed=cfg.SEED)
        patches = TrainingImages(sources.records, patch_mapper_from_config(cfg), cfg.SEED)
        for part in mine:
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


def _cache(cfg: CfgNode) -> Path:
    return Path(cfg.MODEL.LESION.CACHE or Path(cfg.OUTPUT_DIR) / "cache")


def _digest(parts: Sequence[str], weights: str) -> str:
    """Hex digest of settings and of a file of weights."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
