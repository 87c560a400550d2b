locals {
  region = regex("^[a-z]+-[a-z]+[0-9]+", var.location)

  # A CIDR within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16; variables.tf uses it.
  private_range = "^(10\\..+/([89]|[12][0-9]|3[0-2])|172\\.(1[6-9]|2[0-9]|3[01])\\..+/(1[2-9]|2[0-9]|3[0-2])|192\\.168\\..+/(1[6-9]|2[0-9]|3[0-2]))$"
}

resource "google_compute_network" "this" {
  name                    = var.cluster_name
  auto_create_subnetworks = false

  depends_on = [google_project_service.apis]
}

resource "google_compute_subnetwork" "nodes" {
  #checkov:skip=CKV_GCP_26:Flow logs are billed by the GB and say nothing about a request that the server's log does not.
  name          = "${var.cluster_name}-nodes"
  network       = google_compute_network.this.id
  region        = local.region
  ip_cidr_range = var.ip_ranges.nodes

  # Nodes have no public address: with this they reach Cloud Storage and Artifact Registry without Cloud NAT.
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

# For registries other than Google's: the images of KServe, cert-manager and Knative.
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
