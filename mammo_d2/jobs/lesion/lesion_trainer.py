"""Training and evaluation of the lesion classifier's two networks: patches in, lesions out."""

from typing import Any

from mammo_d2.data.format.catalog import load_records
from mammo_d2.data.lesions.stage_loaders import build_lesion_loader, build_patch_loader, lesion_mapper_from_config
from mammo_d2.data.loading.mapped_images import TrainLoader
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.lesion.context_saliency import needs_saliency, saliency_store
from mammo_d2.jobs.lesion.embeddings import build_context_loader
from mammo_d2.jobs.lesion.lesion_stages import PATCH_MODEL


class LesionTrainer(MammoTrainer):
    """MammoTrainer on patches, evaluated lesion by lesion."""

    def record_config(self) -> None:
        """Nothing: ``config.yaml`` is that of the job, in its OUTPUT_DIR; a stage's folder is not a run's."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0) -> TrainLoader:
        if cfg.MODEL.META_ARCHITECTURE == PATCH_MODEL:
            return build_patch_loader(cfg, start_iter)
        return build_context_loader(cfg, start_iter)

    @classmethod
    def epoch_images(cls, cfg: CfgNode) -> float:
        """Patches of an epoch, MODEL.LESION.EPOCH."""
        return float(sum(cfg.MODEL.LESION.EPOCH))

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
