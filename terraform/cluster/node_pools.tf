# docs/nodes.md says what the roles are for, and what happens when a spot node is taken away or none is available.
locals {
  role = "torchserve-alexnet/role" # a label of all nodes, and a taint of serving nodes

  # Seconds from the notice to a spot node's end, and how many of them are reserved for GKE's own pods. 120 is GKE's maximum;
  # its defaults are 30 and 15: https://docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms
  shutdown = { whole = 120, critical = 15, since_minor = 35 }
}

resource "google_container_node_pool" "this" {
  for_each = var.node_pools

  name           = each.key
  cluster        = google_container_cluster.this.id
  location       = var.location
  node_locations = each.value.zones # null: the cluster's

  # Counts for the whole pool, however many zones it has.
  autoscaling {
    total_min_node_count = each.value.min_nodes
    total_max_node_count = each.value.max_nodes
    # Spot nodes come from any zone that has capacity.
    location_policy = each.value.spot ? "ANY" : "BALANCED"
  }

  initial_node_count = min(each.value.min_nodes, 1)

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  # A new node is ready before an old one goes.
  upgrade_settings {
    strategy        = "SURGE"
    max_surge       = 1
    max_unavailable = 0
  }

  node_config {
    machine_type    = each.value.machine_type
    spot            = each.value.spot
    image_type      = "COS_CONTAINERD"
    disk_size_gb    = each.value.disk_gb
    disk_type       = "pd-balanced" # c3 and g2 take no pd-standard
    service_account = google_service_account.nodes.email
    labels          = { pool = each.key, (local.role) = each.value.role }
    resource_labels = var.labels

    # The service account's roles limit it, not scopes.
    oauth_scopes = ["https://www.googleapis.com/auth/cloud-platform"]

    metadata = {
      disable-legacy-endpoints = "true"
    }

    # Worth it where an image is large and not all of it is read: registry.tf. Without the block a pool keeps its setting.
    gcfs_config {
      enabled = contains(local.streaming_pools, each.key)
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    # Pods get their own credentials, never the node's.
    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    kubelet_config {
      insecure_kubelet_readonly_port_enabled = "FALSE"

      shutdown_grace_period_seconds               = each.value.spot && each.value.long_shutdown ? local.shutdown.whole : null
      shutdown_grace_period_critical_pods_seconds = each.value.spot && each.value.long_shutdown ? local.shutdown.critical : null
    }

    dynamic "guest_accelerator" {
      for_each = each.value.gpu == null ? [] : [each.value.gpu]
      content {
        type  = guest_accelerator.value.type
        count = guest_accelerator.value.count

        gpu_driver_installation_config {
          gpu_driver_version = guest_accelerator.value.driver
        }
      }
    }

    # Keeps away everything but replicas of the service (kserve/base tolerates this), so that an empty node can be removed.
    dynamic "taint" {
      for_each = each.value.role == "serving" ? [local.role] : []
      content {
        key    = taint.value
        value  = "serving"
        effect = "NO_SCHEDULE"
      }
    }

    # Only pods that request a GPU go there (kserve/components/gpu tolerates this).
    dynamic "taint" {
      for_each = each.value.gpu == null ? [] : [each.value.gpu]
      content {
        key    = "nvidia.com/gpu"
        value  = "present"
        effect = "NO_SCHEDULE"
      }
    }
  }

  lifecycle {
    # The autoscaler takes over after a minute; a change would recreate the pool.
    ignore_changes = [initial_node_count]

    precondition {
      condition = length(setsubtract(local.pool_zones[each.key], local.zones_with[each.key])) == 0 || (
        length(data.google_compute_zones.region.names) == 0 # which only a mock returns
      )
      error_message = join("", [
        "node_pools.${each.key}: ${join(", ", setsubtract(local.pool_zones[each.key], local.zones_with[each.key]))} has no ",
        "${each.value.machine_type}. ", length(local.zones_with[each.key]) == 0 ?
        "No zone of ${local.region} has it: choose another machine_type, or another location." :
        "In ${local.region} these have it: ${join(", ", local.zones_with[each.key])}. Set location, or the pool's zones.",
      ])
    }

    precondition {
      condition = !contains(local.architectures[each.key], "ARM64")
      error_message = join("", [
        "node_pools.${each.key}: ${each.value.machine_type} is an arm64 machine, and the serving image is built and tested only ",
        "for x86-64: choose an x86-64 machine_type, such as c3-standard-4.",
      ])
    }

    # At a first apply the version is known only once the cluster exists.
    precondition {
      condition = !(each.value.spot && each.value.long_shutdown) || try(
        regex("^1\\.([0-9]+)\\.", google_container_cluster.this.master_version)[0] >= local.shutdown.since_minor, true
      )
      error_message = join("", [
        "node_pools.${each.key}: GKE lengthens the shutdown of spot nodes from 1.${local.shutdown.since_minor} on, and the cluster has ",
        "${google_container_cluster.this.master_version}: upgrade it, or set long_shutdown = false and add ",
        "kserve/components/short-shutdown to the overlay (docs/nodes.md).",
      ])
    }
  }

  depends_on = [google_project_service.image_streaming, google_project_iam_member.image_streaming]
}
