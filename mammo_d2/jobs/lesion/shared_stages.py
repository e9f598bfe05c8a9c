"""What runs of the lesion classifier share that differ in the aggregation network alone."""

from collections.abc import Sequence
from pathlib import Path

from mammo_d2.engine.run_files.run_record import fingerprint
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.job import SharedRun
from mammo_d2.jobs.lesion.lesion_stages import without_aggregation
from mammo_d2.modeling.functional.lesion_maps import MAP_KINDS

# Keys of MODEL.LESION for folders whose content is found by what it was made from.
_FOLDERS = {"STORE": "patch_store", "CACHE": "cache"}


def shared_folders(cfg: CfgNode, folder: Path) -> list[str]:
    """KEY VALUE overrides for the stores of images, saliency and embeddings in ``folder``, unless they have a place."""
    missing = {f"MODEL.LESION.{key}": folder / name for key, name in _FOLDERS.items() if not cfg.MODEL.LESION[key]}
    return [word for key, path in missing.items() for word in (key, str(path))]


def shared_runs(configs: Sequence[CfgNode], output: Path) -> list[SharedRun]:
    """Runs that make saliency, patch network and embeddings, each for all runs with the same ones.

    They go to ``output/shared_<fingerprint of config and data>``.
    """
    users: dict[Path, list[int]] = {}
    for position, cfg in enumerate(configs):
        users.setdefault(output / f"shared_{fingerprint(without_aggregation(cfg))}", []).append(position)
    found = []
    for folder, positions in users.items():
        maps = {kind for position in positions for kind in configs[position].MODEL.LESION.MAPS}
        kinds = [kind for kind in MAP_KINDS if kind in maps]
        title = f"the patch network in {folder.name}"
        found.append(SharedRun(folder, title, tuple(positions), ("MODEL.LESION.MAPS", repr(kinds))))
    return found
