# The API server's calls into the cluster: webhooks of KServe (9443), cert-manager (10250, as the kubelet), Knative (8443),
# and the metrics server (443). Off by default. This control plane (Private Service Connect) has no address that its calls
# would come from: they come out of GKE's own agents, which are pods of kube-system, and the rules that GKE makes let pods
# reach pods. Where a policy of the organisation denies what no rule allows, this is the rule.
resource "google_compute_firewall" "webhooks" {
  count = var.webhook_rule == null ? 0 : 1

  name        = "${var.cluster_name}-webhooks"
  network     = google_compute_network.this.id
  description = "Calls of the API server of ${var.cluster_name} to webhooks"
  direction   = "INGRESS"
  priority    = 900 # before those of 1000, which is what a rule has that says nothing

  source_ranges           = coalesce(var.webhook_rule.source_ranges, [var.ip_ranges.nodes, var.ip_ranges.pods])
  target_service_accounts = [google_service_account.nodes.email]

  allow {
    protocol = "tcp"
    ports    = ["443", "8443", "9443", "10250"]
  }
}
