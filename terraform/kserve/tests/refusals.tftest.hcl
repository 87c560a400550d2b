mock_provider "google" {}
mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  environment  = "dev"
  state_bucket = "my-project-terraform"
}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = {
      cluster_name      = "alexnet"
      docker_hub_mirror = "europe-west4-docker.pkg.dev/my-project/docker-hub"
      image_repository  = "europe-west4-docker.pkg.dev/my-project/alexnet"
      project_number    = "123456789012"
      location          = "europe-west4-b"
      namespace         = "alexnet"
      project_id        = "my-project"
    }
  }
}

override_data {
  target = data.google_container_cluster.this
  values = {
    endpoint = "172.16.0.2"
  }
}

run "a_cert_manager_without_a_version_is_refused" {
  command = plan
  variables {
    cert_manager_version = "latest"
  }
  expect_failures = [var.cert_manager_version]
}

run "a_cert_manager_that_cannot_be_kept_on_system_nodes_is_refused" {
  command = plan
  variables {
    cert_manager_version = "v1.17.0"
  }
  expect_failures = [var.cert_manager_version]
}

run "an_old_name_of_a_mode_is_refused" {
  command = plan
  variables {
    deployment_mode = "RawDeployment"
  }
  expect_failures = [var.deployment_mode]
}

run "a_gateway_without_its_namespace_is_refused" {
  command = plan
  variables {
    gateway = { name = "shared", domain = "models.example.com" }
  }
  expect_failures = [var.gateway]
}

run "a_gateway_whose_name_ends_with_a_dash_is_refused" {
  command = plan
  variables {
    gateway = { name = "gateways-/shared", domain = "models.example.com" }
  }
  expect_failures = [var.gateway]
}

run "a_domain_that_is_a_url_is_refused" {
  command = plan
  variables {
    gateway = { name = "gateways/shared", domain = "https://example.com" }
  }
  expect_failures = [var.gateway]
}

run "a_gateway_for_knative_is_refused" {
  command = plan
  variables {
    deployment_mode = "Knative"
    gateway         = { name = "gateways/shared", domain = "models.example.com" }
  }
  expect_failures = [var.gateway]
}

run "a_knative_that_refuses_startup_probes_is_refused" {
  command = plan
  variables {
    knative_version = "v1.14.0"
  }
  expect_failures = [var.knative_version]
}

run "an_older_kserve_is_refused" {
  command = plan
  variables {
    kserve_version = "v0.15.0"
  }
  expect_failures = [var.kserve_version]
}

run "an_environment_that_is_a_path_is_refused" {
  command = plan
  variables {
    environment = "dev/cluster"
  }
  expect_failures = [var.environment]
}

run "a_state_bucket_that_is_a_uri_is_refused" {
  command = plan
  variables {
    state_bucket = "gs://my-project-terraform"
  }
  expect_failures = [var.state_bucket]
}
