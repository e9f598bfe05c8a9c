"""What several runs of an experiment share is made once, before them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mammo_d2.config.loading import load_config
from mammo_d2.experiments.processes import run_all, run_job
from mammo_d2.jobs.job import Job, SharedRun, build_job


def make_shared(config_file: str, runs: Sequence[list[str]], output: Path, jobs: int = 1) -> list[list[str]]:
    """Make what several runs share, where their job says that they share something; what is there already is kept.

    Args:
        config_file: the config that the runs start from.
        runs: KEY VALUE overrides of each, with its seed.
        output: folder of the experiment.
        jobs: how many to make at the same time.

    Returns:
        The overrides of each run, completed by those with which it uses the shared part.

    Raises:
        ChildProcessError: a shared run failed; its log is named.
    """
    found = [build_job(load_config(config_file, overrides)) for overrides in runs]
    complete = [[*overrides, *job.shared_folders(output)] for overrides, job in zip(runs, found, strict=True)]
    shared = list(_shared_runs(found, output))

    def make(part: SharedRun) -> None:
        settings = [*complete[part.users[0]], *part.overrides]
        run_job(part.folder, part.title, config_file, settings, jobs, "--resume", "--shared-only")

    run_all(make, shared, jobs)
    for part in shared:
        for user in part.users:
            complete[user] += found[user].overrides_of_shared(part.folder)
    return complete


def _shared_runs(found: Sequence[Job], output: Path) -> Iterator[SharedRun]:
    """The shared runs of all jobs; ``users`` are positions in ``found``."""
    kinds: dict[type[Job], None] = dict.fromkeys(type(job) for job in found)
    for kind in kinds:
        positions = [position for position, job in enumerate(found) if type(job) is kind]
        for part in kind.shared_runs([found[position].cfg for position in positions], output):
            yield replace(part, users=tuple(positions[user] for user in part.users))
