"""Errors of the load tests.

LoadTestError
├── WorkloadError    the workload file is wrong; names the file and the path of the field
├── BudgetError      the budget file is wrong; names the file and the path of the key
├── TargetError      the service does not answer, or refuses the workload
│   └── UrlError     the URL names no service that could
├── EngineError      a load generator's own process failed or hung
├── ServerError      a server that was to be measured did not start
├── ComparisonError  two reports cannot be compared; names the difference
└── DisagreementError    two servers that were to be compared give different probabilities
"""

from __future__ import annotations


class LoadTestError(Exception):
    """Base of everything this package raises on purpose."""


class WorkloadError(LoadTestError):
    """The workload file does not describe a workload."""


class BudgetError(LoadTestError):
    """The budget file does not describe budgets."""


class TargetError(LoadTestError):
    """The service under test cannot be reached at this URL, or refuses the workload's requests."""


class UrlError(TargetError):
    """The URL is none of a service; nothing was asked."""


class EngineError(LoadTestError):
    """A load generator failed, hung, or wrote no result."""


class ServerError(LoadTestError):
    """A server of the suite did not start; the text ends with its last words."""


class ComparisonError(LoadTestError):
    """Two reports cannot be compared, or there is nothing in them to compare."""


class DisagreementError(LoadTestError):
    """A server answers other probabilities than the one it is compared with, or too seldom all it was asked for: its
    speed means nothing."""
