"""Keys of mixed supervision (images with boxes and images with labels alone in one training set), and their check."""

from mammo_d2.config.named_configs import ConfigError
from mammo_d2.data.format.box_share import check_box_share
from mammo_d2.data.loading.samplers import check_label_only_share
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode

LABEL_ONLY_CHOICES = ("leave_out", "use")


def add_supervision_keys(cfg: CfgNode) -> None:
    """Add the keys to a config, in place."""
    # Share of the positive patients of DATASETS.TRAIN that keep their boxes; the images of the others have labels
    # only. The patients of a smaller share are among those of a larger one. And the seed of the draw.
    cfg.DATASETS.BOXES_FOR = 1.0
    cfg.DATASETS.BOXES_SEED = 0
    # Images that are labelled positive and have no box: "leave_out" of detectors' training, or "use" them as positive
    # images (PairSampler; for MixedSupervisionRCNN, which does not take them for negative ones).
    cfg.DATALOADER.LABEL_ONLY_POSITIVES = "leave_out"
    # PairSampler with "use": share of the positive images drawn that have labels only, more than 0 and less than 1. 0:
    # their share of the positive images of the data.
    cfg.DATALOADER.LABEL_ONLY_SHARE = 0.5


def check_supervision(cfg: CfgNode) -> None:
    """Check the keys, and that the model and the job can do what they ask for.

    Raises:
        ConfigError: a value that is not allowed, or label-only images for a model that would learn them as negative.
    """
    try:
        check_box_share(cfg.DATASETS.BOXES_FOR, cfg.DATASETS.BOXES_SEED)
        check_label_only_share(cfg.DATALOADER.LABEL_ONLY_SHARE)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    choice, model = cfg.DATALOADER.LABEL_ONLY_POSITIVES, cfg.MODEL.META_ARCHITECTURE
    if choice not in LABEL_ONLY_CHOICES:
        raise ConfigError(f"DATALOADER.LABEL_ONLY_POSITIVES is {choice!r}; use one of {', '.join(LABEL_ONLY_CHOICES)}")
    learns = model in META_ARCH_REGISTRY and getattr(META_ARCH_REGISTRY.get(model), "learns_from_label_only", False)
    if choice == "use" and not learns:
        raise ConfigError(
            f"DATALOADER.LABEL_ONLY_POSITIVES is 'use', but {model} (MODEL.META_ARCHITECTURE) would learn positive "
            "images without boxes as negative ones; set MODEL.META_ARCHITECTURE to MixedSupervisionRCNN, or "
            "LABEL_ONLY_POSITIVES to 'leave_out'"
        )
    if cfg.DATASETS.BOXES_FOR < 1 and cfg.JOB == "LesionContextJob":
        raise ConfigError(
            f"DATASETS.BOXES_FOR is {cfg.DATASETS.BOXES_FOR}, but {cfg.JOB} needs the boxes of all lesions; set it to 1"
        )
