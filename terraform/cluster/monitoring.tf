# Who is alerted when a service fails, and a dashboard. The metrics come from the servers themselves, through
# kserve/components/monitoring-google; a test compares every name here with a running server. docs/watching.md.
locals {
  watched = var.monitoring != null

  monitoring_apis = concat(local.watched ? ["monitoring.googleapis.com"] : [], var.budget == null ? [] : ["billingbudgets.googleapis.com"])

  # The collector adds these, and `job`: the PodMonitoring, which is named after its service.
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
      says     = "More than ${var.monitoring.error_share * 100} % of the calls in the last five minutes were answered 5xx. 503 means overload: add replicas. 500 and 502 are defects: the pods' logs have the reason."
    }
    latency = {
      title    = "predictions are slow"
      query    = "${local.slowest} > ${var.monitoring.latency_s}"
      severity = "WARNING"
      duration = "600s"
      says     = "One prediction in a hundred takes longer than ${var.monitoring.latency_s} s. The dashboard shows whether it waits (queue) or computes (forward)."
    }
    absent = {
      title = "no replica has loaded its model"
      # A worker reports its load time as soon as it has the model; absent() keeps the labels of its query.
      query    = join(" or ", [for service in coalesce(var.monitoring.services, var.services) : "absent(WorkerLoadTime{${local.ours}, job=\"${service}\"})"])
      severity = "CRITICAL"
      duration = "300s"
      says     = "For five minutes no pod of the service has reported a loaded model: see kubectl get pods, and their events."
    }
    workers = {
      title    = "workers are replaced"
      query    = "${local.reloaded} >= 3"
      severity = "WARNING"
      duration = "0s"
      says     = "Three or more workers were restarted within a quarter of an hour: they ran out of memory, or did not answer within responseTimeout. Their requests are lost."
    }
  }

  panels = [
    { title = "Calls a second, by status", unit = "1/s", query = "sum by (job, status) (rate(door_requests_total{${local.asked}}[5m]))" },
    { title = "Share of 5xx", unit = "1", query = local.errors },
    { title = "99 of 100 predictions take less than", unit = "s", query = local.slowest },
    { title = "Half of the predictions take less than", unit = "s", query = replace(local.slowest, "0.99", "0.5") },
    { title = "Average time of each stage: waiting, decoding, the network", unit = "s", query = "sum by (job, stage) (rate(door_stage_seconds_sum{${local.ours}}[5m])) / sum by (job, stage) (rate(door_stage_seconds_count{${local.ours}}[5m]))" },
    { title = "Average requests in a batch", unit = "1", query = "sum by (job) (rate(door_batch_size_sum{${local.ours}}[5m])) / sum by (job) (rate(door_batch_size_count{${local.ours}}[5m]))" },
    { title = "Calls in TorchServe", unit = "1", query = "sum by (job) (envoy_cluster_upstream_rq_active{${local.ours}, envoy_cluster_name=\"torchserve\"})" },
    { title = "Calls waiting in the door", unit = "1", query = "sum by (job) (envoy_cluster_upstream_rq_pending_active{${local.ours}, envoy_cluster_name=\"torchserve\"})" },
    { title = "Pods that have loaded the model", unit = "1", query = "count by (job) (count by (job, pod) (WorkerLoadTime{${local.ours}}))" },
    { title = "Workers restarted in a quarter of an hour", unit = "1", query = local.reloaded },
  ]

  # A budget's mails go there too: it accepts no other kind of channel.
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
      # Before the first service runs, the metric does not exist, and the API would refuse the policy.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.says
  }

  alert_strategy {
    auto_close = "1800s" # the minimum; for metrics that stop
  }

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_dashboard" "this" {
  count = local.watched ? 1 : 0

  dashboard_json = jsonencode({
    displayName = "${var.cluster_name}: services"
    gridLayout = {
      columns = "2" # a string, as the API returns it
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

  # The billing account's administrators get mails with or without it.
  dynamic "all_updates_rule" {
    for_each = length(local.channels_by_mail) > 0 ? [local.channels_by_mail] : []
    content {
      monitoring_notification_channels = all_updates_rule.value
    }
  }

  depends_on = [google_project_service.apis]
}
