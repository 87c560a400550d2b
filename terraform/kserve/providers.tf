# Why this is a separate folder: the two providers below need the cluster's address when they plan. In the cluster's own
# folder, that address would not be known yet at the first apply or whenever the cluster is recreated, and Terraform cannot
# order a provider after a resource. Here the cluster is read: if it does not exist, the plan fails.

# The outputs of terraform/cluster of the same environment, so that nothing has to be given twice.
data "terraform_remote_state" "cluster" {
  backend = "gcs"

  config = {
    bucket = var.state_bucket
    prefix = "${var.environment}/cluster"
  }

  lifecycle {
    postcondition {
      condition = alltrue([
        for name in [
          "cluster_name", "docker_hub_mirror", "image_repository", "location", "namespace", "project_id", "project_number",
        ] : can(self.outputs[name])
      ])
      error_message = "terraform/cluster of ${var.environment} lacks outputs that this folder reads: apply it first."
    }
  }
}

locals {
  cluster = data.terraform_remote_state.cluster.outputs
}

provider "google" {
  project = local.cluster.project_id

  # Requests count against this project's quota. Otherwise those of a gcloud login count against a project of Google's, which
  # some APIs refuse: the provider does not read the quota project of Application Default Credentials.
  user_project_override = true
  billing_project       = local.cluster.project_id
}

data "google_container_cluster" "this" {
  name     = local.cluster.cluster_name
  location = local.cluster.location

  lifecycle {
    postcondition {
      condition = (
        try(self.control_plane_endpoints_config[0].dns_endpoint_config[0].endpoint, "") != "" || try(self.endpoint, "") != ""
      )
      error_message = "The cluster does not exist or has no endpoint: apply terraform/cluster first."
    }
  }
}

locals {
  # As kubectl does: a token is requested when it is needed. data.google_client_config would write one into the state.
  login = {
    api_version = "client.authentication.k8s.io/v1beta1"
    command     = "gke-gcloud-auth-plugin"
  }

  endpoints = try(data.google_container_cluster.this.control_plane_endpoints_config[0], null)
  by_name   = try(local.endpoints.dns_endpoint_config[0].allow_external_traffic, false)
  address   = try(data.google_container_cluster.this.endpoint, "")

  host = local.by_name ? "https://${local.endpoints.dns_endpoint_config[0].endpoint}" : (
    local.address == "" ? null : "https://${local.address}"
  )

  # A public authority signs the certificate of the DNS name; the cluster's own authority signs that of the address.
  certificate = local.by_name ? null : try(
    base64decode(data.google_container_cluster.this.master_auth[0].cluster_ca_certificate), null
  )
}

provider "kubernetes" {
  host                   = local.host
  cluster_ca_certificate = local.certificate

  exec {
    api_version = local.login.api_version
    command     = local.login.command
  }
}

provider "helm" {
  kubernetes = {
    host                   = local.host
    cluster_ca_certificate = local.certificate
    exec                   = local.login
  }
}
