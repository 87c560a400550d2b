mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = 123456789012
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      name   = "projects/my-project/serviceAccounts/alexnet-nodes@my-project.iam.gserviceaccount.com"
      email  = "alexnet-nodes@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:alexnet-nodes@my-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project_id = "my-project"
}

run "by_default_one_zone_with_a_system_pool_and_a_spot_pool" {
  command = plan

  assert {
    condition     = google_container_cluster.this.location == "europe-west4-b" && google_compute_subnetwork.nodes.region == "europe-west4"
    error_message = "not a zonal cluster in its region's subnet"
  }
  assert {
    condition     = toset(keys(google_container_node_pool.this)) == toset(["serving", "system"])
    error_message = "not the two pools"
  }
  assert {
    condition = (
      google_container_node_pool.this["serving"].node_config[0].spot &&
      google_container_node_pool.this["serving"].node_config[0].machine_type == "c3-standard-4" &&
      google_container_node_pool.this["serving"].autoscaling[0].total_min_node_count == 0 &&
      google_container_node_pool.this["serving"].autoscaling[0].total_max_node_count == 9 &&
      google_container_node_pool.this["serving"].initial_node_count == 0
    )
    error_message = "the serving pool is not spot, from zero, with AMX"
  }
  assert {
    condition = (
      !google_container_node_pool.this["system"].node_config[0].spot &&
      google_container_node_pool.this["system"].autoscaling[0].total_min_node_count == 1
    )
    error_message = "the system pool can be taken away"
  }
  assert {
    condition = alltrue([
      for pool in google_container_node_pool.this :
      pool.management[0].auto_repair && pool.management[0].auto_upgrade &&
      pool.upgrade_settings[0].max_surge == 1 && pool.upgrade_settings[0].max_unavailable == 0
    ])
    error_message = "a pool is not repaired or upgraded as it should be"
  }
  assert {
    condition     = alltrue([for pool in google_container_node_pool.this : length(pool.node_config[0].guest_accelerator) == 0])
    error_message = "a GPU that nobody asked for"
  }
}

run "what_is_not_a_replica_stays_on_the_system_pool" {
  command = plan

  assert {
    condition = alltrue([
      for role in ["system", "serving"] :
      google_container_node_pool.this[role].node_config[0].labels["torchserve-alexnet/role"] == role
    ])
    error_message = "the charts of terraform/kserve do not find the system pool"
  }
  assert {
    condition     = length(google_container_node_pool.this["system"].node_config[0].taint) == 0
    error_message = "GKE's own pods have nowhere to go"
  }
  assert {
    condition = (
      one(google_container_node_pool.this["serving"].node_config[0].taint).key == "torchserve-alexnet/role" &&
      one(google_container_node_pool.this["serving"].node_config[0].taint).value == "serving" &&
      one(google_container_node_pool.this["serving"].node_config[0].taint).effect == "NO_SCHEDULE"
    )
    error_message = "not the taint that kserve/base tolerates, and any pod keeps a serving node"
  }
}

run "a_spot_node_gives_its_pods_enough_time" {
  command = plan

  assert {
    condition = (
      google_container_node_pool.this["serving"].node_config[0].kubelet_config[0].shutdown_grace_period_seconds == 120 &&
      google_container_node_pool.this["serving"].node_config[0].kubelet_config[0].shutdown_grace_period_critical_pods_seconds == 15
    )
    error_message = "GKE's own: 15 s for pods"
  }
}

# Where the arguments are not given, they are computed, and so unknown in a plan.
run "a_long_shutdown_is_only_for_spot_pools" {
  command = apply
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      demand = { machine_type = "c3-standard-4", spot = false, max_nodes = 9 }
      older  = { machine_type = "c3-standard-4", max_nodes = 9, long_shutdown = false }
    }
  }

  assert {
    condition = alltrue([
      for pool in google_container_node_pool.this :
      pool.node_config[0].kubelet_config[0].shutdown_grace_period_seconds == 0 # a mock's value: not given
    ])
    error_message = "GKE refuses it on machines that are not spot, and before 1.35"
  }
}

run "a_version_that_lengthens_the_shutdown_is_accepted" {
  command = plan

  override_resource {
    target          = google_container_cluster.this
    override_during = plan
    values          = { master_version = "1.35.0-gke.1171000" }
  }
  assert {
    condition     = google_container_node_pool.this["serving"].node_config[0].kubelet_config[0].shutdown_grace_period_seconds == 120
    error_message = "GKE's own: 15 s for pods"
  }
}

run "by_default_nothing_is_open_and_nothing_is_deleted" {
  command = plan

  assert {
    condition     = google_container_cluster.this.deletion_protection
    error_message = "the cluster can be deleted"
  }
  assert {
    condition     = google_storage_bucket.models.deletion_policy == "PREVENT" && !google_storage_bucket.models.force_destroy
    error_message = "the bucket can be deleted"
  }
  assert {
    condition     = !google_container_cluster.this.control_plane_endpoints_config[0].ip_endpoints_config[0].enabled
    error_message = "the control plane has addresses"
  }
  assert {
    condition     = google_container_cluster.this.private_cluster_config[0].enable_private_nodes
    error_message = "nodes have public addresses"
  }
  assert {
    condition = alltrue([
      for pool in google_container_node_pool.this :
      pool.node_config[0].shielded_instance_config[0].enable_secure_boot &&
      pool.node_config[0].workload_metadata_config[0].mode == "GKE_METADATA" &&
      pool.node_config[0].kubelet_config[0].insecure_kubelet_readonly_port_enabled == "FALSE" &&
      pool.node_config[0].metadata["disable-legacy-endpoints"] == "true"
    ])
    error_message = "a pool is not shielded, or gives its credentials to pods"
  }
  assert {
    condition = (
      google_container_cluster.this.workload_identity_config[0].workload_pool == "my-project.svc.id.goog" &&
      google_container_cluster.this.enable_shielded_nodes && !google_container_cluster.this.enable_legacy_abac &&
      !google_container_cluster.this.master_auth[0].client_certificate_config[0].issue_client_certificate
    )
    error_message = "identities are not as they should be"
  }
}

run "the_cluster_is_what_the_overlays_need" {
  command = plan

  assert {
    condition     = google_container_cluster.this.remove_default_node_pool
    error_message = "GKE's first pool stays"
  }
  assert {
    condition     = google_container_cluster.this.datapath_provider == "ADVANCED_DATAPATH"
    error_message = "NetworkPolicy is not enforced"
  }
  assert {
    condition     = google_container_cluster.this.gateway_api_config[0].channel == "CHANNEL_STANDARD"
    error_message = "there is no Gateway API"
  }
  assert {
    condition     = google_container_cluster.this.monitoring_config[0].managed_prometheus[0].enabled
    error_message = "there is no PodMonitoring"
  }
  assert {
    condition     = google_container_cluster.this.cost_management_config[0].enabled && google_container_cluster.this.release_channel[0].channel == "REGULAR"
    error_message = "no cost allocation, or another release channel"
  }
}

run "the_bucket_keeps_what_was_published_and_little_else" {
  command = plan

  assert {
    condition = (
      google_storage_bucket.models.name == "my-project-models" && google_storage_bucket.models.location == "europe-west4" &&
      google_storage_bucket.models.uniform_bucket_level_access &&
      google_storage_bucket.models.public_access_prevention == "enforced" &&
      google_storage_bucket.models.versioning[0].enabled &&
      google_storage_bucket.models.soft_delete_policy[0].retention_duration_seconds == 604800
    )
    error_message = "the bucket is not private, versioned and soft-deleting"
  }
  assert {
    condition     = one(google_storage_bucket.models.lifecycle_rule[0].condition).days_since_noncurrent_time == 30
    error_message = "old versions are not deleted after 30 days"
  }
  assert {
    condition = (
      one(google_storage_bucket.models.lifecycle_rule[1].condition).age == 1 &&
      one(google_storage_bucket.models.lifecycle_rule[1].condition).matches_suffix == tolist([".part"])
    )
    error_message = "parts of uploads are not deleted after a day"
  }
  assert {
    condition     = alltrue([for rule in google_storage_bucket.models.lifecycle_rule : one(rule.action).type == "Delete"])
    error_message = "a rule that does not delete"
  }
}

run "the_server_reads_the_bucket_as_its_kubernetes_service_account" {
  # Applied, since identities are known only afterwards.
  command = apply
  variables {
    publisher = "group:ml@example.com"
    services  = ["alexnet", "pets"]
  }

  assert {
    condition = (
      alltrue([for member in google_storage_bucket_iam_member.server : member.role == "roles/storage.objectViewer"]) &&
      length(google_storage_bucket_iam_member.server) == 2 &&
      google_storage_bucket_iam_member.server["alexnet"].member == "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/alexnet/sa/alexnet" &&
      google_storage_bucket_iam_member.server["pets"].member == "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/alexnet/sa/pets"
    )
    error_message = "not the principals of the ServiceAccounts"
  }
  assert {
    condition = (
      google_storage_bucket_iam_member.publisher[0].role == "roles/storage.objectUser" &&
      google_storage_bucket_iam_member.publisher[0].member == "group:ml@example.com" &&
      google_artifact_registry_repository_iam_member.publisher[0].role == "roles/artifactregistry.writer"
    )
    error_message = "the publisher has other rights"
  }
  assert {
    condition = (
      google_project_iam_member.nodes.role == "roles/container.defaultNodeServiceAccount" &&
      google_artifact_registry_repository_iam_member.nodes.role == "roles/artifactregistry.reader" &&
      google_artifact_registry_repository_iam_member.nodes.member == "serviceAccount:alexnet-nodes@my-project.iam.gserviceaccount.com"
    )
    error_message = "the nodes have other rights"
  }
  assert {
    condition     = alltrue([for pool in google_container_node_pool.this : pool.node_config[0].service_account == output.node_service_account])
    error_message = "a pool runs as something else"
  }
}

run "images_are_built_as_an_account_of_their_own" {
  command = apply
  variables {
    publisher = "group:ml@example.com"
  }

  assert {
    condition = (
      google_service_account.builds.account_id == "alexnet-build" &&
      google_artifact_registry_repository_iam_member.builds.role == "roles/artifactregistry.writer" &&
      google_artifact_registry_repository_iam_member.builds.member == google_service_account.builds.member &&
      google_project_iam_member.builds.role == "roles/logging.logWriter" &&
      google_project_iam_member.builds.member == google_service_account.builds.member
    )
    error_message = "it may not push the image, or not log"
  }
  assert {
    condition = (
      google_storage_bucket_iam_member.builds.role == "roles/storage.objectViewer" &&
      one(google_storage_bucket_iam_member.builds.condition).expression == "resource.name.startsWith(\"projects/_/buckets/my-project-models/objects/.builds/\")" &&
      anytrue([for rule in google_storage_bucket.models.lifecycle_rule : one(rule.condition).matches_prefix == tolist([".builds/"]) && one(rule.condition).age == 1])
    )
    error_message = "it reads more than what was sent to be built, or that stays"
  }
  assert {
    condition = (
      google_service_account_iam_member.publisher_builds[0].role == "roles/iam.serviceAccountUser" &&
      google_storage_bucket_iam_member.publisher_builds[0].role == "roles/storage.legacyBucketReader" &&
      alltrue([
        for member in [
          google_service_account_iam_member.publisher_builds[0].member,
          google_storage_bucket_iam_member.publisher_builds[0].member,
        ] : member == "group:ml@example.com"
      ])
    )
    error_message = "the publisher cannot have images built"
  }
  assert {
    condition     = strcontains(output.environment, "export BUILDER='${output.build_service_account}'")
    error_message = "the commands do not know it"
  }
}

run "outputs_fit_the_next_commands" {
  command = apply

  assert {
    condition     = output.get_credentials == "gcloud container clusters get-credentials alexnet --location europe-west4-b --project my-project --dns-endpoint"
    error_message = "another command: ${output.get_credentials}"
  }
  assert {
    condition     = output.image_repository == "europe-west4-docker.pkg.dev/my-project/alexnet"
    error_message = "another repository: ${output.image_repository}"
  }
  assert {
    condition     = output.models_bucket == "my-project-models" && output.namespace == "alexnet" && output.service_accounts == tolist(["alexnet"])
    error_message = "other names"
  }
}

run "without_a_publisher_nobody_writes" {
  command = plan

  assert {
    condition = 0 == (
      length(google_storage_bucket_iam_member.publisher) + length(google_artifact_registry_repository_iam_member.publisher) +
      length(google_service_account_iam_member.publisher_builds) + length(google_storage_bucket_iam_member.publisher_builds)
    )
    error_message = "somebody may write"
  }
}

run "the_registry_forgets_and_scans" {
  command = plan

  assert {
    condition = (
      toset([for policy in google_artifact_registry_repository.images.cleanup_policies : policy.action]) == toset(["DELETE", "KEEP"]) &&
      google_artifact_registry_repository.images.vulnerability_scanning_config[0].enablement_config == "INHERITED" &&
      contains(keys(google_project_service.apis), "containerscanning.googleapis.com")
    )
    error_message = "images are kept for ever, or not scanned"
  }
}

run "images_of_docker_hub_are_fetched_once" {
  command = plan

  assert {
    condition = (
      google_artifact_registry_repository.docker_hub[0].mode == "REMOTE_REPOSITORY" &&
      google_artifact_registry_repository.docker_hub[0].remote_repository_config[0].docker_repository[0].public_repository == "DOCKER_HUB" &&
      google_artifact_registry_repository.docker_hub[0].location == "europe-west4" &&
      google_artifact_registry_repository_iam_member.docker_hub[0].role == "roles/artifactregistry.reader"
    )
    error_message = "not a mirror of Docker Hub that nodes may read"
  }
  assert {
    condition     = output.docker_hub_mirror == "europe-west4-docker.pkg.dev/my-project/alexnet-docker-hub"
    error_message = "another name: ${output.docker_hub_mirror}"
  }
  assert {
    condition     = google_artifact_registry_repository.docker_hub[0].vulnerability_scanning_config[0].enablement_config == "DISABLED"
    error_message = "each image costs a scan"
  }
}

run "without_a_mirror_there_is_none" {
  command = plan
  variables {
    docker_hub_mirror = false
  }

  assert {
    condition = (
      length(google_artifact_registry_repository.docker_hub) + length(google_artifact_registry_repository_iam_member.docker_hub) == 0 &&
      output.docker_hub_mirror == ""
    )
    error_message = "a mirror that nobody asked for"
  }
}

run "a_region_has_a_regional_cluster" {
  command = plan
  variables {
    location = "us-central1"
  }

  assert {
    condition = (
      google_container_cluster.this.location == "us-central1" && google_compute_subnetwork.nodes.region == "us-central1" &&
      google_storage_bucket.models.location == "us-central1"
    )
    error_message = "not all in the region"
  }
}

run "spot_can_be_off" {
  command = plan
  variables {
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c3-standard-4", spot = false, max_nodes = 9 }
    }
  }

  assert {
    condition = alltrue([
      for pool in google_container_node_pool.this :
      !pool.node_config[0].spot && pool.autoscaling[0].location_policy == "BALANCED"
    ])
    error_message = "a pool is spot"
  }
}

run "a_gpu_pool_has_the_driver_and_the_taint_that_the_gpu_overlay_expects" {
  command = plan
  variables {
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c3-standard-4", max_nodes = 9 }
      gpu     = { machine_type = "g2-standard-4", max_nodes = 2, gpu = { type = "nvidia-l4" } }
    }
  }

  assert {
    condition = (
      google_container_node_pool.this["gpu"].node_config[0].guest_accelerator[0].type == "nvidia-l4" &&
      google_container_node_pool.this["gpu"].node_config[0].guest_accelerator[0].count == 1 &&
      google_container_node_pool.this["gpu"].node_config[0].guest_accelerator[0].gpu_driver_installation_config[0].gpu_driver_version == "DEFAULT"
    )
    error_message = "no L4 with its driver"
  }
  assert {
    condition = (
      toset(google_container_node_pool.this["gpu"].node_config[0].taint[*].key) == toset(["nvidia.com/gpu", "torchserve-alexnet/role"]) &&
      alltrue([for taint in google_container_node_pool.this["gpu"].node_config[0].taint : taint.effect == "NO_SCHEDULE"]) &&
      !contains(google_container_node_pool.this["serving"].node_config[0].taint[*].key, "nvidia.com/gpu")
    )
    error_message = "not the taints that kserve/components/gpu tolerates, or on another pool"
  }
}

run "a_pool_has_its_zones_and_the_first_pool_takes_no_ssd" {
  command = plan
  variables {
    location = "europe-west4"
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3, zones = ["europe-west4-a"] }
      serving = { machine_type = "c3-standard-4", max_nodes = 9, zones = ["europe-west4-b", "europe-west4-c"] }
    }
  }

  assert {
    condition = (
      google_container_node_pool.this["system"].node_locations == toset(["europe-west4-a"]) &&
      google_container_node_pool.this["serving"].node_locations == toset(["europe-west4-b", "europe-west4-c"])
    )
    error_message = "a pool is elsewhere"
  }
  assert {
    condition = (
      google_container_cluster.this.node_config[0].disk_type == "pd-standard" &&
      google_container_cluster.this.node_config[0].disk_size_gb == 20
    )
    error_message = "the pool that lives for minutes takes 300 GB of the quota for SSD"
  }
}

run "on_demand_is_the_fallback_for_spot" {
  command = plan
  variables {
    node_pools = {
      system    = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving   = { machine_type = "c3-standard-4", max_nodes = 9 }
      on-demand = { machine_type = "c3-standard-4", max_nodes = 9, spot = false }
    }
  }

  # A pod that fits one fits the other, so that only the price decides.
  assert {
    condition = alltrue([
      for name in ["serving", "on-demand"] :
      google_container_node_pool.this[name].node_config[0].labels["torchserve-alexnet/role"] == "serving" &&
      one(google_container_node_pool.this[name].node_config[0].taint).value == "serving" &&
      google_container_node_pool.this[name].autoscaling[0].total_min_node_count == 0
    ])
    error_message = "the pools are not for the same pods, or one costs something at rest"
  }
  assert {
    condition = (
      google_container_node_pool.this["serving"].node_config[0].spot &&
      google_container_node_pool.this["serving"].autoscaling[0].location_policy == "ANY" &&
      !google_container_node_pool.this["on-demand"].node_config[0].spot
    )
    error_message = "not spot, and on demand"
  }
}

run "authorised_networks_reach_the_address_and_nobody_else" {
  command = plan
  variables {
    authorized_networks = { office = "203.0.113.0/24" }
    dns_endpoint        = false
  }

  assert {
    condition = (
      google_container_cluster.this.control_plane_endpoints_config[0].ip_endpoints_config[0].enabled &&
      !google_container_cluster.this.control_plane_endpoints_config[0].dns_endpoint_config[0].allow_external_traffic &&
      !google_container_cluster.this.master_authorized_networks_config[0].gcp_public_cidrs_access_enabled &&
      one(google_container_cluster.this.master_authorized_networks_config[0].cidr_blocks).cidr_block == "203.0.113.0/24"
    )
    error_message = "others reach it, or the office does not"
  }
  assert {
    condition     = !strcontains(output.get_credentials, "--dns-endpoint")
    error_message = "the command takes the DNS name that is off"
  }
}

run "adjacent_ranges_are_accepted" {
  command = plan
  variables {
    ip_ranges = { nodes = "192.168.0.0/22", pods = "192.168.64.0/18", services = "192.168.4.0/22" }
  }

  assert {
    condition = (
      google_compute_subnetwork.nodes.ip_cidr_range == "192.168.0.0/22" &&
      google_compute_subnetwork.nodes.secondary_ip_range[0].ip_cidr_range == "192.168.64.0/18" &&
      google_compute_subnetwork.nodes.secondary_ip_range[1].ip_cidr_range == "192.168.4.0/22"
    )
    error_message = "not the ranges that were given"
  }
}

run "the_teardown_switches_the_protection_off" {
  command = plan
  variables {
    deletion_protection = false
  }

  assert {
    condition = (
      !google_container_cluster.this.deletion_protection && google_storage_bucket.models.force_destroy &&
      google_storage_bucket.models.deletion_policy == "DELETE" &&
      google_storage_bucket.models.soft_delete_policy[0].retention_duration_seconds == 0
    )
    error_message = "something stays, or is billed afterwards"
  }
}

run "by_default_no_rule_opens_the_network" {
  command = plan

  assert {
    condition     = length(google_compute_firewall.webhooks) == 0
    error_message = "a rule that nobody asked for"
  }
}

run "the_api_server_reaches_webhooks_where_a_rule_is_asked_for" {
  command = plan
  variables {
    webhook_rule = {}
  }

  assert {
    condition = (
      google_compute_firewall.webhooks[0].direction == "INGRESS" &&
      google_compute_firewall.webhooks[0].source_ranges == toset(["10.0.0.0/22", "10.4.0.0/16"]) &&
      one(google_compute_firewall.webhooks[0].allow).protocol == "tcp" &&
      toset(one(google_compute_firewall.webhooks[0].allow).ports) == toset(["443", "8443", "9443", "10250"])
    )
    error_message = "not from nodes and pods to webhooks"
  }
}

run "the_rules_source_can_be_chosen" {
  command = plan
  variables {
    webhook_rule = { source_ranges = ["172.16.0.0/28"] }
  }

  assert {
    condition     = google_compute_firewall.webhooks[0].source_ranges == toset(["172.16.0.0/28"])
    error_message = "from elsewhere"
  }
}

run "large_images_are_streamed_and_others_are_not" {
  command = plan
  variables {
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c3-standard-4", max_nodes = 9 }
      wished  = { machine_type = "c3-standard-4", max_nodes = 9, image_streaming = true }
      gpu     = { machine_type = "g2-standard-4", max_nodes = 2, gpu = { type = "nvidia-l4" } }
      whole   = { machine_type = "g2-standard-4", max_nodes = 2, gpu = { type = "nvidia-l4" }, image_streaming = false }
    }
  }

  assert {
    condition = (
      google_container_node_pool.this["gpu"].node_config[0].gcfs_config[0].enabled &&
      google_container_node_pool.this["wished"].node_config[0].gcfs_config[0].enabled &&
      !google_container_node_pool.this["serving"].node_config[0].gcfs_config[0].enabled &&
      !google_container_node_pool.this["whole"].node_config[0].gcfs_config[0].enabled
    )
    error_message = "images are fetched whole, or streamed where nobody asked"
  }
  assert {
    condition = (
      google_project_service.image_streaming[0].service == "containerfilesystem.googleapis.com" &&
      google_project_iam_member.image_streaming[0].role == "roles/serviceusage.serviceUsageConsumer"
    )
    error_message = "the nodes may not stream"
  }
}

run "by_default_no_image_is_streamed" {
  command = plan

  assert {
    condition     = length(google_project_service.image_streaming) + length(google_project_iam_member.image_streaming) == 0
    error_message = "an API and a role that nobody needs"
  }
}
