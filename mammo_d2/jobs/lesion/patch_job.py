"""The patch network f_loc by itself: as a lesion classifier, or as a start for models of whole images.

Whole-image models that see one label an image, or few boxes, seldom find small lesions from random weights. A network
that was first trained on patches of the training images, lesion or not, does: with MODEL.LESION.NETWORK "backbone" its
weights fit every model with the same MODEL.BACKBONE. The patches use the boxes of the lesions; say so where the
supervision of methods is compared.

Source:
    Shen et al., "Deep learning to improve breast cancer detection on screening mammography", Scientific Reports 2019;
    Lotter et al., "A multi-scale CNN and curriculum learning strategy for mammogram classification", DLMIA 2017.
"""

from pathlib import Path
from typing import Any

from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import comm
from mammo_d2.jobs.backbone_job import BACKBONE_WEIGHTS, write_backbone
from mammo_d2.jobs.job import JOB_REGISTRY, JobOptions
from mammo_d2.jobs.lesion.lesion_stages import load_classifier
from mammo_d2.jobs.lesion.lesion_trainer import LesionTrainer
from mammo_d2.jobs.single_stage import SingleStageJob
from mammo_d2.modeling.backbone.patch_networks import BACKBONE, PatchNetwork


class PatchTrainer(LesionTrainer):
    """LesionTrainer of a run of its own."""

    record_config = MammoTrainer.record_config


@JOB_REGISTRY.register()
class LesionPatchJob(SingleStageJob):
    """Train f_loc alone; with MODEL.LESION.NETWORK "backbone" also write ``BACKBONE_WEIGHTS``."""

    trainer_class = PatchTrainer

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        results = super().train(options)
        if self.cfg.MODEL.LESION.NETWORK == BACKBONE:
            comm.synchronize()
            if comm.is_main_process():
                self._write_backbone()
            comm.synchronize()
        return results

    def is_finished(self, folder: Path) -> bool:
        """With the backbone's file, which is written last."""
        return super().is_finished(folder) and self.start_weights(folder).is_file()

    def start_weights(self, folder: Path) -> Path:
        """The backbone, where the network is one."""
        is_backbone = self.cfg.MODEL.LESION.NETWORK == BACKBONE
        return folder / BACKBONE_WEIGHTS if is_backbone else super().start_weights(folder)

    def _write_backbone(self) -> None:
        """The backbone of the run's result, by names that end those of any model with this backbone."""
        folder = Path(self.cfg.OUTPUT_DIR)
        network = load_classifier(self.cfg, self.weights(folder)).network
        assert isinstance(network, PatchNetwork)
        write_backbone(network.backbone_weights(), folder)
