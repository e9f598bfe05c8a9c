"""Keys of what can be watched while a model trains: pictures in TensorBoard and an experiment tracker; their check."""

from mammo_d2.config.named_configs import ConfigError
from mammo_d2.framework import CfgNode

#: Values of TRACKER.NAME; each has an extra of the package of the same name.
TRACKERS = ("mlflow", "wandb")


def add_monitoring_keys(cfg: CfgNode) -> None:
    """Add the keys to a config, in place."""
    # Number of images of the first data set of DATASETS.TEST that every evaluation of a training draws into
    # TensorBoard, with truth, best boxes and, of methods that have it, saliency (0: none). Half of them have boxes of
    # truth, as far as there are any.
    cfg.TEST.TENSORBOARD_IMAGES = 0

    # Experiment tracker that gets the config, the metrics of metrics.json and the path of the resulting weights:
    # "mlflow" (pip install 'mammo_d2[mlflow]'), "wandb" (mammo_d2[wandb]); empty: none. Each training of a job is a run
    # with the name of its OUTPUT_DIR; --resume continues it.
    cfg.TRACKER = CfgNode()
    cfg.TRACKER.NAME = ""
    # MLflow's experiment, or W&B's project.
    cfg.TRACKER.PROJECT = "mammo_d2"
    # MLflow: address of the store; empty: the environment variable MLFLOW_TRACKING_URI, else the folder mlruns of the
    # working directory. W&B has no such address; it writes to OUTPUT_DIR/wandb and sends nothing (mode offline) unless
    # the environment variable WANDB_MODE says otherwise.
    cfg.TRACKER.URI = ""


def check_monitoring(cfg: CfgNode) -> None:
    """Check the keys.

    Raises:
        ConfigError: an unknown tracker, one without a project, an address that the tracker does not take, or a negative
            number of images.
    """
    keys = cfg.TRACKER
    if cfg.TEST.TENSORBOARD_IMAGES < 0:
        raise ConfigError(f"TEST.TENSORBOARD_IMAGES is {cfg.TEST.TENSORBOARD_IMAGES}; it must not be negative, 0: none")
    if keys.NAME not in ("", *TRACKERS):
        raise ConfigError(f"TRACKER.NAME is {keys.NAME!r}; use one of {', '.join(TRACKERS)}, or leave it empty")
    if keys.NAME and not keys.PROJECT.strip():
        raise ConfigError(f"TRACKER.PROJECT is empty; name the project of {keys.NAME}, e.g. 'mammo_d2'")
    if keys.URI and keys.NAME != "mlflow":
        raise ConfigError(
            f"TRACKER.URI is {keys.URI!r}, which only the tracker mlflow has; TRACKER.NAME is {keys.NAME!r}"
        )
