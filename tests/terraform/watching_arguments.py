"""What hashicorp/google requires of each argument in terraform/cluster/monitoring.tf: see google_arguments.py."""

from __future__ import annotations

import json

from tests.terraform.validators import ANY, Check, Kind, one_of


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


# validation.StringIsJSON
JSON = Check("JSON", _is_json)

# services/billingbudgets/resource_billing_budget.go: of the blocks, one of these is set
FILTERS = tuple(
    f"budget_filter.{name}"
    for name in (
        "calendar_period",
        "credit_types_treatment",
        "custom_period",
        "labels",
        "projects",
        "resource_ancestors",
        "services",
        "subaccounts",
    )
)
RECIPIENTS = ("all_updates_rule.monitoring_notification_channels", "all_updates_rule.pubsub_topic")
AMOUNTS = ("amount.last_period_amount", "amount.specified_amount")
QUERY = "conditions.condition_prometheus_query_language"

WATCHING: dict[str, Kind] = {
    "google_billing_budget": Kind(
        "services/billingbudgets/resource_billing_budget.go",
        {
            "all_updates_rule": ANY.but(at_least_one_of=RECIPIENTS),
            "all_updates_rule.monitoring_notification_channels": Check(
                "five channels at most", lambda value: len(value) <= 5
            ),
            "amount": ANY.but(exactly_one_of=AMOUNTS),
            "amount.specified_amount": ANY,
            "amount.specified_amount.currency_code": ANY,
            "amount.specified_amount.units": ANY,
            "billing_account": ANY,
            "budget_filter": ANY.but(at_least_one_of=FILTERS),
            "budget_filter.calendar_period": one_of("MONTH", "QUARTER", "YEAR", "CALENDAR_PERIOD_UNSPECIFIED", ""),
            "budget_filter.projects": ANY,
            "display_name": ANY,
            "threshold_rules": ANY,
            "threshold_rules.spend_basis": one_of("CURRENT_SPEND", "FORECASTED_SPEND", ""),
            "threshold_rules.threshold_percent": ANY,
        },
    ),
    "google_monitoring_alert_policy": Kind(
        "services/monitoring/resource_monitoring_alert_policy.go",
        {
            "alert_strategy": ANY,
            "alert_strategy.auto_close": ANY,
            "combiner": one_of("AND", "OR", "AND_WITH_MATCHING_RESOURCE"),
            "conditions": ANY,
            "conditions.display_name": ANY,
            QUERY: ANY,
            f"{QUERY}.disable_metric_validation": ANY,
            f"{QUERY}.duration": ANY,
            f"{QUERY}.evaluation_interval": ANY,
            f"{QUERY}.query": ANY,
            "display_name": ANY,
            "documentation": ANY,
            "documentation.content": ANY,
            "documentation.mime_type": ANY,
            "notification_channels": ANY,
            "severity": one_of("CRITICAL", "ERROR", "WARNING", ""),
            "user_labels": ANY,
        },
    ),
    "google_monitoring_dashboard": Kind(
        "services/monitoring/resource_monitoring_dashboard.go", {"dashboard_json": JSON}
    ),
    "google_monitoring_notification_channel": Kind(
        "services/monitoring/resource_monitoring_notification_channel.go",
        {"display_name": ANY, "labels": ANY, "type": ANY, "user_labels": ANY},
    ),
}
