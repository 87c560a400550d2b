# Why a folder of its own: the two providers below need the cluster's address when they plan. Beside the cluster they
# would plan against an address that is not known yet, at the first apply and whenever the cluster is made anew, and
# Terraform cannot order a provider after a resource. Here the cluster is read, and is there or the plan ends.

# What terraform/cluster made of the same environment, so that nothing is said twice.
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
      error_message = "terraform/cluster of ${var.environment} lacks outputs that are read here: apply it first."
    }
  }
}

locals {
  cluster = data.terraform_remote_state.cluster.outputs
}

provider "google" {
  project = local.cluster.project_id

  # Requests count for this project. Else those of a login of gcloud's count for a project of Google's, which some APIs
  # refuse: the provider does not read the quota project of Application Default Credentials.
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
      error_message = "No such cluster, or none that can be reached from here: apply terraform/cluster first."
    }
  }
}

locals {
  # As kubectl does: a token is asked for when it is needed. data.google_client_config would write one into the state.
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

  # The certificate of the DNS name is signed by a public authority; that of the address by the cluster's own.
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
