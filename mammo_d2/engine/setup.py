"""From command-line arguments to a checked, frozen configuration."""

import argparse
import contextlib
import difflib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import torch

from mammo_d2.config import add_mammo_config
from mammo_d2.data.catalog import category_names, register_datasets
from mammo_d2.data.schema import check_splits
from mammo_d2.engine.preparation import record_preparation
from mammo_d2.framework import CfgNode, DatasetCatalog, MetadataCatalog, comm, default_setup, get_cfg


class ConfigError(ValueError):
    """A configuration file or override that does not fit the known keys."""


def load_config(config_file: str = "", overrides: list[str] | None = None) -> CfgNode:
    """Default keys, then the YAML file, then ``KEY VALUE`` overrides; the number of classes follows the categories.

    Args:
        config_file: a YAML file, may have ``_BASE_``; empty for the defaults.
        overrides: alternating keys and values.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: a key that does not exist (with the nearest existing ones), a value of the wrong type.
    """
    cfg = get_cfg()
    add_mammo_config(cfg)
    if config_file:
        if not Path(config_file).is_file():
            raise FileNotFoundError(f"config file {config_file} does not exist")
        with _explained(cfg, config_file):
            cfg.merge_from_file(config_file, allow_unsafe=False)
    if overrides:
        with _explained(cfg, "the command line"):
            cfg.merge_from_list(list(overrides))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(category_names(cfg))
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """Load the config, decide seed and device, register the data sets, set up logging and the output folder.

    How the training images were prepared goes to ``OUTPUT_DIR/preparation.json``, for prediction.

    A negative SEED becomes a fresh one, recorded in ``OUTPUT_DIR/config.yaml``; ``--resume`` takes it from there, so
    that the data order goes on where it was, and so does ``--eval-only``, which writes that file anew.
    """
    cfg = load_config(args.config_file, args.opts)
    use_available_device(cfg)
    if cfg.SEED < 0:
        cfg.SEED = _recorded_seed(cfg.OUTPUT_DIR) if args.resume or args.eval_only else -1
        if cfg.SEED < 0:
            cfg.SEED = comm.all_gather(secrets.randbelow(2**31))[0]
    cfg.freeze()
    default_setup(cfg, args)
    if cfg.SOLVER.DETERMINISTIC:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    register_datasets(cfg)
    if not cfg.DATASETS.ALLOW_SHARED_PATIENTS:
        check_patients_apart(cfg)
    if comm.is_main_process():
        record_preparation(cfg)
    return cfg


def check_patients_apart(cfg: CfgNode) -> None:
    """Look for patients and source images that are in a training and in a test set.

    A set that is named in both places is evaluated on purpose and left out, as are sets that are not registered (the
    loader names those).

    Raises:
        ValueError: there are such patients; the first ones, the files and the remedy.
    """
    registered = set(DatasetCatalog.list())
    names = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} & registered
    files = {name: MetadataCatalog.get(name).json_file for name in names}
    for train in cfg.DATASETS.TRAIN:
        for test in cfg.DATASETS.TEST:
            if train not in files or test not in files or files[train] == files[test]:
                continue
            leaks = check_splits([files[train], files[test]]).errors
            if leaks:
                first = "; ".join(str(leak) for leak in leaks[:3])
                raise ValueError(
                    f"{train} and {test} share patients or images ({len(leaks)} in all): {first}. "
                    "DATASETS.ALLOW_SHARED_PATIENTS True trains all the same"
                )


def use_available_device(cfg: CfgNode) -> None:
    """Fall back to the CPU where there is no GPU."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"


def _recorded_seed(output_dir: str) -> int:
    config = Path(output_dir) / "config.yaml"
    if not config.is_file():
        return -1
    return int(CfgNode.load_yaml_with_base(str(config), allow_unsafe=False).get("SEED", -1))


@contextlib.contextmanager
def _explained(cfg: CfgNode, where: str) -> Iterator[None]:
    """Turn the config library's exceptions into one that names the place, the key and the nearest existing keys."""
    try:
        yield
    except (KeyError, ValueError, AssertionError, AttributeError) as error:
        message = str(error.args[0]) if error.args else type(error).__name__
        unknown = re.search(r"Non-existent (?:config )?key: ([\w.]+)", message)
        if unknown is None:
            raise ConfigError(f"{where}: {message}") from error
        key = unknown.group(1)
        near = difflib.get_close_matches(key, list(_keys(cfg)), n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; mammo_d2/config.py lists the added keys"
        raise ConfigError(f"{where}: there is no config key {key}{hint}") from error


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
        yield f"{prefix}{name}"
