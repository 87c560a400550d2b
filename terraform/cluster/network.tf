locals {
  region = regex("^[a-z]+-[a-z]+[0-9]+", var.location)
}

resource "google_compute_network" "this" {
  name                    = var.cluster_name
  auto_create_subnetworks = false

  depends_on = [google_project_service.apis]
}

resource "google_compute_subnetwork" "nodes" {
  name          = "${var.cluster_name}-nodes"
  network       = google_compute_network.this.id
  region        = local.region
  ip_cidr_range = var.ip_ranges.nodes

  # Nodes have no public address: this is how they reach Cloud Storage and Artifact Registry without Cloud NAT.
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = var.ip_ranges.pods
  }

  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = var.ip_ranges.services
  }
}

resource "google_compute_router" "this" {
  name    = var.cluster_name
  network = google_compute_network.this.id
  region  = local.region
}

# For what is not Google's: the images of KServe, cert-manager and Knative.
resource "google_compute_router_nat" "this" {
  name                               = var.cluster_name
  router                             = google_compute_router.this.name
  region                             = local.region
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.nodes.id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

# GKE lets the control plane reach nodes on 443 and 10250 alone. The webhooks of KServe (9443) and Knative (8443) listen
# elsewhere; without this rule a control plane that calls them by their pods' addresses would wait until it gives up.
resource "google_compute_firewall" "webhooks" {
  name                    = "${var.cluster_name}-webhooks"
  network                 = google_compute_network.this.name
  direction               = "INGRESS"
  source_ranges           = [var.ip_ranges.control_plane]
  target_service_accounts = [google_service_account.nodes.email]

  allow {
    protocol = "tcp"
    ports    = ["8443", "9443"]
  }
}
