"""The job: configuration, trainer, hooks."""

from mammo_d2.engine.main import main
from mammo_d2.engine.setup import load_config, setup
from mammo_d2.engine.trainer import MammoTrainer

__all__ = ["MammoTrainer", "load_config", "main", "setup"]
