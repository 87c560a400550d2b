# The least and the most that the variables accept: tests/terraform/test_validators.py also checks these plans against the
# provider's rules.
mock_provider "google" {}

run "the_least_that_the_variables_take" {
  command = plan
  variables {
    authorized_networks = { a = "10.0.0.0/8" }
    bucket_name         = "a_1"
    cluster_name        = "a1"
    dns_endpoint        = false
    github              = { repository_id = "1", environment = "a" }
    ip_ranges           = { nodes = "10.0.0.0/32", pods = "172.16.0.0/32", services = "192.168.0.0/32" }
    labels              = { a = "", application = "" }
    location            = "a-b1-c"
    namespace           = "0"
    node_pools          = { a = { role = "system", machine_type = "a-1", spot = false, min_nodes = 1, max_nodes = 1, disk_gb = 20 } }
    noncurrent_days     = 1
    project_id          = "abcde1"
    public_endpoints    = { a = { hostname = "a.bc", requests_per_minute = 1, iap_members = ["user:a@b"] } }
    publisher           = "user:a@b"
    services            = ["a"]
    webhook_rule        = { source_ranges = ["10.0.0.0/32"] }
  }

  assert {
    condition     = google_compute_router_nat.this.name == "a1" && google_service_account.nodes.account_id == "a1-nodes"
    error_message = "names that are longer than they could be"
  }
}

run "the_most_that_the_variables_take" {
  command = plan
  variables {
    authorized_networks = { (format("%063d", 0)) = "255.255.255.255/32" }
    bucket_name         = "a${format("%062d", 0)}"
    cluster_name        = "a${format("%023d", 0)}"
    github              = { repository_id = "1234567890123", environment = format("%060d", 0) }
    ip_ranges           = { nodes = "10.0.0.0/8", pods = "172.16.0.0/12", services = "192.168.0.0/16" }
    labels              = { "a${format("%062d", 0)}" = format("%063d", 0) }
    location            = "northamerica-northeast12"
    namespace           = format("%063d", 0)
    node_pools = {
      "a${format("%039d", 0)}" = { role = "system", machine_type = "c3-standard-192-metal", spot = false, min_nodes = 1000, max_nodes = 1000, disk_gb = 65536 }
      gpu                      = { machine_type = "a2-megagpu-16g", min_nodes = 1000, max_nodes = 1000, gpu = { type = "nvidia-tesla-a100", count = 16, driver = "LATEST" } }
    }
    noncurrent_days = 1000000
    project_id      = "a${format("%029d", 0)}"
    public_endpoints = {
      "a${format("%046d", 0)}" = {
        hostname            = "${format("%063d", 0)}.${format("%063d", 0)}.a${format("%062d", 0)}"
        requests_per_minute = 1000000
        iap_members         = ["principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/*", "domain:example.com"]
      }
    }
    publisher    = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/subject/b"
    services     = ["a${format("%046d", 0)}"]
    webhook_rule = { source_ranges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] }
  }

  assert {
    condition     = length(google_service_account.nodes.account_id) == 30 && length(google_storage_bucket.models.name) == 63
    error_message = "names that are shorter than they could be"
  }
}
