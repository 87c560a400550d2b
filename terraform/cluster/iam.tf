data "google_project" "this" {
  project_id = var.project_id
}

locals {
  # The ServiceAccount of each service (kserve/base/service-account.yaml), as a Google principal: no Google service account,
  # no key.
  servers = { for service in var.services : service => join("/", [
    "principal://iam.googleapis.com/projects/${data.google_project.this.number}",
    "locations/global/workloadIdentityPools/${var.project_id}.svc.id.goog",
    "subject/ns/${var.namespace}/sa/${service}",
  ]) }
}

# --- Nodes ------------------------------------------------------------------------------------------------------------

resource "google_service_account" "nodes" {
  account_id   = "${var.cluster_name}-nodes"
  display_name = "Nodes of the cluster ${var.cluster_name}"

  depends_on = [google_project_service.apis]
}

# Logs and metrics: the least that GKE requires.
resource "google_project_iam_member" "nodes" {
  project = var.project_id
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}

# --- Models -----------------------------------------------------------------------------------------------------------

resource "google_storage_bucket_iam_member" "server" {
  for_each = local.servers

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = each.value

  # The principal's pool is created with the first cluster that has Workload Identity.
  depends_on = [google_container_cluster.this]
}

# The name from before there could be several.
moved {
  from = google_storage_bucket_iam_member.server
  to   = google_storage_bucket_iam_member.server["alexnet"]
}

resource "google_storage_bucket_iam_member" "publisher" {
  count = var.publisher == null ? 0 : 1

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectUser"
  member = var.publisher
}

resource "google_artifact_registry_repository_iam_member" "publisher" {
  count = var.publisher == null ? 0 : 1

  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = var.publisher
}
