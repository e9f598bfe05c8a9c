"""Every configuration key that mammo_d2 adds to detectron2's, with its default and one comment each."""

import mammo_d2.modeling  # noqa: F401  the keys below name components: importing registers them
from mammo_d2.framework import CfgNode


def add_mammo_config(cfg: CfgNode) -> None:
    """Add this package's keys to a default config, in place. Calling it twice is an error of the caller.

    Keys that detectron2 already has keep their meaning; the defaults changed here are listed first.
    """
    # --- defaults of detectron2's own keys that differ here -----------------------------------------------------
    # An image without annotations is a healthy breast, not a missing label.
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False

    # Modules of yours that load_config imports before anything else, e.g. ["my_package.heads"]: what they register is
    # known to every command and its processes. A function add_config(cfg) in them may add keys. Importing runs their
    # code: look at the MODULES of a config that somebody gave you.
    cfg.MODULES = []
    # What is trained, and how, by registry name: "SingleStageJob" (one model, MODEL.META_ARCHITECTURE) or
    # "LesionContextJob" (the lesion classifier's stages).
    cfg.JOB = "SingleStageJob"

    _add_data_keys(cfg)
    _add_model_keys(cfg)
    _add_deep_mil_keys(cfg)
    _add_dual_branch_keys(cfg)
    _add_lesion_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)


def _add_data_keys(cfg: CfgNode) -> None:
    # Folder holding one sub-folder per prepared data set; the environment variable MAMMO_D2_DATASETS wins.
    cfg.DATASETS.ROOT = "datasets"
    # More data sets, as [name, COCO JSON, image folder] triples.
    cfg.DATASETS.REGISTER = []
    # Category names that are detection classes, in class order; annotations of other categories are dropped,
    # so that an image with nothing else becomes a negative image.
    cfg.DATASETS.CATEGORIES = ["malignant"]
    # "breast": in training, the images of a breast of one exam share their labels (a finding in one view is one in
    # all); "image": each has its own.
    cfg.DATASETS.LABEL_LEVEL = "image"
    # Train although a patient (or the same source image) is in a training and in a test set.
    cfg.DATASETS.ALLOW_SHARED_PATIENTS = False
    # If not empty: all of DATASETS.CATEGORIES become this one class.
    cfg.DATASETS.MERGE_CATEGORIES = ""
    # Regions for MODEL.PROPOSAL_GENERATOR.NAME PrecomputedProposals, as [data set, COCO results JSON] pairs: the boxes
    # of every category, in pixels of the prepared images, whose image ids are those of the data set.
    cfg.DATASETS.PROPOSALS = []

    # Network input (height, width) in pixels.
    cfg.INPUT.SIZE = [512, 512]
    # Keep the aspect ratio and pad on the bottom and right; otherwise both sides are stretched to SIZE.
    cfg.INPUT.KEEP_ASPECT = False
    # With KEEP_ASPECT: enlarge images that are smaller than SIZE. False: they keep their resolution.
    cfg.INPUT.ENLARGE = True
    # How stored pixel values become 0..255 floats: "bit_depth" (full range of the file), "minmax" or "percentile".
    cfg.INPUT.INTENSITY = "bit_depth"
    # Lower and upper percentile of the non-background pixels for INTENSITY "percentile".
    cfg.INPUT.INTENSITY_PERCENTILES = [0.5, 99.5]
    # Instead of intensity scaling and resizing: "breast_window" (the breast unscaled on a canvas of SIZE, facing right,
    # standardised; GMIC and the ResNet-22 classifier). "resize" is the usual way.
    cfg.INPUT.PREPROCESSING = "resize"
    # "breast_window": steps of the erosion that removes markers, and the margin around the breast, in pixels.
    cfg.INPUT.WINDOW = CfgNode()
    cfg.INPUT.WINDOW.EROSION = 100
    cfg.INPUT.WINDOW.MARGIN = 50
    # How files that were never prepared are read, cropped, flipped and scaled before prediction: "auto" (as the
    # training data: preparation.json beside the weights, else the training data set's manifest.json), "none" (left as
    # they are), or the path of such a file.
    cfg.INPUT.PREPARATION = "auto"
    # Side in pixels of the cells in which the mapper tells the model where breast and pectoral muscle are, for
    # SlidingWindowRegions (0: it does not).
    cfg.INPUT.TISSUE_CELL = 0

    cfg.INPUT.AUG = CfgNode()
    # Probability of a horizontal and of a vertical flip.
    cfg.INPUT.AUG.FLIP_HORIZONTAL = 0.5
    cfg.INPUT.AUG.FLIP_VERTICAL = 0.0
    # Largest shift as a fraction of the side, rotation in degrees, range of the scale factor (all uniform).
    cfg.INPUT.AUG.SHIFT = 0.0
    cfg.INPUT.AUG.ROTATION = 0.0
    cfg.INPUT.AUG.SCALE = [1.0, 1.0]
    # Side of a square set to 0, in network input pixels (0: none), and its probability.
    cfg.INPUT.AUG.CUTOUT_SIZE = 0
    cfg.INPUT.AUG.CUTOUT_PROB = 0.5
    # Largest relative change of brightness, contrast and gamma (0: none).
    cfg.INPUT.AUG.BRIGHTNESS = 0.0
    cfg.INPUT.AUG.CONTRAST = 0.0
    cfg.INPUT.AUG.GAMMA = 0.0
    # A box that keeps less than this part of its area inside the image is dropped.
    cfg.INPUT.AUG.MIN_VISIBLE = 0.3
    # Draw again what would move every box out of the image. This uses the boxes: False to learn from labels alone.
    cfg.INPUT.AUG.KEEP_LESION = True

    # Training sampler, for detectors: "PairSampler" (positive, negative, positive, ...), "PositiveSampler" (annotated
    # images only) or "LocatedSampler" (positive and negative images at random). For what learns from image labels:
    # "ExamSampler" (every epoch all exams with a finding and as many others) or "TrainingSampler" (all images).
    cfg.DATALOADER.SAMPLER_TRAIN = "PairSampler"
    # Keep resized images in memory, up to this many MiB per worker process (0: no cache).
    cfg.DATALOADER.CACHE_MB = 0


def _add_model_keys(cfg: CfgNode) -> None:
    # What the RPN learns on images without annotation: "top_likelihood" (the T highest-scoring anchors are pushed to
    # background) or "random" (ordinary sampling, the control experiment).
    cfg.MODEL.RPN.NEGATIVE_IMAGES = "top_likelihood"
    # Number of top anchors T, and the weight lambda_2 of the top likelihood loss.
    cfg.MODEL.RPN.TOP_LIKELIHOOD_T = 256
    cfg.MODEL.RPN.TOP_LIKELIHOOD_WEIGHT = 1.0
    # Weight lambda_4 of the similarity loss; 0 turns it off (and its computation).
    cfg.MODEL.ROI_HEADS.SIMILARITY_WEIGHT = 0.1

    # Backbone "ResNet22": filters of the first convolution (each stage has twice as many as the one before), the
    # stride of each stage, whether stages are computed again in the backward pass to save memory, and whether equal
    # rows and columns (background) are computed once at inference; neither changes the results.
    cfg.MODEL.RESNET22 = CfgNode()
    cfg.MODEL.RESNET22.STEM_CHANNELS = 16
    cfg.MODEL.RESNET22.STRIDES = [1, 2, 2, 2, 2]
    cfg.MODEL.RESNET22.CHECKPOINTING = False
    cfg.MODEL.RESNET22.SKIP_BACKGROUND = False

    # Meta-architecture "ResNet22Classifier": learns the "labels", or the BI-RADS groups (one class per list of grades).
    cfg.MODEL.CLASSIFIER = CfgNode()
    cfg.MODEL.CLASSIFIER.TARGET = "labels"
    cfg.MODEL.CLASSIFIER.BIRADS_GROUPS = [[0], [1], [2]]

    _add_gmic_keys(cfg)


def _add_gmic_keys(cfg: CfgNode) -> None:
    cfg.MODEL.GMIC = CfgNode()
    # Row of the paper's table: "full", "loc", "mil", "no_attention", "random" or "loc_random" (random patches).
    cfg.MODEL.GMIC.VARIANT = "full"
    # Prediction of the full model: "average" of both modules (the paper) or "concat" (the released weights).
    cfg.MODEL.GMIC.FUSION = "average"
    # Fraction t of a saliency map's cells, the largest ones, whose mean is the image's score.
    cfg.MODEL.GMIC.TOP_FRACTION = 0.03
    # Meta-architecture "GMICEnsemble": t of each member; everything else they share.
    cfg.MODEL.GMIC.ENSEMBLE = [0.02, 0.03, 0.03, 0.05, 0.1]
    # Number K of patches, and their (height, width) in pixels of the network input.
    cfg.MODEL.GMIC.NUM_PATCHES = 6
    cfg.MODEL.GMIC.PATCH_SIZE = [256, 256]
    # Rows of the gated attention's matrices.
    cfg.MODEL.GMIC.ATTENTION_CHANNELS = 128
    # Weight lambda and exponent beta of the regulariser of the saliency maps.
    cfg.MODEL.GMIC.SPARSITY_WEIGHT = 0.0001
    cfg.MODEL.GMIC.SPARSITY_EXPONENT = 1.0
    # File to start the patch network from: torchvision's ResNet-18, or a trained GMIC; empty: random weights.
    cfg.MODEL.GMIC.PATCH_WEIGHTS = ""
    # A box is a component of cells of at least this fraction of their map's maximum, and of at least the floor; its
    # score is the "max" or "mean" of its cells, or "max_times_image" (times the image's score of the class).
    cfg.MODEL.GMIC.BOX_THRESHOLD = 0.5
    cfg.MODEL.GMIC.BOX_FLOOR = 0.05
    cfg.MODEL.GMIC.BOX_SCORE = "max_times_image"


def _add_deep_mil_keys(cfg: CfgNode) -> None:
    cfg.MODEL.DEEP_MIL = CfgNode()
    # Scheme: "max", "label_assignment", "sparse", or "classifier" (the baseline: fully connected layers, no responses).
    cfg.MODEL.DEEP_MIL.HEAD = "sparse"
    # Feature map that the head works on; empty: the backbone's last.
    cfg.MODEL.DEEP_MIL.IN_FEATURE = ""
    # "label_assignment": number k of regions that have the image's label.
    cfg.MODEL.DEEP_MIL.TOP_K = 2
    # "sparse": weight mu of the responses' sum.
    cfg.MODEL.DEEP_MIL.SPARSITY = 1e-5
    # "classifier": widths of the hidden layers, and the dropout before each.
    cfg.MODEL.DEEP_MIL.CLASSIFIER_FC = [4096, 4096]
    cfg.MODEL.DEEP_MIL.CLASSIFIER_DROPOUT = 0.5
    # Boxes surround responses of at least this fraction of the image's highest one, and of at least BOX_FLOOR.
    cfg.MODEL.DEEP_MIL.BOX_THRESHOLD = 0.5
    cfg.MODEL.DEEP_MIL.BOX_FLOOR = 0.05


def _add_dual_branch_keys(cfg: CfgNode) -> None:
    # VGG-M: channels of its five convolutions, and widths of the two hidden layers (the second is the region's code).
    cfg.MODEL.VGG_M = CfgNode()
    cfg.MODEL.VGG_M.CHANNELS = [96, 256, 512, 512, 512]
    cfg.MODEL.VGG_M.FC_DIMS = [4096, 128]
    # SlidingWindowRegions: side and stride of the windows in pixels of the network input; least part of a window that
    # is breast, largest part that is pectoral muscle (at least one window is kept).
    cfg.MODEL.SLIDING_WINDOW = CfgNode()
    cfg.MODEL.SLIDING_WINDOW.SIZE = 224
    cfg.MODEL.SLIDING_WINDOW.STRIDE = 112
    cfg.MODEL.SLIDING_WINDOW.MIN_BREAST = 0.5
    cfg.MODEL.SLIDING_WINDOW.MAX_PECTORAL = 0.5
    # DualBranchROIHeads. The compared systems: "cls_det_rs" (the paper's), "db_baseline" (no normal class, no region
    # selection) or "max_region" (the highest region decides).
    cfg.MODEL.DUAL_BRANCH = CfgNode()
    cfg.MODEL.DUAL_BRANCH.VARIANT = "cls_det_rs"
    # Number k of regions selected for each class in "cls_det_rs".
    cfg.MODEL.DUAL_BRANCH.NUM_SELECTED = 10
    # How a region of the feature map becomes a code: "VGGMRegionEncoder" or "PooledRegionEncoder" (any backbone).
    cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "PooledRegionEncoder"
    # Feature map of the regions; empty: the backbone's last.
    cfg.MODEL.DUAL_BRANCH.IN_FEATURE = ""
    # Two stages: backbone and region encoder are not trained, and run once per image and without gradient.
    cfg.MODEL.DUAL_BRANCH.FROZEN = False
    # Folder in which frozen region codes are kept, by content of image, regions, weights and settings; empty: nowhere.
    cfg.MODEL.DUAL_BRANCH.CACHE_DIR = ""
    # Width of the layer FC3 before the branches, and the dropout after it.
    cfg.MODEL.DUAL_BRANCH.FC_DIM = 128
    cfg.MODEL.DUAL_BRANCH.DROPOUT = 0.5


def _add_lesion_keys(cfg: CfgNode) -> None:
    # Lesion classification with global context (LesionPatchClassifier, LesionContextClassifier).
    cfg.MODEL.LESION = CfgNode()
    # Folder of the memory-mapped images that patches are read from; empty: "patch_store" in OUTPUT_DIR.
    cfg.MODEL.LESION.STORE = ""
    # Patches of an epoch: malignant, benign, outside the lesions, of images without finding.
    cfg.MODEL.LESION.EPOCH = [20, 35, 5000, 4945]
    # Smallest and largest side of a window (uniform) and largest rotation in training: pixels, degrees to both sides.
    cfg.MODEL.LESION.WINDOW_SIDES = [128, 384]
    cfg.MODEL.LESION.ROTATION = 30.0
    # Side that windows are resized to, and number of windows of a lesion at inference.
    cfg.MODEL.LESION.PATCH_SIZE = 256
    cfg.MODEL.LESION.WINDOWS = 100
    # Patch network: "densenet121", "densenet161", "densenet169"; "resnetv2_50", "resnetv2_101", "resnetv2_152" (the
    # paper's second version); "resnet18", "resnet50", "resnet101", "resnet152" (torchvision's). File with torchvision's
    # weights of it to start from; empty: random. Length of the embedding h.
    cfg.MODEL.LESION.NETWORK = "densenet161"
    cfg.MODEL.LESION.NETWORK_WEIGHTS = ""
    cfg.MODEL.LESION.EMBEDDING = 32
    # Windows that go through the patch network together at inference.
    cfg.MODEL.LESION.WINDOWS_PER_FORWARD = 100
    # The loss weighted by class is divided by the batch's number of "patches" (unbiased) or by its "weights".
    cfg.MODEL.LESION.LOSS_AVERAGE = "patches"
    # Maps that the aggregation network sees: one or more of "indicator", "embedding", "saliency".
    cfg.MODEL.LESION.MAPS = ["embedding", "saliency"]
    # Cells (rows, columns) of a map, number of saliency maps (the context network's classes), channels of the
    # aggregation network.
    cfg.MODEL.LESION.MAP_SIZE = [46, 30]
    cfg.MODEL.LESION.SALIENCY_MAPS = 2
    cfg.MODEL.LESION.CHANNELS = 32
    # Context network: config and trained weights of a GMIC.
    cfg.MODEL.LESION.CONTEXT_CONFIG = ""
    cfg.MODEL.LESION.CONTEXT_WEIGHTS = ""
    # Trained patch network of another job, which is then not trained; empty: that of OUTPUT_DIR/patch.
    cfg.MODEL.LESION.PATCH_WEIGHTS = ""
    # Folder of saliency maps and embeddings, by content; empty: "cache" in OUTPUT_DIR.
    cfg.MODEL.LESION.CACHE = ""
    # Epochs of patches whose embeddings are stored for the aggregation network.
    cfg.MODEL.LESION.STORED_EPOCHS = 1
    # Data sets of the evaluation after the training; empty: DATASETS.TEST, by which the weights are chosen.
    cfg.MODEL.LESION.FINAL_TEST = []
    # KEY, VALUE overrides of the training of the patch network and of the aggregation network.
    cfg.MODEL.LESION.PATCH_STAGE = []
    cfg.MODEL.LESION.CONTEXT_STAGE = []


def _add_solver_keys(cfg: CfgNode) -> None:
    # "SGD", "Adam" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Mini-batches per optimizer step; gradients are averaged over them.
    cfg.SOLVER.ACCUMULATE = 1
    # Autocast type when SOLVER.AMP.ENABLED: "float16" (GPU only) or "bfloat16".
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Fused optimizer kernels and channels-last memory order: same results up to rounding, faster.
    cfg.SOLVER.FUSED = False
    cfg.SOLVER.CHANNELS_LAST = False
    # Refuse operations without a deterministic implementation, so that a run repeats bit for bit.
    cfg.SOLVER.DETERMINISTIC = False
    # Exponential moving average of the weights; when enabled it is what is evaluated, and saved as model_ema.pth.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.999


def _add_test_keys(cfg: CfgNode) -> None:
    # Evaluators to run, by registry name: "coco", "voc", "froc", "patient", "regions" (boxes), "image", "saliency",
    # "froc_classified" (boxes and image scores), "lesion" (scores of given lesions).
    cfg.TEST.EVALUATORS = ["coco", "froc", "patient"]
    # Prediction on files: fold batch normalisation into the convolutions before it (GMIC and the ResNet-22 classifier),
    # and compile the networks with torch.compile (needs a C++ compiler). Same results up to rounding.
    cfg.TEST.FOLD_NORM = False
    cfg.TEST.COMPILE = False
    # Log the training losses on DATASETS.TEST (validation/loss_*) every so many iterations (0: never).
    cfg.TEST.LOSS_PERIOD = 0
    # Keep model_best.pth by this metric (e.g. "froc/malignant/sens@0.5"; empty: off) and stop after
    # EARLY_STOP_PATIENCE evaluations without a better one (0: never).
    cfg.TEST.BEST_METRIC = ""
    cfg.TEST.BEST_MODE = "max"
    cfg.TEST.EARLY_STOP_PATIENCE = 0

    cfg.TEST.COCO = CfgNode()
    # "numpy" (this package's), "pycocotools" or "faster_coco_eval": the same numbers at different speeds.
    cfg.TEST.COCO.BACKEND = "numpy"

    cfg.TEST.BOOTSTRAP = CfgNode()
    # Replicates over patients for confidence intervals in the JSON files (0: none), their seed and confidence.
    cfg.TEST.BOOTSTRAP.REPLICATES = 0
    cfg.TEST.BOOTSTRAP.SEED = 0
    cfg.TEST.BOOTSTRAP.CONFIDENCE = 0.95

    cfg.TEST.FROC = CfgNode()
    # A published rule by name ("coco", "luna16", "camelyon", "dbtex", "nndetection", "picai", ...), which then decides
    # everything below; empty: the keys below.
    cfg.TEST.FROC.PRESET = ""
    # When a box hits a lesion: "iou", "iom", "iobb", "iogt" (overlap at least THRESHOLD), "center_in_box",
    # "center_half_diagonal", "center_px", "center_mm", "center_max" (distance at most THRESHOLD, in their units).
    cfg.TEST.FROC.HIT = "iou"
    cfg.TEST.FROC.THRESHOLD = 0.5
    # True: better than the threshold, not just as good as.
    cfg.TEST.FROC.STRICT = False
    # "any" (every hit counts), "best" (a box finds the lesion it hits best), "greedy" (one box, one lesion, best score
    # first) or "hungarian".
    cfg.TEST.FROC.MATCHING = "any"
    # More hits on a lesion already found: "ignore" or "fp".
    cfg.TEST.FROC.EXTRA_HITS = "ignore"
    # Images whose false positives count and are averaged over: "known" (to show the class or not), "all", "negative"
    # or "positive".
    cfg.TEST.FROC.FP_IMAGES = "known"
    # Sensitivity of "lesion", "image", "breast" or "patient" (at least one lesion of it found).
    cfg.TEST.FROC.RECALL_OF = "lesion"
    # Between operating points: "step" (achievable) or "linear".
    cfg.TEST.FROC.INTERPOLATION = "step"
    # False positives per image at which the sensitivity is reported.
    cfg.TEST.FROC.RATES = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    # Evaluator "froc_classified": only in the images that the image scores call positive at this sensitivity.
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.85

    cfg.TEST.PATIENT = CfgNode()
    # Classes that make a patient positive; empty: "malignant" if it is a class, else every class.
    cfg.TEST.PATIENT.POSITIVE_CLASSES = []
    # A patient, breast or image is called positive by a box with a score above (STRICT) or at this threshold.
    cfg.TEST.PATIENT.THRESHOLD = 0.5
    cfg.TEST.PATIENT.STRICT = True

    # Evaluator "image": "mean" (GMIC) or "max" (dual branch) of the image scores of a breast, exam or patient.
    cfg.TEST.IMAGE = CfgNode()
    cfg.TEST.IMAGE.AGGREGATE = "mean"
    cfg.TEST.IMAGE.THRESHOLD = 0.5
    cfg.TEST.IMAGE.STRICT = True

    # Evaluator "saliency": "macro" (mean over images) or "pooled"; distance in pixels within which pointing is a hit.
    cfg.TEST.SALIENCY = CfgNode()
    cfg.TEST.SALIENCY.AVERAGE = "macro"
    cfg.TEST.SALIENCY.POINTING_TOLERANCE = 0.0

    # Evaluator "regions": best regions of each class that are judged and drawn (hits as in TEST.FROC), and number of
    # images of each kind that the report draws them on.
    cfg.TEST.REGIONS = CfgNode()
    cfg.TEST.REGIONS.TOP = 3
    cfg.TEST.REGIONS.PICTURES = 4

    # Evaluator "lesion": one case per "lesion" (views averaged) or per "annotation"; crops of a lesion averaged as
    # "probability" or "logit"; number of malignant and of benign lesions that the report draws.
    cfg.TEST.LESION = CfgNode()
    cfg.TEST.LESION.AVERAGE = "lesion"
    cfg.TEST.LESION.CROPS = "probability"
    cfg.TEST.LESION.PICTURES = 4
