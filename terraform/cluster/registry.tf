resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:Google's keys encrypt it; a key of one's own is for those who must be able to take it away.
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

  # Keeping wins over deleting: a roll-back finds its image, tagged or not.
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  # Scans what is pushed, as containerscanning.googleapis.com, switched on in apis.tf, says.
  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  depends_on = [google_project_service.apis]
}

# Every new serving node pulls KServe's storage initializer, which is on Docker Hub: all nodes by one address (network.tf),
# which Docker Hub counts. Here it is fetched once. The images of system nodes alone, from elsewhere, do not repay a mirror.
resource "google_artifact_registry_repository" "docker_hub" {
  #checkov:skip=CKV_GCP_84:Google's keys encrypt it; these images are public, and nobody has to be able to take them away.
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

  # Fetched again when it is asked for.
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  # A scan is billed for each image, and these are not ours to mend.
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

# A node of these pools mounts an image of Artifact Registry and reads what a container asks for, while the rest arrives. Not
# for all: Google warns that what reads most of its image before it does anything may start later, and that has been measured
# by nobody here. https://docs.cloud.google.com/kubernetes-engine/docs/how-to/image-streaming
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

# Nodes that run as an account of ours, as these do, need it for that.
resource "google_project_iam_member" "image_streaming" {
  count = length(local.streaming_pools) > 0 ? 1 : 0

  project = var.project_id
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = google_service_account.nodes.member
}
