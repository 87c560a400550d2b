resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:Google's keys encrypt it; a key of your own is only needed if you must be able to revoke it.
  repository_id = "alexnet" # the repository that kserve/runtime/cloudbuild.yaml pushes to
  location      = local.region
  format        = "DOCKER"
  description   = "The serving image of torchserve-alexnet"
  labels        = var.labels

  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "604800s" # a week
    }
  }

  # KEEP wins over DELETE: a roll-back finds its image, tagged or not.
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  # Scans pushed images, since apis.tf enables containerscanning.googleapis.com.
  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  depends_on = [google_project_service.apis]
}

# Every new serving node pulls KServe's storage initializer from Docker Hub. All nodes share one address (network.tf), whose
# pulls Docker Hub limits. The mirror fetches it once. Images from other registries, used only by system nodes, need no mirror.
resource "google_artifact_registry_repository" "docker_hub" {
  #checkov:skip=CKV_GCP_84:Google's keys encrypt it; these images are public, and nobody has to be able to revoke them.
  count = var.docker_hub_mirror ? 1 : 0

  repository_id = "${var.cluster_name}-docker-hub"
  location      = local.region
  format        = "DOCKER"
  mode          = "REMOTE_REPOSITORY"
  description   = "What nodes of ${var.cluster_name} pull from Docker Hub"
  labels        = var.labels

  remote_repository_config {
    docker_repository {
      public_repository = "DOCKER_HUB"
    }
  }

  # They are fetched again when needed.
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  # A scan is billed for each image, and these are not ours to fix.
  vulnerability_scanning_config {
    enablement_config = "DISABLED"
  }

  depends_on = [google_project_service.apis]
}

resource "google_artifact_registry_repository_iam_member" "docker_hub" {
  count = var.docker_hub_mirror ? 1 : 0

  repository = google_artifact_registry_repository.docker_hub[0].name
  location   = google_artifact_registry_repository.docker_hub[0].location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}

# --- Image streaming --------------------------------------------------------------------------------------------------

# A node of these pools mounts an image of Artifact Registry and reads what a container needs while the rest arrives. Not
# for all pools: Google warns that a container that reads most of its image first may start later, which we have not measured.
# https://docs.cloud.google.com/kubernetes-engine/docs/how-to/image-streaming
locals {
  streaming_pools = [
    for name, pool in var.node_pools : name if coalesce(pool.image_streaming, pool.gpu != null)
  ]
}

resource "google_project_service" "image_streaming" {
  count = length(local.streaming_pools) > 0 ? 1 : 0

  service            = "containerfilesystem.googleapis.com"
  disable_on_destroy = false
}

# Image streaming needs it on nodes that run as an account of our own, as these do.
resource "google_project_iam_member" "image_streaming" {
  count = length(local.streaming_pools) > 0 ? 1 : 0

  project = var.project_id
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = google_service_account.nodes.member
}
