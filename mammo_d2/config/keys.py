"""Every configuration key that mammo_d2 adds to detectron2's, each with its default and a comment.

Those of mixed supervision are in ``supervision.py``, those of TensorBoard pictures and trackers in ``monitoring.py``.
"""

import mammo_d2.modeling  # noqa: F401  registers the components that the keys name
from mammo_d2.config.monitoring import add_monitoring_keys
from mammo_d2.config.supervision import add_supervision_keys
from mammo_d2.framework import CfgNode


def add_mammo_config(cfg: CfgNode) -> None:
    """Add this package's keys to a default config, in place. Call it once per config.

    Keys that detectron2 already has keep their meaning; the defaults changed here are listed first.
    """
    # --- defaults of detectron2's own keys that differ here -----------------------------------------------------
    # An image without annotations is a healthy breast, not a missing label.
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False

    # Your own modules, e.g. ["my_package.heads"]. load_config imports them before anything else, so every command and
    # its processes know what they register. Their function add_config(cfg), if any, may add keys. Importing runs their
    # code: check MODULES before you use someone else's config.
    cfg.MODULES = []
    # Training job by registry name: "SingleStageJob" (one model, MODEL.META_ARCHITECTURE), "TwoStageJob" (the same
    # model trained twice, the second time from the result of the first) or "LesionContextJob" (the stages of the lesion
    # classifier), "LesionPatchJob" (its patch network alone), "BackboneJob" (one model, of which others start from the
    # backbone alone), "UntrainedJob" (models without weights, which are only evaluated).
    cfg.JOB = "SingleStageJob"
    # For "TwoStageJob": config of the first training, if it is not this one (a file or a mammo_d2:// name; the training
    # sets and the seed are this config's all the same); KEY, VALUE overrides of the first training (not of its data
    # sets); weights of a first training made before, in place of one in OUTPUT_DIR/first_stage.
    cfg.FIRST_STAGE = CfgNode()
    cfg.FIRST_STAGE.CONFIG = ""
    cfg.FIRST_STAGE.OVERRIDES = []
    cfg.FIRST_STAGE.WEIGHTS = ""

    _add_data_keys(cfg)
    add_supervision_keys(cfg)
    _add_model_keys(cfg)
    _add_deep_mil_keys(cfg)
    _add_dual_branch_keys(cfg)
    _add_baseline_keys(cfg)
    _add_lesion_keys(cfg)
    _add_solver_keys(cfg)
    _add_test_keys(cfg)
    add_monitoring_keys(cfg)


def _add_data_keys(cfg: CfgNode) -> None:
    # Folder holding one sub-folder per prepared data set; the environment variable MAMMO_D2_DATASETS overrides it.
    cfg.DATASETS.ROOT = "datasets"
    # Additional data sets, as [name, COCO JSON, image folder] triples.
    cfg.DATASETS.REGISTER = []
    # Parts of data sets, as [data set, class, number of images] triples with the classes "malignant", "benign" and
    # "normal" (of an image's labels): of a data set named here, that many images of each class named are drawn, of
    # different patients as long as there are any; and the seed of the draw.
    cfg.DATASETS.TAKE = []
    cfg.DATASETS.TAKE_SEED = 0
    # Keep the checked records of an annotation file in a file beside it, which all processes map into memory:
    # "auto" (of files from 8 MiB on), "always" or "never". Records and batches are the same.
    cfg.DATASETS.RECORD_STORE = "auto"
    # Categories used as detection classes, in class order. Annotations of other categories are dropped; an image
    # without any other annotation becomes negative.
    cfg.DATASETS.CATEGORIES = ["malignant"]
    # Labels in training: "breast" (all images of a breast in one exam share them: a finding in one view counts for all
    # views) or "image" (each image has its own).
    cfg.DATASETS.LABEL_LEVEL = "image"
    # Allow a patient (or the same source image) to be in both a training and a test set.
    cfg.DATASETS.ALLOW_SHARED_PATIENTS = False
    # If not empty: merge all of DATASETS.CATEGORIES into this one class.
    cfg.DATASETS.MERGE_CATEGORIES = ""
    # Regions for MODEL.PROPOSAL_GENERATOR.NAME PrecomputedProposals, as [data set, COCO results JSON] pairs. Boxes of
    # every category are used; they are in pixels of the prepared images and have the image ids of the data set.
    cfg.DATASETS.PROPOSALS = []

    # Network input (height, width) in pixels.
    cfg.INPUT.SIZE = [512, 512]
    # Keep the aspect ratio and pad at the bottom and right; otherwise stretch both sides to SIZE.
    cfg.INPUT.KEEP_ASPECT = False
    # With KEEP_ASPECT: enlarge images smaller than SIZE. False: keep their resolution.
    cfg.INPUT.ENLARGE = True
    # Scaling of stored pixel values to 0..255 floats: "bit_depth" (full range of the file), "minmax" or "percentile".
    cfg.INPUT.INTENSITY = "bit_depth"
    # For INTENSITY "percentile": lower and upper percentile of the non-background pixels.
    cfg.INPUT.INTENSITY_PERCENTILES = [0.5, 99.5]
    # "resize" (intensity scaling and resizing) or "breast_window" (the unscaled breast on a canvas of SIZE, facing
    # right, standardised; for GMIC and the ResNet-22 classifier).
    cfg.INPUT.PREPROCESSING = "resize"
    # For "breast_window": steps of the erosion that removes markers, and margin around the breast in pixels.
    cfg.INPUT.WINDOW = CfgNode()
    cfg.INPUT.WINDOW.EROSION = 100
    cfg.INPUT.WINDOW.MARGIN = 50
    # Largest random shift of the window in training, in pixels, along both axes (0: the window of the test).
    cfg.INPUT.WINDOW.RANDOM_SHIFT = 0
    # How unprepared files are read, cropped, flipped and scaled before prediction: "auto" (like the training data, from
    # preparation.json beside the weights or else manifest.json of the training data set), "none" (not at all), or the
    # path of such a file.
    cfg.INPUT.PREPARATION = "auto"
    # For SlidingWindowRegions: side in pixels of the cells of the breast and pectoral muscle map that the mapper adds
    # (0: no map).
    cfg.INPUT.TISSUE_CELL = 0

    cfg.INPUT.AUG = CfgNode()
    # Probability of a horizontal and of a vertical flip.
    cfg.INPUT.AUG.FLIP_HORIZONTAL = 0.5
    cfg.INPUT.AUG.FLIP_VERTICAL = 0.0
    # Largest shift as a fraction of the side, rotation in degrees, range of the scale factor (all uniform).
    cfg.INPUT.AUG.SHIFT = 0.0
    cfg.INPUT.AUG.ROTATION = 0.0
    cfg.INPUT.AUG.SCALE = [1.0, 1.0]
    # Cutout: side of a square set to 0, in network input pixels (0: none), and its probability.
    cfg.INPUT.AUG.CUTOUT_SIZE = 0
    cfg.INPUT.AUG.CUTOUT_PROB = 0.5
    # Largest relative change of brightness, contrast and gamma (0: none).
    cfg.INPUT.AUG.BRIGHTNESS = 0.0
    cfg.INPUT.AUG.CONTRAST = 0.0
    cfg.INPUT.AUG.GAMMA = 0.0
    # Standard deviation of Gaussian noise, as a fraction of that of the network image (0: none).
    cfg.INPUT.AUG.NOISE = 0.0
    # Drop boxes with less than this fraction of their area inside the image.
    cfg.INPUT.AUG.MIN_VISIBLE = 0.3
    # Redraw augmentations that would move every box out of the image. Uses the boxes; set False for methods that learn
    # from image labels only.
    cfg.INPUT.AUG.KEEP_LESION = True

    # Training sampler. For detectors: "PairSampler" (positive, negative, positive, ...), "PositiveSampler" (annotated
    # images only) or "LocatedSampler" (positive and negative images at random). For methods that learn from image
    # labels: "ExamSampler" (each epoch all exams with a finding and as many others), "TrainingSampler" (all images)
    # or "BalancedClassSampler" (each class and the class normal equally often; the most severe category last).
    cfg.DATALOADER.SAMPLER_TRAIN = "PairSampler"
    # Memory for caching resized images, in MiB per worker process (0: no cache).
    cfg.DATALOADER.CACHE_MB = 0


def _add_model_keys(cfg: CfgNode) -> None:
    # TopLikelihoodRPN, loss on images without annotations: "top_likelihood" (push the T highest-scoring anchors to
    # background), "random" (ordinary anchor sampling: the control experiment) or "ignore" (they pass through the
    # network, so that normalisation layers see them, but neither RPN nor ROI heads learn from them: plain Faster R-CNN
    # on the positive images of the same batches; needs one of the similarity heads, which leave them out).
    cfg.MODEL.RPN.NEGATIVE_IMAGES = "top_likelihood"
    # The RPN's loss of positive images is averaged over the positive images of a batch and that of negative images over
    # the negative ones ("kind"), so that positive images weigh the same whatever NEGATIVE_IMAGES is; or, with
    # NEGATIVE_IMAGES "random", everything is averaged over all images ("all"), as in Faster R-CNN.
    cfg.MODEL.RPN.LOSS_AVERAGE = "kind"
    # Number of top anchors T (0: MODEL.RPN.BATCH_SIZE_PER_IMAGE, as many as are sampled in a positive image), and the
    # weight lambda_2 of the loss of negative images (with "random" and "kind", too). MODEL.RPN.LOSS_WEIGHT multiplies
    # it, and anchors that MODEL.RPN.BOUNDARY_THRESH leaves out are not ranked.
    cfg.MODEL.RPN.TOP_LIKELIHOOD_T = 0
    cfg.MODEL.RPN.TOP_LIKELIHOOD_WEIGHT = 1.0
    # Weight lambda_4 of the similarity loss; 0 turns it off and skips its computation.
    cfg.MODEL.ROI_HEADS.SIMILARITY_WEIGHT = 0.1

    # Backbone "ResNet22": channels of the first convolution (doubled at each stage); stride of each stage; recompute
    # stages in the backward pass to save memory; compute equal rows and columns (background) only once at inference.
    # The last two do not change the results.
    cfg.MODEL.RESNET22 = CfgNode()
    cfg.MODEL.RESNET22.STEM_CHANNELS = 16
    cfg.MODEL.RESNET22.STRIDES = [1, 2, 2, 2, 2]
    cfg.MODEL.RESNET22.CHECKPOINTING = False
    cfg.MODEL.RESNET22.SKIP_BACKGROUND = False

    # Meta-architecture "ResNet22Classifier": target "labels" or "birads" groups (one class per list of grades).
    cfg.MODEL.CLASSIFIER = CfgNode()
    cfg.MODEL.CLASSIFIER.TARGET = "labels"
    cfg.MODEL.CLASSIFIER.BIRADS_GROUPS = [[0], [1], [2]]

    _add_gmic_keys(cfg)


def _add_gmic_keys(cfg: CfgNode) -> None:
    cfg.MODEL.GMIC = CfgNode()
    # Row of the paper's table 1: "full", "loc", "mil", "no_attention", "random" or "loc_random" (random patches).
    cfg.MODEL.GMIC.VARIANT = "full"
    # Prediction of the full model: "average" of both modules (the paper) or "concat" (the released weights).
    cfg.MODEL.GMIC.FUSION = "average"
    # Fraction t: the score of an image is the mean of this fraction of a saliency map's cells, the largest ones.
    cfg.MODEL.GMIC.TOP_FRACTION = 0.03
    # Meta-architecture "GMICEnsemble": t of each member; all other settings are shared.
    cfg.MODEL.GMIC.ENSEMBLE = [0.02, 0.03, 0.03, 0.05, 0.1]
    # Number K of patches, and their (height, width) in network input pixels.
    cfg.MODEL.GMIC.NUM_PATCHES = 6
    cfg.MODEL.GMIC.PATCH_SIZE = [256, 256]
    # Rows of the matrices of the gated attention.
    cfg.MODEL.GMIC.ATTENTION_CHANNELS = 128
    # Length L of a patch's feature: ResNet-18's 512, as in the released weights; the paper's 128 by a linear layer.
    cfg.MODEL.GMIC.PATCH_FEATURES = 512
    # Weight lambda and exponent beta of the saliency maps' regulariser.
    cfg.MODEL.GMIC.SPARSITY_WEIGHT = 0.0001
    cfg.MODEL.GMIC.SPARSITY_EXPONENT = 1.0
    # Initial weights of the patch network: a file of torchvision's ResNet-18 or of a trained GMIC; empty: random.
    cfg.MODEL.GMIC.PATCH_WEIGHTS = ""
    # Boxes surround connected cells of at least BOX_THRESHOLD times the maximum of their map, and at least BOX_FLOOR.
    # Box score: "max" or "mean" of the cells, or "max_times_image" (max times the image's score of the class).
    cfg.MODEL.GMIC.BOX_THRESHOLD = 0.5
    cfg.MODEL.GMIC.BOX_FLOOR = 0.05
    cfg.MODEL.GMIC.BOX_SCORE = "max_times_image"


def _add_deep_mil_keys(cfg: CfgNode) -> None:
    cfg.MODEL.DEEP_MIL = CfgNode()
    # Scheme: "max", "label_assignment", "sparse", or "classifier" (baseline: fully connected layers, no response map).
    cfg.MODEL.DEEP_MIL.HEAD = "sparse"
    # Feature map for the head; empty: the backbone's last.
    cfg.MODEL.DEEP_MIL.IN_FEATURE = ""
    # For "label_assignment": number k of regions that get the image's label.
    cfg.MODEL.DEEP_MIL.TOP_K = 2
    # For "sparse": weight mu of the sum of the responses, stated for SPARSITY_CELLS cells: an image of m cells gets
    # mu * SPARSITY_CELLS / m, so that mu means the same at every size of the map. The paper has 36 cells. 0: mu is the
    # weight of the plain sum, which weighs more with more cells.
    cfg.MODEL.DEEP_MIL.SPARSITY = 1e-5
    cfg.MODEL.DEEP_MIL.SPARSITY_CELLS = 36
    # Channels of 1x1 convolutions (with ReLU) before the regression; the released code has [128, 128], the paper none.
    cfg.MODEL.DEEP_MIL.HIDDEN = []
    # For "classifier": widths of the hidden layers, and the dropout before each.
    cfg.MODEL.DEEP_MIL.CLASSIFIER_FC = [4096, 4096]
    cfg.MODEL.DEEP_MIL.CLASSIFIER_DROPOUT = 0.5
    # Boxes surround responses of at least BOX_THRESHOLD times the image's maximum, and at least BOX_FLOOR.
    cfg.MODEL.DEEP_MIL.BOX_THRESHOLD = 0.5
    cfg.MODEL.DEEP_MIL.BOX_FLOOR = 0.05


def _add_dual_branch_keys(cfg: CfgNode) -> None:
    # VGG-M: channels of its five convolutions, and widths of the two hidden layers (the second is the region's code).
    cfg.MODEL.VGG_M = CfgNode()
    cfg.MODEL.VGG_M.CHANNELS = [96, 256, 512, 512, 512]
    cfg.MODEL.VGG_M.FC_DIMS = [4096, 128]
    # SlidingWindowRegions: side and stride of the windows in network input pixels; smallest fraction of a window that
    # is breast, largest fraction that is pectoral muscle (at least one window is kept).
    cfg.MODEL.SLIDING_WINDOW = CfgNode()
    cfg.MODEL.SLIDING_WINDOW.SIZE = 224
    cfg.MODEL.SLIDING_WINDOW.STRIDE = 112
    cfg.MODEL.SLIDING_WINDOW.MIN_BREAST = 0.5
    cfg.MODEL.SLIDING_WINDOW.MAX_PECTORAL = 0.5
    # DualBranchROIHeads: the compared systems, "cls_det_rs" (the paper's), "db_baseline" (no normal class, no region
    # selection), "max_region" (the highest region decides; binary classifiers of regions, one per finding) or
    # "max_region_softmax" (the highest region decides; one classifier of regions with a normal class; not the paper's).
    cfg.MODEL.DUAL_BRANCH = CfgNode()
    cfg.MODEL.DUAL_BRANCH.VARIANT = "cls_det_rs"
    # For "cls_det_rs": number k of regions selected per class.
    cfg.MODEL.DUAL_BRANCH.NUM_SELECTED = 10
    # Encoder from a region of the feature map to its code: "VGGMRegionEncoder" or "PooledRegionEncoder" (any backbone).
    cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "PooledRegionEncoder"
    # Feature map of the regions; empty: the backbone's last.
    cfg.MODEL.DUAL_BRANCH.IN_FEATURE = ""
    # True: regions share the feature maps of the image (fast; a cell near a region's border sees the image around it).
    # False: each region is cut out and encoded by itself, as published.
    cfg.MODEL.DUAL_BRANCH.SHARED_MAPS = True
    # Two stages: freeze backbone and region encoder and run them once per image, without gradient.
    cfg.MODEL.DUAL_BRANCH.FROZEN = False
    # Cache folder of frozen region codes, keyed by image, regions, weights and settings; empty: no cache.
    cfg.MODEL.DUAL_BRANCH.CACHE_DIR = ""
    # Width of the layer FC3 before the branches, and the dropout after it.
    cfg.MODEL.DUAL_BRANCH.FC_DIM = 128
    cfg.MODEL.DUAL_BRANCH.DROPOUT = 0.5


def _add_baseline_keys(cfg: CfgNode) -> None:
    # Baselines without training (CenterPrior, BrightestBlob), and results of other programs (StoredResults).
    cfg.MODEL.BASELINE = CfgNode()
    # CenterPrior: side of the boxes, as a part of the longer side of the breast.
    cfg.MODEL.BASELINE.SIDE = 0.2
    # BrightestBlob: sizes of the spots (sigma, half the radius) as parts of the image's longer side, and their number.
    cfg.MODEL.BASELINE.SIGMAS = [0.01, 0.015, 0.02, 0.03, 0.04]
    cfg.MODEL.BASELINE.COUNT = 10
    # StoredResults: COCO results file of another program, in pixels of the data set's images.
    cfg.MODEL.BASELINE.RESULTS = ""


def _add_lesion_keys(cfg: CfgNode) -> None:
    # Lesion classification with global context (LesionPatchClassifier, LesionContextClassifier).
    cfg.MODEL.LESION = CfgNode()
    # Folder of the memory-mapped images that patches are read from; empty: "patch_store" in OUTPUT_DIR.
    cfg.MODEL.LESION.STORE = ""
    # Patches per epoch: malignant, benign, outside the lesions, from images without finding.
    cfg.MODEL.LESION.EPOCH = [20, 35, 5000, 4945]
    # Training windows: smallest and largest side in pixels (uniform), largest rotation in degrees (both directions).
    cfg.MODEL.LESION.WINDOW_SIDES = [128, 384]
    cfg.MODEL.LESION.ROTATION = 30.0
    # Side to which windows are resized, in pixels, and number of windows per lesion at inference.
    cfg.MODEL.LESION.PATCH_SIZE = 256
    cfg.MODEL.LESION.WINDOWS = 100
    # Patch network: "densenet121", "densenet161", "densenet169"; "resnetv2_50", "resnetv2_101", "resnetv2_152" (the
    # paper's second version); "resnet18", "resnet50", "resnet101", "resnet152" (torchvision's); or "backbone", that of
    # MODEL.BACKBONE, whose last map is used. Its initial weights: a torchvision file, or for "resnetv2_*" what mammo-d2
    # convert-weights makes of timm's (of a backbone: MODEL.WEIGHTS); empty: random. Length of the embedding h.
    cfg.MODEL.LESION.NETWORK = "densenet161"
    cfg.MODEL.LESION.NETWORK_WEIGHTS = ""
    cfg.MODEL.LESION.EMBEDDING = 32
    # Batch size of the patch network at inference, in windows.
    cfg.MODEL.LESION.WINDOWS_PER_FORWARD = 100
    # Normaliser of the class-weighted loss: the batch's number of "patches" (unbiased) or sum of "weights".
    cfg.MODEL.LESION.LOSS_AVERAGE = "patches"
    # Input maps of the aggregation network: "indicator", "embedding", "saliency"; none: the patch network alone.
    cfg.MODEL.LESION.MAPS = ["embedding", "saliency"]
    # Cells (rows, columns) of a map, number of saliency maps (the context network's classes), channels of the
    # aggregation network.
    cfg.MODEL.LESION.MAP_SIZE = [46, 30]
    cfg.MODEL.LESION.SALIENCY_MAPS = 2
    cfg.MODEL.LESION.CHANNELS = 32
    # Context network: config and trained weights of a GMIC.
    cfg.MODEL.LESION.CONTEXT_CONFIG = ""
    cfg.MODEL.LESION.CONTEXT_WEIGHTS = ""
    # Its saliency maps as "published" (as the network gives them: a map is stretched over the image) or placed by the
    # "receptive_field" (cells lie where the network looked).
    cfg.MODEL.LESION.SALIENCY_PLACEMENT = "published"
    # Trained patch network of another job, to skip its training; empty: train one in OUTPUT_DIR/patch.
    cfg.MODEL.LESION.PATCH_WEIGHTS = ""
    # Cache folder of saliency maps and embeddings, keyed by content; empty: "cache" in OUTPUT_DIR.
    cfg.MODEL.LESION.CACHE = ""
    # Number of patch epochs whose embeddings are stored for the aggregation network: of lesion patches (0: as many as
    # it is trained for, so that every epoch has new ones), and of the far more patches outside and negative (at most as
    # many; 0: as many). Later epochs begin with the first again.
    cfg.MODEL.LESION.STORED_EPOCHS = 0
    cfg.MODEL.LESION.STORED_BACKGROUND_EPOCHS = 10
    # Data sets of the final evaluation; empty: DATASETS.TEST, on which the weights are chosen.
    cfg.MODEL.LESION.FINAL_TEST = []
    # KEY, VALUE overrides for training the patch network and the aggregation network.
    cfg.MODEL.LESION.PATCH_STAGE = []
    cfg.MODEL.LESION.CONTEXT_STAGE = []


def _add_solver_keys(cfg: CfgNode) -> None:
    # "SGD", "Adam" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Length of the training in epochs (passes of the training sampler); 0: SOLVER.MAX_ITER. The run's config has the
    # iterations that follow from it. With EPOCHS, these keys in epochs set those in iterations, too (0 or empty: the
    # latter hold): STEPS, WARMUP_ITERS and CHECKPOINT_PERIOD; TEST.EVAL_PERIOD and TEST.LOSS_PERIOD.
    cfg.SOLVER.EPOCHS = 0
    cfg.SOLVER.STEP_EPOCHS = []
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    cfg.SOLVER.CHECKPOINT_EPOCHS = 0
    cfg.TEST.EVAL_EPOCHS = 0
    cfg.TEST.LOSS_EPOCHS = 0
    # Copy checkpoints to this folder of an object store, e.g. "s3://bucket/run7" (needs s3fs), one for each run; with
    # --resume an OUTPUT_DIR without checkpoint goes on from there. Empty: none.
    cfg.SOLVER.CHECKPOINT_COPY = ""
    # Mini-batches per optimizer step; their gradients are averaged.
    cfg.SOLVER.ACCUMULATE = 1
    # Autocast type when SOLVER.AMP.ENABLED: "float16" (GPU only) or "bfloat16".
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Fused optimizer kernels and channels-last memory order: faster, same results up to rounding.
    cfg.SOLVER.FUSED = False
    cfg.SOLVER.CHANNELS_LAST = False
    # Refuse operations without a deterministic implementation: runs repeat bit for bit.
    cfg.SOLVER.DETERMINISTIC = False
    # Exponential moving average of the weights; if enabled, it is evaluated and saved as model_ema.pth.
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
    # Log the training losses on DATASETS.TEST (validation/loss_*) every this many iterations (0: never).
    cfg.TEST.LOSS_PERIOD = 0
    # Keep model_best.pth by this metric (e.g. "froc/malignant/sens@0.5"; empty: off) and stop after
    # EARLY_STOP_PATIENCE evaluations without improvement (0: never).
    cfg.TEST.BEST_METRIC = ""
    cfg.TEST.BEST_MODE = "max"
    cfg.TEST.EARLY_STOP_PATIENCE = 0

    # Models of whole images at test: average over COUNT versions of each image (1: the image as it is), each with a
    # breast window shifted by up to SHIFT pixels and with noise as in INPUT.AUG.NOISE.
    cfg.TEST.WINDOWS = CfgNode()
    cfg.TEST.WINDOWS.COUNT = 1
    cfg.TEST.WINDOWS.SHIFT = 0
    cfg.TEST.WINDOWS.NOISE = 0.0

    cfg.TEST.COCO = CfgNode()
    # "numpy" (this package's), "pycocotools" or "faster_coco_eval": the same numbers at different speeds.
    cfg.TEST.COCO.BACKEND = "numpy"

    cfg.TEST.BOOTSTRAP = CfgNode()
    # Replicates over patients for confidence intervals in the JSON files (0: none), their seed and confidence.
    cfg.TEST.BOOTSTRAP.REPLICATES = 0
    cfg.TEST.BOOTSTRAP.SEED = 0
    cfg.TEST.BOOTSTRAP.CONFIDENCE = 0.95

    cfg.TEST.FROC = CfgNode()
    # A published rule by name ("coco", "luna16", "camelyon", "dbtex", "nndetection", "picai", ...) that replaces the
    # keys below; empty: use the keys below.
    cfg.TEST.FROC.PRESET = ""
    # Criterion for a hit: "iou", "iom", "iobb", "iogt" (overlap at least THRESHOLD), "center_in_box",
    # "center_half_diagonal", "center_px", "center_mm", "center_max" (distance at most THRESHOLD, in their units).
    # A length ("center_px", "center_mm", "center_max") needs its own THRESHOLD: 0.5 is an error with them.
    cfg.TEST.FROC.HIT = "iou"
    cfg.TEST.FROC.THRESHOLD = 0.5
    # True: a hit must be strictly better than THRESHOLD; False: equal counts, too.
    cfg.TEST.FROC.STRICT = False
    # "any" (every hit counts), "best" (a box matches the lesion it hits best), "greedy" (one-to-one, best score first)
    # or "hungarian".
    cfg.TEST.FROC.MATCHING = "any"
    # Further hits on a lesion already found: "ignore" or "fp" (false positives).
    cfg.TEST.FROC.EXTRA_HITS = "ignore"
    # Images whose false positives are counted and averaged: "known" (label of the class is known), "all", "negative" or
    # "positive".
    cfg.TEST.FROC.FP_IMAGES = "known"
    # Unit of the sensitivity: "lesion", "image", "breast" or "patient" (at least one of its lesions found).
    cfg.TEST.FROC.RECALL_OF = "lesion"
    # Between operating points: "step" (achievable) or "linear".
    cfg.TEST.FROC.INTERPOLATION = "step"
    # False positives per image at which the sensitivity is reported.
    cfg.TEST.FROC.RATES = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    # Evaluator "froc_classified": use only images that the image scores call positive at this sensitivity.
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.85

    cfg.TEST.PATIENT = CfgNode()
    # Classes that make a patient positive; empty: "malignant" if it is a class, else all classes.
    cfg.TEST.PATIENT.POSITIVE_CLASSES = []
    # A patient, breast or image is called positive if a box scores above THRESHOLD (not STRICT: at least THRESHOLD).
    cfg.TEST.PATIENT.THRESHOLD = 0.5
    cfg.TEST.PATIENT.STRICT = True

    # Evaluator "image": score of a breast, exam or patient as "mean" (GMIC) or "max" (dual branch) of its images.
    cfg.TEST.IMAGE = CfgNode()
    cfg.TEST.IMAGE.AGGREGATE = "mean"
    cfg.TEST.IMAGE.THRESHOLD = 0.5
    cfg.TEST.IMAGE.STRICT = True

    # Evaluator "saliency": "macro" (mean over images) or "pooled"; largest distance in pixels of a pointing hit.
    cfg.TEST.SALIENCY = CfgNode()
    cfg.TEST.SALIENCY.AVERAGE = "macro"
    cfg.TEST.SALIENCY.POINTING_TOLERANCE = 0.0
    # Map of which precision, recall and F1 are taken: "published" (the network's cells stretched over the image) or
    # "receptive_field" (its cells where the network looked; the pointing game, boxes and pictures always use this one).
    cfg.TEST.SALIENCY.PLACEMENT = "published"

    # Evaluator "regions": number of best regions per class that are judged (hits as in TEST.FROC) and drawn, and number
    # of images of each kind in the report.
    cfg.TEST.REGIONS = CfgNode()
    cfg.TEST.REGIONS.TOP = 3
    cfg.TEST.REGIONS.PICTURES = 4

    # Evaluator "lesion": one case per "annotation" on an image (as published) or per "lesion" (its views averaged);
    # crops of a lesion are averaged as "probability" or "logit"; number of malignant and benign lesions in the report.
    cfg.TEST.LESION = CfgNode()
    cfg.TEST.LESION.AVERAGE = "annotation"
    cfg.TEST.LESION.CROPS = "probability"
    cfg.TEST.LESION.PICTURES = 4
