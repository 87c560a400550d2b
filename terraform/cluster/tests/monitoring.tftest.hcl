mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = 123456789012
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "alexnet-nodes@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:alexnet-nodes@my-project.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_monitoring_notification_channel" {
    defaults = {
      name = "projects/my-project/notificationChannels/1"
    }
  }
}

variables {
  project_id = "my-project"
}

run "by_default_nobody_watches_and_nothing_is_excluded" {
  command = plan

  assert {
    condition = (
      length(google_monitoring_alert_policy.this) + length(google_monitoring_dashboard.this) +
      length(google_monitoring_notification_channel.mail) + length(google_billing_budget.this) == 0
    )
    error_message = "something watches that nobody asked for"
  }
  assert {
    condition     = length(google_container_cluster.this.maintenance_policy[0].maintenance_exclusion) == 0
    error_message = "upgrades are put off"
  }
  assert {
    condition     = !anytrue([for api in ["monitoring", "billingbudgets"] : contains(keys(google_project_service.apis), "${api}.googleapis.com")])
    error_message = "an API is on that nothing uses"
  }
}

run "a_dashboard_and_alerts_need_no_address" {
  command = plan
  variables {
    monitoring = {}
  }

  assert {
    condition = (
      toset(keys(google_monitoring_alert_policy.this)) == toset(["absent", "errors", "latency", "workers"]) &&
      alltrue([for policy in google_monitoring_alert_policy.this : length(policy.notification_channels) == 0])
    )
    error_message = "other alerts, or somebody gets mail"
  }
  assert {
    condition = alltrue([
      for policy in google_monitoring_alert_policy.this :
      policy.conditions[0].condition_prometheus_query_language[0].disable_metric_validation &&
      strcontains(policy.conditions[0].condition_prometheus_query_language[0].query, "cluster=\"alexnet\", namespace=\"alexnet\"") &&
      policy.user_labels == tomap({ application = "torchserve-alexnet" })
    ])
    error_message = "an alert needs metrics that are not there yet, looks at other clusters, or is not labelled"
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this[0].dashboard_json).gridLayout.widgets) == 10
    error_message = "other panels"
  }
  assert {
    condition     = contains(keys(google_project_service.apis), "monitoring.googleapis.com")
    error_message = "the API is missing"
  }
}

run "alerts_go_to_every_address_and_channel_and_look_for_each_service" {
  command = apply
  variables {
    services = ["alexnet", "alexnet-next", "pets"]
    monitoring = {
      emails      = ["ml@example.com"]
      channels    = ["projects/my-project/notificationChannels/2"]
      error_share = 0.01
      latency_s   = 1
      services    = ["alexnet", "pets"]
    }
  }

  assert {
    condition = alltrue([
      for policy in google_monitoring_alert_policy.this :
      policy.notification_channels == tolist(["projects/my-project/notificationChannels/1", "projects/my-project/notificationChannels/2"])
    ])
    error_message = "somebody gets no mail"
  }
  assert {
    condition     = google_monitoring_notification_channel.mail["ml@example.com"].labels == tomap({ email_address = "ml@example.com" })
    error_message = "another address"
  }
  assert {
    condition = (
      endswith(google_monitoring_alert_policy.this["errors"].conditions[0].condition_prometheus_query_language[0].query, " > 0.01") &&
      endswith(google_monitoring_alert_policy.this["latency"].conditions[0].condition_prometheus_query_language[0].query, " > 1")
    )
    error_message = "not the bounds that were given"
  }
  assert {
    condition = google_monitoring_alert_policy.this["absent"].conditions[0].condition_prometheus_query_language[0].query == join(" or ", [
      for service in ["alexnet", "pets"] : "absent(WorkerLoadTime{cluster=\"alexnet\", namespace=\"alexnet\", job=\"${service}\"})"
    ])
    error_message = "a service could be away, or a canary that is over is missed"
  }
}

run "a_budget_warns_before_it_is_spent" {
  command = apply
  variables {
    budget     = { billing_account = "012345-6789AB-CDEF01", amount = 500, currency = "EUR" }
    monitoring = { emails = ["ml@example.com"] }
  }

  assert {
    condition = (
      google_billing_budget.this[0].budget_filter[0].projects == toset(["projects/123456789012"]) &&
      google_billing_budget.this[0].amount[0].specified_amount[0].units == "500" &&
      google_billing_budget.this[0].amount[0].specified_amount[0].currency_code == "EUR" &&
      [for rule in google_billing_budget.this[0].threshold_rules : rule.threshold_percent] == [0.5, 0.9, 1, 1] &&
      google_billing_budget.this[0].threshold_rules[3].spend_basis == "FORECASTED_SPEND" &&
      google_billing_budget.this[0].all_updates_rule[0].monitoring_notification_channels == tolist(["projects/my-project/notificationChannels/1"])
    )
    error_message = "another budget"
  }
  assert {
    condition     = contains(keys(google_project_service.apis), "billingbudgets.googleapis.com")
    error_message = "the API is missing"
  }
}

run "a_budget_alone_notifies_the_billing_administrators" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 500 }
  }

  assert {
    condition     = length(google_billing_budget.this[0].all_updates_rule) == 0
    error_message = "somebody else gets mail"
  }
}

run "upgrades_wait_while_they_are_excluded" {
  command = plan
  variables {
    maintenance_exclusions = {
      sale = { start = "2027-11-19T00:00:00Z", end = "2027-12-01T00:00:00Z" }
      year = { start = "2026-12-20T00:00:00Z", end = "2027-01-10T00:00:00Z", scope = "NO_MINOR_OR_NODE_UPGRADES" }
    }
  }

  assert {
    condition = toset([
      for exclusion in google_container_cluster.this.maintenance_policy[0].maintenance_exclusion :
      join(" ", [exclusion.exclusion_name, exclusion.start_time, exclusion.end_time, exclusion.exclusion_options[0].scope])
      ]) == toset([
      "sale 2027-11-19T00:00:00Z 2027-12-01T00:00:00Z NO_UPGRADES",
      "year 2026-12-20T00:00:00Z 2027-01-10T00:00:00Z NO_MINOR_OR_NODE_UPGRADES",
    ])
    error_message = "other exclusions"
  }
}
