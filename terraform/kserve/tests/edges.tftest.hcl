# As terraform/cluster/tests/edges.tftest.hcl.
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

run "the_least_that_the_variables_take" {
  command = plan
  variables {
    environment  = "a"
    gateway      = { name = "0/0", domain = "a.bc" }
    state_bucket = "a_1"
  }
  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = {
        cluster_name      = "a1"
        docker_hub_mirror = ""
        image_repository  = "a-b1-docker.pkg.dev/abcde1/alexnet"
        location          = "a-b1-c"
        namespace         = "0"
        project_id        = "abcde1"
        project_number    = "1"
      }
    }
  }
}

run "the_most_that_the_variables_take" {
  command = plan
  variables {
    environment  = "a000000000000000000a"
    gateway      = { name = "000000000000000000000000000000000000000000000000000000000000000/000000000000000000000000000000000000000000000000000000000000000", domain = "000000000000000000000000000000000000000000000000000000000000000.example.com" }
    state_bucket = "000000000000000000000000000000000000000000000000000000000000000"
  }
  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = {
        cluster_name      = "a00000000000000000000000"
        docker_hub_mirror = "northamerica-northeast12-docker.pkg.dev/a00000000000000000000000000000/a00000000000000000000000-docker-hub"
        image_repository  = "northamerica-northeast12-docker.pkg.dev/a00000000000000000000000000000/alexnet"
        location          = "northamerica-northeast12"
        namespace         = "000000000000000000000000000000000000000000000000000000000000000"
        project_id        = "a00000000000000000000000000000"
        project_number    = "123456789012"
      }
    }
  }
}
