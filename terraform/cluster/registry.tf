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
