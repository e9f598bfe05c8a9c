"""Ablations of the lesion classifier: what combinations of maps share is made once."""

from collections.abc import Sequence
from pathlib import Path

from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_folder import result_weights
from mammo_d2.engine.run_record import fingerprint
from mammo_d2.experiments.processes import run_all, run_job
from mammo_d2.jobs.lesion.lesion_stages import without_aggregation
from mammo_d2.modeling.functional.lesion_maps import MAP_KINDS


def prepare_shared(config_file: str, runs: Sequence[list[str]], output: Path, jobs: int = 1) -> list[list[str]]:
    """Make saliency, patch network and embeddings once for all runs that differ in the aggregation network alone.

    They go to ``output/shared_<fingerprint of config and data>``; what is there already is kept.

    Args:
        config_file: the config that the runs start from.
        runs: KEY VALUE overrides of each, with its seed.
        output: folder of the ablation.
        jobs: how many to make at the same time.

    Returns:
        The overrides of each run, completed by the folders and the patch network's weights.

    Raises:
        ChildProcessError: a job failed; its log is named.
    """
    folders = {"STORE": output / "patch_store", "CACHE": output / "cache"}
    shared: dict[Path, list[str]] = {}
    maps: dict[Path, set[str]] = {}
    complete = []
    for overrides in runs:
        cfg = load_config(config_file, overrides)
        missing = {f"MODEL.LESION.{key}": str(path) for key, path in folders.items() if not cfg.MODEL.LESION[key]}
        common = [item for pair in missing.items() for item in pair]
        folder = output / f"shared_{fingerprint(without_aggregation(cfg))}"
        shared.setdefault(folder, overrides + common)
        maps.setdefault(folder, set()).update(cfg.MODEL.LESION.MAPS)
        complete.append((overrides + common, None if cfg.MODEL.LESION.PATCH_WEIGHTS else folder))

    def make(folder: Path) -> None:
        kinds = [kind for kind in MAP_KINDS if kind in maps[folder]]
        settings = [*shared[folder], "MODEL.LESION.MAPS", repr(kinds)]
        run_job(folder, f"the patch network in {folder.name}", config_file, settings, jobs, "--resume", "--shared-only")

    run_all(make, list(shared), jobs)
    return [
        overrides
        if folder is None
        else [*overrides, "MODEL.LESION.PATCH_WEIGHTS", str(result_weights(folder / "patch"))]
        for overrides, folder in complete
    ]
