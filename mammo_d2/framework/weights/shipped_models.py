"""Models that the package brings with it: a folder each, with config, weights and model card.

``mammo_d2://NAME`` as MODEL.WEIGHTS is the weights of the model of that name.
"""

from pathlib import Path

PREFIX = "mammo_d2://"
CONFIG, WEIGHTS, CARD = "config.yaml", "model.safetensors", "README.md"
#: What predicts where no model is named.
DEFAULT_MODEL = PREFIX + "cbis_mass_detector"


def models_folder() -> Path:
    """Folder of the package's models: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def model_names() -> list[str]:
    """Names of the models, without prefix, sorted."""
    return sorted(path.parent.name for path in models_folder().glob(f"*/{WEIGHTS}"))


def find_model(name: str) -> Path:
    """Folder of a model.

    Args:
        name: with or without ``mammo_d2://``.

    Raises:
        FileNotFoundError: no such model; the message names those there are.
    """
    folder = models_folder() / name.removeprefix(PREFIX)
    if not (folder / WEIGHTS).is_file():
        known = ", ".join(PREFIX + known for known in model_names()) or "none"
        raise FileNotFoundError(f"the package has no model {name}; its models are: {known}")
    return folder


def local_weights(weights: str) -> str:
    """Path of the file that ``mammo_d2://NAME`` stands for; other values of MODEL.WEIGHTS are returned unchanged.

    Raises:
        FileNotFoundError: no such model.
    """
    return str(find_model(weights) / WEIGHTS) if weights.startswith(PREFIX) else weights
