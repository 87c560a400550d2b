# The API server's calls into the cluster: webhooks of KServe (9443), cert-manager (10250, as the kubelet), Knative (8443),
# and the metrics server (443). Off by default. This control plane (Private Service Connect) does not call from an address
# of its own: its calls come from GKE's agents, which are pods in kube-system, and GKE's own rules let pods reach pods. Where
# an organisation's policy denies everything that no rule allows, this is the rule.
resource "google_compute_firewall" "webhooks" {
  count = var.webhook_rule == null ? 0 : 1

  name        = "${var.cluster_name}-webhooks"
  network     = google_compute_network.this.id
  description = "Calls of the API server of ${var.cluster_name} to webhooks"
  direction   = "INGRESS"
  priority    = 900 # before those with 1000, the default

  source_ranges           = coalesce(var.webhook_rule.source_ranges, [var.ip_ranges.nodes, var.ip_ranges.pods])
  target_service_accounts = [google_service_account.nodes.email]

  allow {
    protocol = "tcp"
    ports    = ["443", "8443", "9443", "10250"]
  }
}
