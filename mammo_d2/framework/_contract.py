"""The door's contract: every framework name the package uses, what it is, and where each engine has it.

This is the only list of these names. The door imports by it. ``docs/framework_contract.md`` and ``_static.py`` (for
type checkers) are written from it by ``python -m tests.framework.contract_table``; a test compares them. A name is
added when a component uses it.
"""

from typing import NamedTuple

# Names that are detectron2's own with something added.
_ADDED = "mammo_d2.framework._detectron2"


class Entry(NamedTuple):
    """What a name is, and the module that has it in each engine; with a leading dot below the engine's package."""

    what: str
    detectron2: str
    embedded: str


CONTRACT: dict[str, Entry] = {
    # configuration
    "CfgNode": Entry("YAML configuration tree with `_BASE_` inheritance", ".config", ".config"),
    "configurable": Entry(
        "decorator: `__init__` takes plain arguments, `from_config` reads the config", ".config", ".config"
    ),
    "get_cfg": Entry("a copy of the default config", ".config", ".config"),
    # structures
    "Boxes": Entry("N boxes as an (N, 4) float tensor, XYXY_ABS", ".structures", ".structures.boxes"),
    "BoxMode": Entry("box formats and the conversion between them", ".structures", ".structures.boxes"),
    "ImageList": Entry(
        "images padded to one size, with the sizes before padding", ".structures", ".structures.instances"
    ),
    "Instances": Entry("per-image fields of equal length", ".structures", ".structures.instances"),
    # layers
    "ShapeSpec": Entry("channels, height, width and stride of a feature map", ".layers", ".backbone.layers"),
    "batched_nms": Entry("NMS per class or level", ".layers", ".backbone.layers"),
    # registries and builders
    "Registry": Entry("a name -> object map filled by decorators", ".utils.registry", "fvcore.common.registry"),
    "BACKBONE_REGISTRY": Entry("functions (cfg, input_shape) -> Backbone", ".modeling", ".backbone.backbone"),
    "META_ARCH_REGISTRY": Entry("whole models", ".modeling", ".detector.rcnn"),
    "PROPOSAL_GENERATOR_REGISTRY": Entry("proposal generators", ".modeling", ".detector.proposals"),
    "ROI_HEADS_REGISTRY": Entry("ROI heads", ".modeling", ".detector.roi_heads"),
    "build_backbone": Entry("backbone of cfg.MODEL.BACKBONE", ".modeling", ".backbone.backbone"),
    "build_model": Entry("model of cfg.MODEL.META_ARCHITECTURE, on cfg.MODEL.DEVICE", ".modeling", ".detector.rcnn"),
    # modelling base classes
    "Backbone": Entry("base class: forward(images) -> {name: feature map}", ".modeling", ".backbone.backbone"),
    "GeneralizedRCNN": Entry("backbone, proposal generator, ROI heads", ".modeling", ".detector.rcnn"),
    "RPN": Entry("region proposal network", ".modeling.proposal_generator", ".detector.rpn"),
    "Res5ROIHeads": Entry(
        "ROI heads of the C4 models: the box head is the backbone's res5", ".modeling.roi_heads", ".detector.roi_heads"
    ),
    "StandardROIHeads": Entry("ROI heads on an FPN: pooler, box head, predictor", ".modeling", ".detector.roi_heads"),
    "detector_postprocess": Entry("rescale detections to the output size, in place", ".modeling", ".detector.rcnn"),
    # data
    "DatasetCatalog": Entry("data set name -> function returning its records", ".data", ".data.catalog"),
    "MetadataCatalog": Entry("data set name -> metadata (class names, ...)", ".data", ".data.catalog"),
    "InferenceSampler": Entry(
        "every index once, split in contiguous parts over the ranks", ".data.samplers", ".data.samplers"
    ),
    "register_coco_instances": Entry("register a COCO JSON in both catalogs", ".data.datasets", ".data.coco"),
    # solver and checkpoint
    "SafeCheckpointer": Entry(
        "saves and loads models: whole files, safe reading, a full report and strictness", _ADDED, ".engine.checkpoint"
    ),
    "get_default_optimizer_params": Entry(
        "parameter groups with the weight decay overrides", ".solver", ".engine.solver"
    ),
    # engine
    "DefaultTrainer": Entry(
        "trainer made from a config; build_* class methods are the extension points",
        ".engine",
        ".engine.default_trainer",
    ),
    "HookBase": Entry("base class of trainer hooks", ".engine", ".engine.trainer"),
    "SimpleTrainer": Entry("loop over a loader: forward, backward, step", ".engine", ".engine.trainer"),
    "default_argument_parser": Entry("the command line of a training script", ".engine", ".engine.job_setup"),
    "default_setup": Entry("output folder, logger, environment report, seed", ".engine", ".engine.job_setup"),
    "hooks": Entry("module of the standard hooks", ".engine", ".engine"),
    "launch": Entry("run a function in one or many processes", _ADDED, ".engine.launch"),
    # events, communication, logging
    "EventStorage": Entry("scalars of a run with their history", ".utils.events", ".utils.events"),
    "comm": Entry("module: ranks, barriers, gather of picklable objects", ".utils", ".utils"),
    "get_event_storage": Entry("the storage of the running loop", ".utils.events", ".utils.events"),
    "seed_all_rng": Entry("seed torch, numpy and random", ".utils.env", ".utils.log"),
    "setup_logger": Entry("logger to console and file, quiet on ranks other than 0", ".utils.logger", ".utils.log"),
    # evaluation
    "DatasetEvaluator": Entry("base class: reset, process, evaluate", ".evaluation", ".engine.inference"),
    "DatasetEvaluators": Entry("several evaluators as one", ".evaluation", ".engine.inference"),
}
