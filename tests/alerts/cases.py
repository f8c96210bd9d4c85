"""All cases."""

from tests.alerts import cases_budgets, cases_carbon, cases_hardware, cases_health

CASES = [*cases_health.CASES, *cases_hardware.CASES, *cases_carbon.CASES, *cases_budgets.CASES]
