locals {
  image_repository = join("/", [
    "${google_artifact_registry_repository.images.location}-docker.pkg.dev",
    var.project_id,
    google_artifact_registry_repository.images.repository_id,
  ])
}

output "build_service_account" {
  description = "The account that builds the serving image: gcloud builds submit --service-account."
  value       = google_service_account.builds.id
}

output "cluster_name" {
  description = "The cluster, for terraform/kserve."
  value       = google_container_cluster.this.name
}

output "dns_records" {
  description = "The records that the hostnames of public_endpoints need, as lines of a zone file: docs/endpoint.md says when."
  value = join("\n", flatten([
    for service, endpoint in var.public_endpoints : concat(
      [for record in google_certificate_manager_dns_authorization.public[service].dns_resource_record :
      "${record.name} 300 IN ${record.type} ${record.data}"],
      ["${endpoint.hostname}. 300 IN A ${google_compute_global_address.public[service].address}"],
    )
  ]))
}

output "docker_hub_mirror" {
  description = "The prefix for a Docker Hub image that nodes pull through Artifact Registry; empty without the mirror."
  value = !var.docker_hub_mirror ? "" : join("/", [
    "${google_artifact_registry_repository.docker_hub[0].location}-docker.pkg.dev",
    var.project_id,
    google_artifact_registry_repository.docker_hub[0].repository_id,
  ])
}

# For a shell: each value is one quoted word, whatever it contains.
output "environment" {
  description = "The lines that scripts/environment.sh prints: the shell variables that terraform/README.md uses."
  value = join("\n", [
    for name, value in {
      PROJECT   = var.project_id
      REGION    = local.region
      NAMESPACE = var.namespace
      BUCKET    = google_storage_bucket.models.name
      IMAGE     = "${local.image_repository}/alexnet-torchserve:0.1.0" # the version: make version
      BUILDER   = google_service_account.builds.id
    } : "export ${name}='${replace(value, "'", "'\\''")}'"
  ])
}

output "get_credentials" {
  description = "The command that gives kubectl and scripts/deploy.sh access to the cluster."
  value = join(" ", concat(
    ["gcloud container clusters get-credentials ${google_container_cluster.this.name}"],
    ["--location ${var.location} --project ${var.project_id}"],
    var.dns_endpoint ? ["--dns-endpoint"] : [],
  ))
}

output "github" {
  description = "The variables that the workflow's GitHub environment needs; null without `github`."
  value = var.github == null ? null : {
    WORKLOAD_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github[0].name
    SERVICE_ACCOUNT            = google_service_account.github[0].email
  }
}

output "image_repository" {
  description = "Where to push the serving image: IMAGE is this with /alexnet-torchserve:TAG appended."
  value       = local.image_repository
}

output "location" {
  description = "The zone or region of the cluster, for terraform/kserve."
  value       = var.location
}

output "models_bucket" {
  description = "The bucket of archives: scripts/publish.sh gs://BUCKET/MODEL."
  value       = google_storage_bucket.models.name
}

output "namespace" {
  description = "The namespace whose ServiceAccounts may read the bucket: scripts/deploy.sh --namespace."
  value       = var.namespace
}

output "node_service_account" {
  description = "The nodes' account: it needs roles/artifactregistry.reader on any other registry that they pull from."
  value       = google_service_account.nodes.email
}

output "project_id" {
  description = "The project, for terraform/kserve."
  value       = var.project_id
}

output "project_number" {
  description = "The project's number, which is part of principals' names."
  value       = data.google_project.this.number
}

output "service_accounts" {
  description = "The ServiceAccounts in that namespace that may read the bucket, each named after its service."
  value       = sort(keys(local.servers))
}
