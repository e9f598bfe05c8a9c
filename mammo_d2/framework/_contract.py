"""The door's contract: every framework name the package uses, with one line on what it is.

A name is added when a component uses it. ``docs/framework_contract.md`` shows the same table; a test compares them.
"""

CONTRACT: dict[str, str] = {
    # configuration
    "CfgNode": "YAML configuration tree with `_BASE_` inheritance",
    "configurable": "decorator: `__init__` takes plain arguments, `from_config` reads the config",
    "get_cfg": "a copy of the default config",
    # structures
    "Boxes": "N boxes as an (N, 4) float tensor, XYXY_ABS",
    "BoxMode": "box formats and the conversion between them",
    "ImageList": "images padded to one size, with the sizes before padding",
    "Instances": "per-image fields of equal length",
    "pairwise_iou": "IoU matrix of two `Boxes`",
    # layers
    "ShapeSpec": "channels, height, width and stride of a feature map",
    "batched_nms": "NMS per class or level",
    # registries and builders
    "Registry": "a name -> object map filled by decorators",
    "BACKBONE_REGISTRY": "functions (cfg, input_shape) -> Backbone",
    "META_ARCH_REGISTRY": "whole models",
    "PROPOSAL_GENERATOR_REGISTRY": "proposal generators",
    "ROI_HEADS_REGISTRY": "ROI heads",
    "build_backbone": "backbone of cfg.MODEL.BACKBONE",
    "build_model": "model of cfg.MODEL.META_ARCHITECTURE, on cfg.MODEL.DEVICE",
    # modelling base classes
    "Backbone": "base class: forward(images) -> {name: feature map}",
    "GeneralizedRCNN": "backbone, proposal generator, ROI heads",
    "RPN": "region proposal network",
    "Res5ROIHeads": "ROI heads of the C4 models: the box head is the backbone's res5",
    "StandardROIHeads": "ROI heads on an FPN: pooler, box head, predictor",
    "detector_postprocess": "rescale detections to the output size, in place",
    # data
    "DatasetCatalog": "data set name -> function returning its records",
    "MetadataCatalog": "data set name -> metadata (class names, ...)",
    "InferenceSampler": "every index once, split in contiguous parts over the ranks",
    "TrainingSampler": "endless shuffled indices, interleaved over the ranks",
    "build_detection_test_loader": "loader that passes over the data once",
    "build_detection_train_loader": "endless loader of training batches",
    "load_coco_json": "COCO JSON -> list of records",
    "register_coco_instances": "register a COCO JSON in both catalogs",
    # solver and checkpoint
    "DetectionCheckpointer": "saves and loads models; reads .pth and model zoo .pkl files",
    "SafeCheckpointer": "DetectionCheckpointer with whole files, safe reading, a full report and strictness",
    "build_lr_scheduler": "learning rate scheduler of cfg.SOLVER",
    "get_default_optimizer_params": "parameter groups with the weight decay overrides",
    "maybe_add_gradient_clipping": "optimizer (class) that clips gradients as cfg.SOLVER.CLIP_GRADIENTS says",
    # engine
    "DefaultTrainer": "trainer made from a config; build_* class methods are the extension points",
    "HookBase": "base class of trainer hooks",
    "SimpleTrainer": "loop over a loader: forward, backward, step",
    "TrainerBase": "loop with hooks and an event storage",
    "default_argument_parser": "the command line of a training script",
    "default_setup": "output folder, logger, environment report, seed",
    "default_writers": "console, JSON and TensorBoard writers",
    "hooks": "module of the standard hooks",
    "launch": "run a function in one or many processes",
    # events, communication, logging
    "EventStorage": "scalars of a run with their history",
    "EventWriter": "base class of writers",
    "comm": "module: ranks, barriers, gather of picklable objects",
    "get_event_storage": "the storage of the running loop",
    "seed_all_rng": "seed torch, numpy and random",
    "setup_logger": "logger to console and file, quiet on ranks other than 0",
    # evaluation
    "DatasetEvaluator": "base class: reset, process, evaluate",
    "DatasetEvaluators": "several evaluators as one",
    "inference_on_dataset": "run a model over a loader and evaluate",
    "print_csv_format": "log results as lines that can be copied into a table",
    "verify_results": "compare results with cfg.TEST.EXPECTED_RESULTS",
}
