# A region whose zone a has no C3 machines, and whose zone c also has arm64 machines.
mock_provider "google" {
  mock_data "google_compute_zones" {
    defaults = {
      names = ["europe-west4-a", "europe-west4-b", "europe-west4-c"]
    }
  }
}

override_data {
  target = data.google_compute_machine_types.zone["europe-west4-a"]
  values = {
    machine_types = [{ name = "e2-standard-2", architecture = "X86_64" }]
  }
}

override_data {
  target = data.google_compute_machine_types.zone["europe-west4-b"]
  values = {
    machine_types = [{ name = "e2-standard-2", architecture = "X86_64" }, { name = "c3-standard-4", architecture = "X86_64" }]
  }
}

override_data {
  target = data.google_compute_machine_types.zone["europe-west4-c"]
  values = {
    machine_types = [
      { name = "e2-standard-2", architecture = "X86_64" }, { name = "c3-standard-4", architecture = "X86_64" },
      { name = "c4a-standard-4", architecture = "ARM64" },
    ]
  }
}

variables {
  project_id = "my-project"
}

run "a_zone_with_the_machines_is_accepted" {
  command = plan

  assert {
    condition     = local.zones_with["serving"] == tolist(["europe-west4-b", "europe-west4-c"])
    error_message = "other zones have C3"
  }
  assert {
    condition     = data.google_compute_machine_types.zone["europe-west4-b"].filter == "(name = \"c3-standard-4\") OR (name = \"e2-standard-2\")"
    error_message = "another question: ${data.google_compute_machine_types.zone["europe-west4-b"].filter}"
  }
}

run "a_zone_without_the_machines_is_refused" {
  command = plan
  variables {
    location = "europe-west4-a"
  }
  expect_failures = [google_container_node_pool.this["serving"]]
}

run "a_region_of_which_one_zone_has_none_is_refused" {
  command = plan
  variables {
    location = "europe-west4"
  }
  expect_failures = [google_container_node_pool.this["serving"]]
}

run "zones_with_the_machines_are_accepted" {
  command = plan
  variables {
    location = "europe-west4"
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c3-standard-4", max_nodes = 9, zones = ["europe-west4-c", "europe-west4-b"] }
    }
  }

  assert {
    condition     = google_container_node_pool.this["serving"].node_locations == toset(["europe-west4-b", "europe-west4-c"])
    error_message = "other zones"
  }
}

run "machines_that_the_region_does_not_have_are_refused" {
  command = plan
  variables {
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c3d-standard-4", max_nodes = 9 }
    }
  }
  expect_failures = [google_container_node_pool.this["serving"]]
}

run "an_arm64_machine_is_refused" {
  command = plan
  variables {
    location = "europe-west4-c"
    node_pools = {
      system  = { role = "system", machine_type = "e2-standard-2", spot = false, min_nodes = 1, max_nodes = 3 }
      serving = { machine_type = "c4a-standard-4", max_nodes = 9 }
    }
  }
  expect_failures = [google_container_node_pool.this["serving"]]
}
