"""Prints the tables at the end of every run, also where output is captured."""

import pytest

from tests.bench.measure import TABLES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TABLES:
        terminalreporter.section("measured")
        for table in TABLES.values():
            terminalreporter.write_line(f"{table}\n")
