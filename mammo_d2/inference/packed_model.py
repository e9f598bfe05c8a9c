"""A finished run as a small folder to hand on: config, weights in half precision, and the preparation of the images.

``mammo-d2 predict --weights FOLDER/model.safetensors`` needs nothing else. The models that come with the package are
such folders, see ``shipped_models.py``.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mammo_d2 import __version__
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import atomic_write, make_folder
from mammo_d2.engine.run_files.run_folder import CONFIG_FILE, PREPARATION_FILE, config_file
from mammo_d2.framework.weights.safetensors_files import write_safetensors
from mammo_d2.framework.weights.shipped_models import WEIGHTS
from mammo_d2.framework.weights.weight_files import read_weight_file
from mammo_d2.jobs.job import build_job

# Keys that name places on the machine of the training; a packed config has their defaults.
_PLACES = ("OUTPUT_DIR", "DATASETS.ROOT", "DATASETS.REGISTER", "MODEL.WEIGHTS")


def pack_run(run: Path, folder: Path) -> int:
    """Write the result of a finished run to a folder.

    Kernels and matrices become float16; vectors (biases, normalisation) stay as they are.

    Args:
        run: OUTPUT_DIR of the run.
        folder: made if missing; it must not hold other weights.

    Returns:
        Bytes of the weights.

    Raises:
        FileNotFoundError: no run, or not a finished one.
        ValueError: a job of several models; a weight that float16 cannot hold; or the folder holds weights already.
    """
    cfg = load_config(config_file(run))
    job = build_job(cfg)
    job.check_files()
    target = folder / WEIGHTS
    if target.exists():
        raise ValueError(f"{target} is there already; name another folder, or delete it")
    weights = _in_half(read_weight_file(str(job.weights(run)))["model"], run)
    defaults = load_config("")
    cfg.defrost()
    for key in _PLACES:
        value = defaults
        for part in key.split("."):
            value = value[part]
        cfg.merge_from_list([key, value])
    cfg.MODEL.WEIGHTS = ""
    make_folder(folder, "the packed model")
    with atomic_write(str(folder / CONFIG_FILE), "w") as file:
        file.write(cfg.dump())
    preparation = run / PREPARATION_FILE
    if preparation.is_file():
        with atomic_write(str(folder / PREPARATION_FILE), "w") as file:
            file.write(preparation.read_text(encoding="utf-8"))
    write_safetensors(target, weights, {"format": "pt", "mammo_d2": __version__})
    return target.stat().st_size


def _in_half(weights: Mapping[str, Tensor], run: Path) -> dict[str, Tensor]:
    halved = {}
    for name, value in weights.items():
        tensor = torch.as_tensor(value)
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor = tensor.half()
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{run}: {name} has values that float16 cannot hold (above 65504)")
        halved[name] = tensor
    return halved
