"""Meta-architectures of the package."""

from mammo_d2.modeling.meta_arch.baselines import BrightestBlob, CenterPrior, StoredResults
from mammo_d2.modeling.meta_arch.deep_mil import DeepMIL
from mammo_d2.modeling.meta_arch.detectors import MixedSupervisionRCNN
from mammo_d2.modeling.meta_arch.gmic import GMIC
from mammo_d2.modeling.meta_arch.gmic_ensemble import GMICEnsemble
from mammo_d2.modeling.meta_arch.lesion_context import LesionContextClassifier
from mammo_d2.modeling.meta_arch.lesion_model import LesionPatchClassifier
from mammo_d2.modeling.meta_arch.resnet22_classifier import ResNet22Classifier
from mammo_d2.modeling.meta_arch.weakly_supervised import WeaklySupervisedRCNN

__all__ = [
    "GMIC",
    "BrightestBlob",
    "CenterPrior",
    "DeepMIL",
    "GMICEnsemble",
    "LesionContextClassifier",
    "LesionPatchClassifier",
    "MixedSupervisionRCNN",
    "ResNet22Classifier",
    "StoredResults",
    "WeaklySupervisedRCNN",
]
