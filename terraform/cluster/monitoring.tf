# Who is told when a service fails, and where one looks then. What is counted comes from the servers themselves, by
# kserve/components/monitoring-google; a test holds every name here to a server that runs. docs/watching.md.
locals {
  watched = var.monitoring != null

  monitoring_apis = concat(local.watched ? ["monitoring.googleapis.com"] : [], var.budget == null ? [] : ["billingbudgets.googleapis.com"])

  # The collector adds these, and `job`: the PodMonitoring, which is called as its service.
  ours     = "cluster=\"${var.cluster_name}\", namespace=\"${var.namespace}\""
  asked    = "${local.ours}, protocol=~\"v1|v2|grpc|explain\""
  predicts = "${local.ours}, protocol=~\"v1|v2|grpc\", status=\"2xx\""

  errors   = "sum by (job) (rate(door_requests_total{${local.asked}, status=~\"5..\"}[5m])) / sum by (job) (rate(door_requests_total{${local.asked}}[5m]))"
  slowest  = "histogram_quantile(0.99, sum by (job, le) (rate(door_request_seconds_bucket{${local.predicts}}[5m])))"
  reloaded = "sum by (job) (changes(WorkerLoadTime{${local.ours}}[15m]))"

  alerts = !local.watched ? {} : {
    errors = {
      title    = "predictions fail"
      query    = "${local.errors} > ${var.monitoring.error_share}"
      severity = "CRITICAL"
      duration = "300s"
      says     = "More than ${var.monitoring.error_share * 100} % of the calls of the last five minutes were answered 5xx. 503 is an overload: more replicas. 500 and 502 are defects: the log of the pods says which."
    }
    latency = {
      title    = "predictions are slow"
      query    = "${local.slowest} > ${var.monitoring.latency_s}"
      severity = "WARNING"
      duration = "600s"
      says     = "One prediction of a hundred takes longer than ${var.monitoring.latency_s} s. The dashboard says whether it waits (queue) or computes (forward)."
    }
    absent = {
      title = "no replica has loaded its model"
      # A worker says how long it took as soon as it has its model; absent() keeps the label by which it asks.
      query    = join(" or ", [for service in coalesce(var.monitoring.services, var.services) : "absent(WorkerLoadTime{${local.ours}, job=\"${service}\"})"])
      severity = "CRITICAL"
      duration = "300s"
      says     = "For five minutes nothing was heard of any pod of the service whose model is loaded: kubectl get pods, and their events."
    }
    workers = {
      title    = "workers are replaced"
      query    = "${local.reloaded} >= 3"
      severity = "WARNING"
      duration = "0s"
      says     = "Three workers or more began anew within a quarter of an hour: they were killed for their memory, or silent for responseTimeout. What they were asked is lost."
    }
  }

  panels = [
    { title = "Calls a second, by status", unit = "1/s", query = "sum by (job, status) (rate(door_requests_total{${local.asked}}[5m]))" },
    { title = "Share of 5xx", unit = "1", query = local.errors },
    { title = "99 of 100 predictions take less than", unit = "s", query = local.slowest },
    { title = "Half of them take less than", unit = "s", query = replace(local.slowest, "0.99", "0.5") },
    { title = "Of that, on average: waiting, decoding, the network", unit = "s", query = "sum by (job, stage) (rate(door_stage_seconds_sum{${local.ours}}[5m])) / sum by (job, stage) (rate(door_stage_seconds_count{${local.ours}}[5m]))" },
    { title = "Requests in a batch, on average", unit = "1", query = "sum by (job) (rate(door_batch_size_sum{${local.ours}}[5m])) / sum by (job) (rate(door_batch_size_count{${local.ours}}[5m]))" },
    { title = "Calls in TorchServe", unit = "1", query = "sum by (job) (envoy_cluster_upstream_rq_active{${local.ours}, envoy_cluster_name=\"torchserve\"})" },
    { title = "Calls that wait in the door", unit = "1", query = "sum by (job) (envoy_cluster_upstream_rq_pending_active{${local.ours}, envoy_cluster_name=\"torchserve\"})" },
    { title = "Pods that have loaded the model", unit = "1", query = "count by (job) (count by (job, pod) (WorkerLoadTime{${local.ours}}))" },
    { title = "Workers that began anew, in a quarter of an hour", unit = "1", query = local.reloaded },
  ]

  # Where a budget's mails go too: it takes no other kind of channel.
  channels_by_mail = [for channel in google_monitoring_notification_channel.mail : channel.name]
}

resource "google_monitoring_notification_channel" "mail" {
  for_each = local.watched ? var.monitoring.emails : toset([])

  type         = "email"
  display_name = each.key
  labels       = { email_address = each.key }
  user_labels  = var.labels

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  display_name          = "${var.cluster_name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = concat(local.channels_by_mail, local.watched ? tolist(var.monitoring.channels) : [])
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = each.value.duration
      evaluation_interval = "60s"
      # Before the first service runs there is no such metric, and the API would refuse the policy.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.says
  }

  alert_strategy {
    auto_close = "1800s" # the least that there is, for what stops being told
  }

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_dashboard" "this" {
  count = local.watched ? 1 : 0

  dashboard_json = jsonencode({
    displayName = "${var.cluster_name}: services"
    gridLayout = {
      columns = "2" # a text, as the API gives it back
      widgets = [
        for panel in local.panels : {
          title = panel.title
          xyChart = {
            dataSets = [{
              plotType        = "LINE"
              targetAxis      = "Y1"
              timeSeriesQuery = { prometheusQuery = panel.query, unitOverride = panel.unit }
            }]
          }
        }
      ]
    }
  })

  depends_on = [google_project_service.apis]
}

# --- What it costs ----------------------------------------------------------------------------------------------------

resource "google_billing_budget" "this" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "${var.project_id}: a month"

  budget_filter {
    projects        = ["projects/${data.google_project.this.number}"]
    calendar_period = "MONTH"
  }

  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = tostring(var.budget.amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1]
    content {
      threshold_percent = threshold_rules.value
    }
  }
  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  # Without it, those who administer the billing account are told: with it, they too.
  dynamic "all_updates_rule" {
    for_each = length(local.channels_by_mail) > 0 ? [local.channels_by_mail] : []
    content {
      monitoring_notification_channels = all_updates_rule.value
    }
  }

  depends_on = [google_project_service.apis]
}
