"""The pure functions of viewer.js, in a browser."""

from pathlib import Path

from tests.report.viewer.browser import needs_browser
from tests.report.viewer.scenes import make_dataset, write_page


@needs_browser
def test_functions(tmp_path, browser):
    browser.open(write_page(tmp_path, make_dataset(tmp_path)))
    result = browser.run(Path(__file__).with_name("viewer_tests.js").read_text(encoding="utf-8"))
    assert result["failures"] == []
    assert result["count"] > 50
