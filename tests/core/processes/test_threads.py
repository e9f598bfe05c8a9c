"""Defaults of threads: quotas of containers, what a user has set."""

import pytest

from mammo_d2.core.processes import threads
from mammo_d2.core.processes.threads import quota_of_this_process, set_thread_defaults, usable_cores


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores_of_this_process", lambda: 8)


@pytest.mark.parametrize(
    ("text", "quota", "cores"),
    [("max 100000\n", None, 8), ("150000 100000\n", 1.5, 2), ("1600000 100000\n", 16, 8), ("20000 100000", 0.2, 1),
     ("nonsense", None, 8), ("0 0", None, 8)],
)  # fmt: skip
@pytest.mark.usefixtures("eight_cores")
def test_quota_of_a_container(tmp_path, text, quota, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert quota_of_this_process(tmp_path) == quota
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_quota_of_cgroup_version_1(tmp_path):
    assert quota_of_this_process(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 8
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    assert usable_cores(tmp_path) == 3


@pytest.mark.usefixtures("eight_cores")
def test_only_what_is_unset_is_set(tmp_path):
    environment: dict[str, str] = {}
    set_thread_defaults(environment, tmp_path)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}  # OpenMP finds the eight cores
    (tmp_path / "cpu.max").write_text("200000 100000")
    set_thread_defaults(environment, tmp_path)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    for given in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "100"}, {"KMP_BLOCKTIME": "1"}):
        environment = {**given, "OMP_NUM_THREADS": "7"}
        set_thread_defaults(environment, tmp_path)
        assert environment == {**given, "OMP_NUM_THREADS": "7"}
