"""mammo_d2: detection and weak supervision on mammograms, a detectron2 plugin.

The names in ``__all__`` here and in ``mammo_d2.evaluation`` are the stable API: a later version changes one only with a
deprecation warning first. Everything else may move.

Importing this package registers its components (meta-architectures, backbones, proposal generators, ROI heads) where
detectron2's ``build_model`` finds them: at once if detectron2 is installed, so that it does not matter which of the two
is imported first. Without detectron2, or with ``MAMMO_D2_ENGINE=embedded``, the components are registered with the
embedded engine when the first name of ``__all__`` is used, and the import alone loads neither torch nor anything else:
``mammo_d2.evaluation`` and ``mammo-d2 evaluate`` do without.
"""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

from mammo_d2.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from mammo_d2.config.keys import add_mammo_config
    from mammo_d2.config.loading import load_config
    from mammo_d2.config.named_configs import find_config
    from mammo_d2.data.format.catalog import register_datasets
    from mammo_d2.data.loading.loader import build_test_loader, build_train_loader
    from mammo_d2.engine.trainer import MammoTrainer
    from mammo_d2.evaluation.evaluators.registered import EVALUATOR_REGISTRY
    from mammo_d2.framework import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        PROPOSAL_GENERATOR_REGISTRY,
        ROI_HEADS_REGISTRY,
    )
    from mammo_d2.inference.predictor import Predictor
    from mammo_d2.jobs import JOB_REGISTRY

__version__ = "0.1.0"

__all__ = [
    "BACKBONE_REGISTRY",
    "EVALUATOR_REGISTRY",
    "JOB_REGISTRY",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "MammoTrainer",
    "Predictor",
    "__version__",
    "add_mammo_config",
    "build_test_loader",
    "build_train_loader",
    "find_config",
    "load_config",
    "register_datasets",
]

_MODULES = {
    "BACKBONE_REGISTRY": "mammo_d2.framework",
    "EVALUATOR_REGISTRY": "mammo_d2.evaluation.evaluators.registered",
    "JOB_REGISTRY": "mammo_d2.jobs",
    "META_ARCH_REGISTRY": "mammo_d2.framework",
    "PROPOSAL_GENERATOR_REGISTRY": "mammo_d2.framework",
    "ROI_HEADS_REGISTRY": "mammo_d2.framework",
    "MammoTrainer": "mammo_d2.engine.trainer",
    "Predictor": "mammo_d2.inference.predictor",
    "add_mammo_config": "mammo_d2.config.keys",
    "build_test_loader": "mammo_d2.data.loading.loader",
    "build_train_loader": "mammo_d2.data.loading.loader",
    "find_config": "mammo_d2.config.named_configs",
    "load_config": "mammo_d2.config.loading",
    "register_datasets": "mammo_d2.data.format.catalog",
}


def _register_components() -> None:
    importlib.import_module("mammo_d2.modeling")


__getattr__, __dir__ = lazy_names(__name__, _MODULES, _register_components)

if os.environ.get("MAMMO_D2_ENGINE", "").strip() != "embedded" and importlib.util.find_spec("detectron2"):
    _register_components()
