# Cloud Build makes the serving image as an account that may push it, read what `gcloud builds submit` sent, and write its
# log: the one that it would take by itself may in many projects do anything, and in others nothing.
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

# kserve/runtime/cloudbuild.yaml logs to Cloud Logging alone.
resource "google_project_iam_member" "builds" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.builds.member
}

# Sources are sent to .builds/ of the bucket of archives, and stay a day (models_bucket.tf).
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

# roles/cloudbuild.builds.editor, which starts builds, is not given here: with it one builds as the project's own account for
# builds, too, which in older projects may write all that is in the project.
resource "google_service_account_iam_member" "publisher_builds" {
  count = var.publisher == null ? 0 : 1

  service_account_id = google_service_account.builds.name
  role               = "roles/iam.serviceAccountUser"
  member             = var.publisher
}

# gcloud looks at the bucket (storage.buckets.get) before it sends anything there.
resource "google_storage_bucket_iam_member" "publisher_builds" {
  count = var.publisher == null ? 0 : 1

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.legacyBucketReader"
  member = var.publisher
}
