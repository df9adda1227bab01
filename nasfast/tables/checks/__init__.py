"""What to know of a table before anything is trained on it, as findings."""

from nasfast.tables.checks.finding import Finding, Severity
from nasfast.tables.checks.run import ROLES, CheckResult, check_table

__all__ = ["ROLES", "CheckResult", "Finding", "Severity", "check_table"]
