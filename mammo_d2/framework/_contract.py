"""The door's contract: every framework name the package uses. A name is added when a component uses it."""

CONTRACT: tuple[str, ...] = (
    # configuration
    "CfgNode", "configurable", "get_cfg",
    # structures and layers
    "Boxes", "BoxMode", "ImageList", "Instances", "ShapeSpec", "pairwise_iou", "batched_nms",
    # registries and builders
    "BACKBONE_REGISTRY", "META_ARCH_REGISTRY", "PROPOSAL_GENERATOR_REGISTRY", "ROI_HEADS_REGISTRY", "build_backbone",
    "build_model", "Registry",
    # modelling base classes
    "Backbone", "GeneralizedRCNN", "RPN", "Res5ROIHeads", "StandardROIHeads", "detector_postprocess",
    # data
    "DatasetCatalog", "MetadataCatalog",
    # solver and checkpoint
    "build_lr_scheduler", "DetectionCheckpointer", "get_default_optimizer_params", "maybe_add_gradient_clipping",
    # engine
    "DefaultTrainer", "HookBase", "SimpleTrainer", "TrainerBase", "default_argument_parser", "default_setup",
    "default_writers", "hooks", "launch",
    # events, communication, logging
    "EventStorage", "EventWriter", "comm", "get_event_storage", "seed_all_rng", "setup_logger",
    # evaluation
    "DatasetEvaluator", "DatasetEvaluators", "inference_on_dataset", "print_csv_format", "verify_results",
)  # fmt: skip
