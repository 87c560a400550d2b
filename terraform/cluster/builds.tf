# Cloud Build builds the serving image as an account that may push it, read what `gcloud builds submit` sent, and write its
# log: Cloud Build's default account may do anything in many projects, and nothing in others.
resource "google_service_account" "builds" {
  account_id   = "${var.cluster_name}-build"
  display_name = "Builds of the serving image"

  depends_on = [google_project_service.apis]
}

resource "google_artifact_registry_repository_iam_member" "builds" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builds.member
}

# kserve/runtime/cloudbuild.yaml logs only to Cloud Logging.
resource "google_project_iam_member" "builds" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.builds.member
}

# Sources are sent to .builds/ in the bucket of archives, and kept for a day (models_bucket.tf).
resource "google_storage_bucket_iam_member" "builds" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builds.member

  condition {
    title      = "sources of builds"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.models.name}/objects/.builds/\")"
  }
}

# --- Who has images built: the publisher, who may write both bucket and repository (iam.tf) -----------------------------

# roles/cloudbuild.builds.editor, which allows starting builds, is not granted here: it also allows builds as the project's
# default build account, which in older projects may write everything in the project.
resource "google_service_account_iam_member" "publisher_builds" {
  count = var.publisher == null ? 0 : 1

  service_account_id = google_service_account.builds.name
  role               = "roles/iam.serviceAccountUser"
  member             = var.publisher
}

# gcloud reads the bucket's metadata (storage.buckets.get) before it sends anything there.
resource "google_storage_bucket_iam_member" "publisher_builds" {
  count = var.publisher == null ? 0 : 1

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.legacyBucketReader"
  member = var.publisher
}
