"""The stages of the lesion classifier's job: config and folder of each, and how its weights are loaded."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from mammo_d2.config.epochs import resolve_epochs
from mammo_d2.data.format.catalog import category_names
from mammo_d2.engine.run_files.run_folder import result_weights
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, SafeCheckpointer

PATCH_MODEL, CONTEXT_MODEL = "LesionPatchClassifier", "LesionContextClassifier"
# The stages' folders, and the one in f_agg's with the evaluation of its best weights.
PATCH_FOLDER, CONTEXT_PREFIX, BEST_FOLDER = "patch", "context_", "best"
# Keys of MODEL.LESION that f_agg alone depends on.
_AGGREGATION_KEYS = ("MAPS", "CHANNELS", "CONTEXT_STAGE", "FINAL_TEST")


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
    stage = with_own_settings(cfg, model)
    Path(stage.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    if model == CONTEXT_MODEL:
        stage.MODEL.LESION.PATCH_WEIGHTS = keys.PATCH_WEIGHTS or str(
            result_weights(Path(cfg.OUTPUT_DIR) / PATCH_FOLDER)
        )
        # f_agg has the patch network, under the same parameter names, if it uses embeddings.
        has_network = "embedding" in stage.MODEL.LESION.MAPS
        stage.MODEL.WEIGHTS = stage.MODEL.LESION.PATCH_WEIGHTS if has_network else ""
        stage.MODEL.LESION.NETWORK_WEIGHTS = ""  # f_loc is trained: its initial weights are not needed
    stage.freeze()
    return stage


def with_own_settings(cfg: CfgNode, model: str) -> CfgNode:
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
    resolve_epochs(stage, lambda: float(sum(stage.MODEL.LESION.EPOCH)))
    return stage


def without_aggregation(cfg: CfgNode) -> CfgNode:
    """A job's config without the keys that f_agg alone depends on."""
    rest = cfg.clone()
    rest.defrost()
    for key in _AGGREGATION_KEYS:
        rest.MODEL.LESION[key] = []
    return rest


def is_patch_network_alone(cfg: CfgNode) -> bool:
    """Whether the job is f_loc alone: f_agg has no maps."""
    return not cfg.MODEL.LESION.MAPS


def last_stage(cfg: CfgNode) -> str:
    """The meta-architecture of the job's result."""
    return PATCH_MODEL if is_patch_network_alone(cfg) else CONTEXT_MODEL


def load_classifier(cfg: CfgNode, weights: Path) -> torch.nn.Module:
    """The trained model of a stage's config, in evaluation mode."""
    model = MammoTrainer.build_model(cfg).eval()
    SafeCheckpointer(model, strict_weights=True).load(str(weights))
    return model


def cache_folder(cfg: CfgNode) -> Path:
    return Path(cfg.MODEL.LESION.CACHE or Path(cfg.OUTPUT_DIR) / "cache")


def digest_of(parts: Sequence[str], weights: str) -> str:
    """Hex digest of settings and of a file of weights."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
