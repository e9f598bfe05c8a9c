"""The study on disk, and its loaded parts."""

import pytest

from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.statistics.scored_cases import CaseRule, load_system, resampling_of
from tests.evaluation.statistics.study_files import write_study_files


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory):
    return write_study_files(tmp_path_factory.mktemp("stats"))


@pytest.fixture(scope="session")
def truth(study_folder):
    return load_ground_truth(study_folder / "gt.json")


@pytest.fixture(scope="session")
def systems(study_folder, truth):
    return tuple(load_system(truth, name, CaseRule(), results=study_folder / f"{name}.json") for name in ("old", "new"))


@pytest.fixture(scope="session")
def resampling(truth):
    return resampling_of(truth, CaseRule(), BootstrapPlan(40))
