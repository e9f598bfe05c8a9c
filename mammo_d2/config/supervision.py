"""Keys of mixed supervision (images with boxes and images with labels alone in one training set), and their check."""

from mammo_d2.config.named_configs import ConfigError
from mammo_d2.data.format.box_share import check_box_share
from mammo_d2.data.loading.samplers import check_label_only_share
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode
from mammo_d2.modeling.meta_arch.detectors.mixed_supervision import check_mixed_options

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

    # Meta-architecture "MixedSupervisionRCNN".
    cfg.MODEL.MIXED = CfgNode()
    # Loss of label-only images: "mil" (pooled score of the proposals against the label), "self" (the best proposal of
    # a class stands in for a box), "both" or "none" (they pass through the backbone only).
    cfg.MODEL.MIXED.LOSS = "mil"
    # "mil": probability of the image from its best proposals: "max", "mean" of the TOP_K best of the class, or
    # "noisy_or" of the TOP_K best (one of them shows it); and the weight of the loss.
    cfg.MODEL.MIXED.POOLING = "max"
    cfg.MODEL.MIXED.TOP_K = 8
    cfg.MODEL.MIXED.MIL_WEIGHT = 1.0
    # "self": weight; smallest IoU of a proposal with the best one to have its class; other proposals are "background"
    # or left out ("ignore"); whether the proposals' boxes learn the best one's, and whether the RPN does.
    cfg.MODEL.MIXED.SELF_WEIGHT = 1.0
    cfg.MODEL.MIXED.SELF_IOU = 0.5
    cfg.MODEL.MIXED.SELF_OTHERS = "background"
    cfg.MODEL.MIXED.SELF_BOXES = False
    cfg.MODEL.MIXED.SELF_RPN = False
    # Number of best proposals of a label-only image that are classified (0: MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE).
    cfg.MODEL.MIXED.NUM_PROPOSALS = 0
    # First iteration in which label-only images count: before, the detector learns from boxes alone.
    cfg.MODEL.MIXED.START_ITER = 0


def check_supervision(cfg: CfgNode) -> None:
    """Check the keys, and that the model and the job can do what they ask for.

    Raises:
        ConfigError: a value that is not allowed, or label-only images for a model that would learn them as negative.
    """
    try:
        check_box_share(cfg.DATASETS.BOXES_FOR, cfg.DATASETS.BOXES_SEED)
        check_label_only_share(cfg.DATALOADER.LABEL_ONLY_SHARE)
        check_mixed_options(**{name.lower(): value for name, value in cfg.MODEL.MIXED.items()})
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
