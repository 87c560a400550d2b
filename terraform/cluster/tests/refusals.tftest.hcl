mock_provider "google" {}

variables {
  project_id = "my-project"
}

run "a_network_that_is_not_a_cidr_is_refused" {
  command = plan
  variables {
    authorized_networks = { office = "203.0.113.7" }
  }
  expect_failures = [var.authorized_networks]
}

run "a_network_with_host_bits_is_refused" {
  command = plan
  variables {
    authorized_networks = { office = "203.0.113.7/24" }
  }
  expect_failures = [var.authorized_networks]
}

run "a_network_with_leading_zeros_is_refused" {
  command = plan
  variables {
    authorized_networks = { office = "010.0.0.0/8" }
  }
  expect_failures = [var.authorized_networks]
}

run "a_network_of_ipv6_is_refused" {
  command = plan
  variables {
    authorized_networks = { office = "2001:db8::/64" }
  }
  expect_failures = [var.authorized_networks]
}

run "the_whole_world_is_refused" {
  command = plan
  variables {
    authorized_networks = { world = "0.0.0.0/0" }
  }
  expect_failures = [var.authorized_networks]
}

run "half_the_world_is_refused" {
  command = plan
  variables {
    authorized_networks = { half = "128.0.0.0/1" }
  }
  expect_failures = [var.authorized_networks]
}

run "the_whole_world_in_ipv6_is_refused" {
  command = plan
  variables {
    authorized_networks = { world = "::/0" }
  }
  expect_failures = [var.authorized_networks]
}

run "a_bucket_name_with_capitals_is_refused" {
  command = plan
  variables {
    bucket_name = "My-Models"
  }
  expect_failures = [var.bucket_name]
}

run "a_bucket_name_that_is_googles_is_refused" {
  command = plan
  variables {
    bucket_name = "goog-models"
  }
  expect_failures = [var.bucket_name]
}

run "a_billing_account_by_its_name_is_refused" {
  command = plan
  variables {
    budget = { billing_account = "My Billing Account", amount = 500 }
  }
  expect_failures = [var.budget]
}

run "a_budget_of_nothing_is_refused" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 0 }
  }
  expect_failures = [var.budget]
}

run "a_currency_by_its_sign_is_refused" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 500, currency = "€" }
  }
  expect_failures = [var.budget]
}

run "a_cluster_name_too_long_for_its_service_account_is_refused" {
  command = plan
  variables {
    cluster_name = "a-name-of-twenty-five-char"
  }
  expect_failures = [var.cluster_name]
}

run "a_cluster_name_that_begins_with_a_digit_is_refused" {
  command = plan
  variables {
    cluster_name = "1alexnet"
  }
  expect_failures = [var.cluster_name]
}

run "a_service_that_kserve_would_not_take_is_refused" {
  command = plan
  variables {
    services = ["alexnet", "9pets"]
  }
  expect_failures = [var.services]
}

run "a_range_that_is_not_a_cidr_is_refused" {
  command = plan
  variables {
    ip_ranges = { pods = "10.4.0.0" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_range_with_host_bits_is_refused" {
  command = plan
  variables {
    ip_ranges = { pods = "10.4.0.1/16" }
  }
  expect_failures = [var.ip_ranges]
}

run "two_equal_ranges_are_refused" {
  command = plan
  variables {
    ip_ranges = { nodes = "10.4.0.0/16" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_range_within_another_is_refused" {
  command = plan
  variables {
    ip_ranges = { services = "10.4.128.0/20" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_range_around_another_is_refused" {
  command = plan
  variables {
    ip_ranges = { nodes = "10.8.0.0/13" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_range_beyond_the_private_one_that_it_begins_in_is_refused" {
  command = plan
  variables {
    ip_ranges = { pods = "192.168.0.0/13" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_public_range_is_refused" {
  command = plan
  variables {
    ip_ranges = { pods = "8.8.0.0/16" }
  }
  expect_failures = [var.ip_ranges]
}

run "a_label_with_capitals_is_refused" {
  command = plan
  variables {
    labels = { Team = "ml" }
  }
  expect_failures = [var.labels]
}

run "a_location_that_is_a_country_is_refused" {
  command = plan
  variables {
    location = "EU"
  }
  expect_failures = [var.location]
}

run "a_namespace_with_an_underscore_is_refused" {
  command = plan
  variables {
    namespace = "alex_net"
  }
  expect_failures = [var.namespace]
}

run "a_namespace_that_others_use_is_refused" {
  command = plan
  variables {
    namespace = "default"
  }
  expect_failures = [var.namespace]
}

run "a_pool_named_with_capitals_is_refused" {
  command = plan
  variables {
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      Serving = { machine_type = "c3-standard-4", max_nodes = 4 }
    }
  }
  expect_failures = [var.node_pools]
}

run "an_invalid_machine_type_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3", max_nodes = 4 }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_maximum_below_the_minimum_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", min_nodes = 5, max_nodes = 4 }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_pool_that_never_has_a_node_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 0 }
    }
  }
  expect_failures = [var.node_pools]
}

run "spot_pools_alone_are_refused" {
  command = plan
  variables {
    node_pools = {
      serving = { machine_type = "c3-standard-4", min_nodes = 1, max_nodes = 4 }
    }
  }
  expect_failures = [var.node_pools]
}

run "an_unknown_role_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { role = "batch", machine_type = "c3-standard-4", max_nodes = 4 }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_system_pool_on_spot_machines_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { role = "system", machine_type = "e2-standard-4", max_nodes = 3 }
    }
  }
  expect_failures = [var.node_pools]
}

run "serving_pools_alone_are_refused" {
  command = plan
  variables {
    node_pools = {
      system = { machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 } # without its role
    }
  }
  expect_failures = [var.node_pools]
}

run "a_long_shutdown_before_gke_1_35_is_refused" {
  command = plan

  override_resource {
    target          = google_container_cluster.this
    override_during = plan
    values          = { master_version = "1.34.1-gke.3971001" }
  }
  expect_failures = [google_container_node_pool.this["serving"]]
}

run "zones_of_another_region_are_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 4, zones = ["europe-west4-b", "europe-west1-b"] }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_pool_without_any_zone_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 4, zones = [] }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_disk_too_small_for_the_image_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 4, disk_gb = 10 }
    }
  }
  expect_failures = [var.node_pools]
}

run "half_a_gigabyte_of_a_disk_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 4, disk_gb = 50.5 }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_gpu_on_a_machine_without_any_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "c3-standard-4", max_nodes = 1, gpu = { type = "nvidia-tesla-t4" } }
    }
  }
  expect_failures = [var.node_pools]
}

run "an_l4_on_another_machine_than_g2_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "n1-standard-4", max_nodes = 1, gpu = { type = "nvidia-l4" } }
    }
  }
  expect_failures = [var.node_pools]
}

run "a_g2_machine_without_its_gpu_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "g2-standard-4", max_nodes = 1 }
    }
  }
  expect_failures = [var.node_pools]
}

run "an_unknown_driver_is_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "g2-standard-4", max_nodes = 1, gpu = { type = "nvidia-l4", driver = "550" } }
    }
  }
  expect_failures = [var.node_pools]
}

run "three_gpus_are_refused" {
  command = plan
  variables {
    node_pools = {
      system = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      other  = { machine_type = "g2-standard-4", max_nodes = 1, gpu = { type = "nvidia-l4", count = 3 } }
    }
  }
  expect_failures = [var.node_pools]
}

run "an_exclusion_that_ends_before_it_begins_is_refused" {
  command = plan
  variables {
    maintenance_exclusions = { sale = { start = "2027-12-01T00:00:00Z", end = "2027-11-19T00:00:00Z" } }
  }
  expect_failures = [var.maintenance_exclusions]
}

run "an_exclusion_without_a_time_of_day_is_refused" {
  command = plan
  variables {
    maintenance_exclusions = { sale = { start = "2027-11-19", end = "2027-12-01" } }
  }
  expect_failures = [var.maintenance_exclusions]
}

run "an_exclusion_with_an_unknown_scope_is_refused" {
  command = plan
  variables {
    maintenance_exclusions = { sale = { start = "2027-11-19T00:00:00Z", end = "2027-12-01T00:00:00Z", scope = "ALL" } }
  }
  expect_failures = [var.maintenance_exclusions]
}

run "more_exclusions_than_gke_takes_are_refused" {
  command = plan
  variables {
    maintenance_exclusions = { for day in range(1, 22) : "day-${day}" => { start = format("2026-11-%02dT00:00:00Z", day), end = format("2026-11-%02dT01:00:00Z", day) } }
  }
  expect_failures = [var.maintenance_exclusions]
}

run "an_invalid_address_is_refused" {
  command = plan
  variables {
    monitoring = { emails = ["ml"] }
  }
  expect_failures = [var.monitoring]
}

run "more_addresses_than_a_budget_takes_are_refused" {
  command = plan
  variables {
    monitoring = { emails = [for number in range(6) : "ml-${number}@example.com"] }
  }
  expect_failures = [var.monitoring]
}

run "a_channel_by_its_name_is_refused" {
  command = plan
  variables {
    monitoring = { channels = ["pager"] }
  }
  expect_failures = [var.monitoring]
}

run "an_error_share_above_one_is_refused" {
  command = plan
  variables {
    monitoring = { error_share = 5 }
  }
  expect_failures = [var.monitoring]
}

run "a_latency_beyond_the_histogram_is_refused" {
  command = plan
  variables {
    monitoring = { latency_s = 600 }
  }
  expect_failures = [var.monitoring]
}

run "watching_a_service_that_is_not_listed_is_refused" {
  command = plan
  variables {
    monitoring = { services = ["pets"] }
  }
  expect_failures = [var.monitoring]
}

run "zero_days_are_refused" {
  command = plan
  variables {
    noncurrent_days = 0
  }
  expect_failures = [var.noncurrent_days]
}

run "a_project_number_is_refused" {
  command = plan
  variables {
    project_id = "123456789012"
  }
  expect_failures = [var.project_id]
}

run "a_project_name_is_refused" {
  command = plan
  variables {
    project_id = "My Project"
  }
  expect_failures = [var.project_id]
}

run "an_endpoint_of_a_service_that_is_not_listed_is_refused" {
  command = plan
  variables {
    public_endpoints = { pets = { hostname = "pets.example.com" } }
  }
  expect_failures = [var.public_endpoints]
}

run "a_hostname_that_is_a_url_is_refused" {
  command = plan
  variables {
    public_endpoints = { alexnet = { hostname = "https://alexnet.example.com" } }
  }
  expect_failures = [var.public_endpoints]
}

run "a_wildcard_hostname_is_refused" {
  command = plan
  variables {
    public_endpoints = { alexnet = { hostname = "*.example.com" } }
  }
  expect_failures = [var.public_endpoints]
}

run "a_hostname_that_is_an_ip_address_is_refused" {
  command = plan
  variables {
    public_endpoints = { alexnet = { hostname = "203.0.113.7" } }
  }
  expect_failures = [var.public_endpoints]
}

run "an_endpoint_without_a_limit_is_refused" {
  command = plan
  variables {
    public_endpoints = { alexnet = { hostname = "alexnet.example.com", requests_per_minute = 0 } }
  }
  expect_failures = [var.public_endpoints]
}

run "everybody_with_an_account_may_not_pass_the_proxy" {
  command = plan
  variables {
    public_endpoints = { alexnet = { hostname = "alexnet.example.com", iap_members = ["allAuthenticatedUsers"] } }
  }
  expect_failures = [var.public_endpoints]
}

run "two_services_with_one_hostname_are_refused" {
  command = plan
  variables {
    services         = ["alexnet", "pets"]
    public_endpoints = { alexnet = { hostname = "a.example.com" }, pets = { hostname = "a.example.com" } }
  }
  expect_failures = [var.public_endpoints]
}

run "the_public_is_no_publisher" {
  command = plan
  variables {
    publisher = "allUsers"
  }
  expect_failures = [var.publisher]
}

run "everybody_with_an_account_is_no_publisher" {
  command = plan
  variables {
    publisher = "allAuthenticatedUsers"
  }
  expect_failures = [var.publisher]
}

run "a_publisher_without_its_kind_is_refused" {
  command = plan
  variables {
    publisher = "me@example.com"
  }
  expect_failures = [var.publisher]
}

run "an_unknown_release_channel_is_refused" {
  command = plan
  variables {
    release_channel = "regular"
  }
  expect_failures = [var.release_channel]
}

run "a_control_plane_that_nobody_reaches_is_refused" {
  command = plan
  variables {
    dns_endpoint = false
  }
  expect_failures = [google_container_cluster.this]
}

run "a_repository_id_that_is_a_name_is_refused" {
  command = plan
  variables {
    github = { repository_id = "me", environment = "prod" }
  }
  expect_failures = [var.github]
}

run "an_environment_that_ends_a_condition_is_refused" {
  command = plan
  variables {
    github = { repository_id = "1234", environment = "prod' || true || '" }
  }
  expect_failures = [var.github]
}

run "an_identity_pool_with_googles_prefix_is_refused" {
  command = plan
  variables {
    cluster_name = "gcp-alexnet"
    github       = { repository_id = "1234", environment = "prod" }
  }
  expect_failures = [var.github]
}

run "an_environment_too_long_for_its_account_is_refused" {
  command = plan
  variables {
    github = { repository_id = "1234", environment = "a${format("%067d", 0)}" }
  }
  expect_failures = [var.github]
}

run "a_rule_for_webhooks_without_a_source_is_refused" {
  command = plan
  variables {
    webhook_rule = { source_ranges = [] }
  }
  expect_failures = [var.webhook_rule]
}

run "webhooks_for_the_whole_world_by_a_private_address_are_refused" {
  command = plan
  variables {
    webhook_rule = { source_ranges = ["10.0.0.0/0"] }
  }
  expect_failures = [var.webhook_rule]
}

run "webhooks_for_a_range_next_to_a_private_one_are_refused" {
  command = plan
  variables {
    webhook_rule = { source_ranges = ["192.168.0.0/13"] }
  }
  expect_failures = [var.webhook_rule]
}

run "webhooks_for_the_whole_world_are_refused" {
  command = plan
  variables {
    webhook_rule = { source_ranges = ["0.0.0.0/0"] }
  }
  expect_failures = [var.webhook_rule]
}
