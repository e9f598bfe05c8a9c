"""A small phantom set shared by the tests of this folder."""

import pytest

from mammo_d2.phantom import PhantomConfig, PhantomView, generate_patient


@pytest.fixture(scope="session")
def config() -> PhantomConfig:
    """Twenty patients of every class at a quarter of the usual size."""
    return PhantomConfig(
        n_patients=20, seed=3, rows=320, cols=256, share_malignant=0.3, share_benign=0.2, share_both=0.1,
        share_calcification_malignant=0.1, share_calcification_benign=0.1, distractor_rate=0.9,
    )  # fmt: skip


@pytest.fixture(scope="session")
def patients(config: PhantomConfig) -> list[list[PhantomView]]:
    """All views of the set, by patient."""
    return [generate_patient(config, index) for index in range(config.n_patients)]
