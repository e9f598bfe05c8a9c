"""The documents build as a site: every page is in it, every link and reference leads somewhere, no network is used."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("sphinx")

_LOADING = re.compile(r'<(?:script|img|iframe|link[^>]*rel="stylesheet")[^>]*>')
_ADDRESS = re.compile(r'(?:src|href)="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", "-b", "html", "-d"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MAMMO_D2_ENGINE": "embedded"}
    done = subprocess.run(
        [*command, str(folder / "doctrees"), ".", str(folder / "html")],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


@pytest.mark.slow
def test_it_builds_without_a_warning(site):
    assert "docs/index.html" in (site / "index.html").read_text(encoding="utf-8")
    for page in (
        "docs/tutorials/own_dicoms",
        "docs/methods/gmic",
        "datasets/README",
        "README",
        "docs/results",
        "docs/notebooks/own_results",
    ):
        assert (site / f"{page}.html").is_file()


@pytest.mark.slow
def test_the_reference_has_names_of_the_stable_api(site):
    text = (site / "docs/reference/api.html").read_text(encoding="utf-8")
    for name in ("mammo_d2.load_config", "mammo_d2.Predictor", "mammo_d2.evaluation.froc_curve"):
        assert f'id="{name}"' in text


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = [url for tag in _LOADING.findall(text) for url in _ADDRESS.findall(tag)]
        assert [url for url in loaded if "://" in url] == [], page.name
