"""What a job tells the report of a run: its trainings, evaluations and config keys, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, GeneralizedRCNN

#: Config keys that the report of an ordinary training shows in a table, each with what it is.
DEFAULT_KEYS = (
    ("MODEL.META_ARCHITECTURE", "meta-architecture"),
    ("MODEL.BACKBONE.NAME", "backbone"),
    ("MODEL.RESNETS.DEPTH", "ResNet depth"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "proposal generator"),
    ("MODEL.RPN.NEGATIVE_IMAGES", "negative images in the RPN"),
    ("MODEL.ROI_HEADS.NAME", "ROI heads"),
    ("MODEL.ROI_HEADS.SIMILARITY_WEIGHT", "weight of the similarity loss"),
    ("MODEL.WEIGHTS", "initial weights"),
    ("DATASETS.CATEGORIES", "detection classes"),
    ("INPUT.SIZE", "network input (height, width)"),
    ("INPUT.INTENSITY", "intensity"),
    ("DATALOADER.SAMPLER_TRAIN", "training sampler"),
    ("SOLVER.OPTIMIZER", "optimizer"),
    ("SOLVER.BASE_LR", "base learning rate"),
    ("SOLVER.IMS_PER_BATCH", "images per batch"),
    ("SOLVER.EPOCHS", "epochs (0: counted in iterations)"),
    ("SOLVER.MAX_ITER", "iterations"),
    ("SEED", "seed"),
)


# Keys that only models with proposals read.
_OF_DETECTORS = ("MODEL.PROPOSAL_GENERATOR.", "MODEL.RPN.", "MODEL.ROI_HEADS.")


def default_keys(cfg: CfgNode) -> list[tuple[str, str]]:
    """``DEFAULT_KEYS`` that the model reads: those of proposals and ROI heads only of a model that has them, the depth
    only of detectron2's ResNets."""
    name = cfg.MODEL.META_ARCHITECTURE
    model = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else GeneralizedRCNN
    is_detector = not isinstance(model, type) or issubclass(model, GeneralizedRCNN)
    unread: tuple[str, ...] = () if is_detector else _OF_DETECTORS
    if not cfg.MODEL.BACKBONE.NAME.startswith("build_resnet"):
        unread += ("MODEL.RESNETS.",)
    return [(key, words) for key, words in DEFAULT_KEYS if not key.startswith(unread)]


@dataclass(frozen=True)
class ReportedTraining:
    """A training that the report shows.

    Attributes:
        title: of its section.
        folder: with its log; it may not exist.
        cfg: its config.
        given_weights: weights of a training that was not part of this run; empty: it was.
    """

    title: str
    folder: Path
    cfg: CfgNode
    given_weights: str = ""


@dataclass(frozen=True)
class ReportedEvaluation:
    """Evaluations that the report shows.

    Attributes:
        name: tells them from others of the same data sets, e.g. "embedding + saliency"; empty without others.
        folder: with ``inference/<data set>``.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class ReportParts:
    """What the report of a run shows.

    Attributes:
        uses: names of data sets by what they are used for.
        trainings: in order.
        evaluations: in order.
        evaluate_again: KEY VALUE overrides with which ``--eval-only`` repeats the evaluation.
        unevaluated: the sentence for a run without evaluation, up to ``unevaluated_hint``.
        unevaluated_hint: its rest.
        keys: config keys of the table, each with what it is.
        stage_configs: by name, where the trainings have different settings.
        stage_keys: the keys that they differ in, each with what it is.
    """

    uses: Mapping[str, Sequence[str]]
    trainings: Sequence[ReportedTraining]
    evaluations: Sequence[ReportedEvaluation]
    evaluate_again: Sequence[str] = ()
    unevaluated: str = "the run has no evaluation"
    unevaluated_hint: str = ": there is nothing in its inference folder."
    keys: Sequence[tuple[str, str]] = DEFAULT_KEYS
    stage_configs: Mapping[str, CfgNode] = field(default_factory=dict)
    stage_keys: Sequence[tuple[str, str]] = ()
