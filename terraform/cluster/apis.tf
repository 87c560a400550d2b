locals {
  apis = toset(concat(local.public_apis, local.monitoring_apis, [
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "containerscanning.googleapis.com",
    "iam.googleapis.com",
    "storage.googleapis.com",
  ]))
}

resource "google_project_service" "apis" {
  for_each = local.apis

  service = each.key

  # Others in the project may use them, and unused they cost nothing, except for containerscanning: README.
  disable_on_destroy = false
}
