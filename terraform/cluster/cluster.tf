# By default the control plane has no IP address (ip_endpoints_config below), so there is no network to authorise; if
# networks are named, only they are.
#trivy:ignore:GCP-0061
resource "google_container_cluster" "this" {
  #checkov:skip=CKV_GCP_12:Dataplane V2 (datapath_provider) enforces NetworkPolicy; this looks for Calico.
  #checkov:skip=CKV_GCP_61:Flow logs are explained in network.tf; this adds only the traffic between pods of one node.
  #checkov:skip=CKV_GCP_65:IAM decides who may do what in the cluster; a Google Group needs an organisation.
  #checkov:skip=CKV_GCP_66:KServe, cert-manager and Knative publish no attestations for Binary Authorization to ask for.
  name     = var.cluster_name
  location = var.location

  deletion_protection = var.deletion_protection

  # The pools are separate resources, in node_pools.tf: GKE's first pool could not be changed without a new cluster.
  remove_default_node_pool = true
  initial_node_count       = 1

  # For that first pool, which lives for minutes. Otherwise it would run as Compute Engine's default service account, which
  # does not exist in many organisations, and may do anything in the others.
  node_config {
    machine_type    = "e2-medium"
    disk_type       = "pd-standard" # the default is 100 GB in each zone, out of the SSD quota
    disk_size_gb    = 20
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  # --- Network --------------------------------------------------------------------------------------------------------

  network           = google_compute_network.this.id
  subnetwork        = google_compute_subnetwork.nodes.id
  networking_mode   = "VPC_NATIVE"
  datapath_provider = "ADVANCED_DATAPATH" # enforces NetworkPolicy, which kserve/components/network-policy relies on

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  # The control plane is reached by Private Service Connect, which needs no range of its own (master_ipv4_cidr_block).
  # It calls webhooks from within the cluster, so they need no firewall rule.
  private_cluster_config {
    enable_private_nodes = true
  }

  # Anybody with container.clusters.connect may use the DNS endpoint, from anywhere: IAM decides before the API server
  # does. The control plane has IP addresses only for the networks that are named.
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = var.dns_endpoint
    }

    ip_endpoints_config {
      enabled = length(var.authorized_networks) > 0
    }
  }

  dynamic "master_authorized_networks_config" {
    for_each = length(var.authorized_networks) > 0 ? [var.authorized_networks] : []
    iterator = networks
    content {
      gcp_public_cidrs_access_enabled = false # these are everybody's virtual machines, not ours

      dynamic "cidr_blocks" {
        for_each = networks.value
        content {
          display_name = cidr_blocks.key
          cidr_block   = cidr_blocks.value
        }
      }
    }
  }

  # The CRDs and controller that kserve/components/public-gateway needs.
  gateway_api_config {
    channel = "CHANNEL_STANDARD"
  }

  # --- Who may do what ------------------------------------------------------------------------------------------------

  workload_identity_config {
    workload_pool = "${var.project_id}.svc.id.goog"
  }

  enable_legacy_abac    = false
  enable_shielded_nodes = true

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  # Only the API server's health checks may be called anonymously.
  anonymous_authentication_config {
    mode = "LIMITED"
  }

  # --- Upkeep ---------------------------------------------------------------------------------------------------------

  release_channel {
    channel = var.release_channel
  }

  # Six hours on Saturdays and Sundays: GKE requires at least 48 in any 32 days.
  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T01:00:00Z"
      end_time   = "2026-01-03T07:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }

    dynamic "maintenance_exclusion" {
      for_each = var.maintenance_exclusions
      content {
        exclusion_name = maintenance_exclusion.key
        start_time     = maintenance_exclusion.value.start
        end_time       = maintenance_exclusion.value.end

        exclusion_options {
          scope = maintenance_exclusion.value.scope
        }
      }
    }
  }

  cost_management_config {
    enabled = true
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS"]
  }

  # What kserve/components/monitoring-google needs.
  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]

    managed_prometheus {
      enabled = true
    }
  }

  resource_labels = var.labels

  lifecycle {
    # They belong to the first pool, which is gone.
    ignore_changes = [node_config, initial_node_count]

    precondition {
      condition     = var.dns_endpoint || length(var.authorized_networks) > 0
      error_message = "Nobody could reach the control plane: set dns_endpoint = true, or name authorized_networks."
    }
  }

  depends_on = [google_project_iam_member.nodes]
}
