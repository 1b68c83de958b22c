"""A pruned run with its report, shared by the tests of reports; they leave its trainings as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.reports_for_tests import hostile_run

from e2vpt.insight.reports.writing import write_html_report


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = hostile_run(tmp_path_factory.mktemp("reports"))
    write_html_report(folder)
    return folder
