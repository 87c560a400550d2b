resource "google_project_service" "storage" {
  service = "storage.googleapis.com"

  # Other things in the project may use it, and it costs nothing.
  disable_on_destroy = false
}

resource "google_storage_bucket" "state" {
  #checkov:skip=CKV_GCP_62:Google advises audit logs in place of usage logs, and those are the project's to switch on.
  name     = coalesce(var.bucket_name, "${var.project_id}-terraform")
  location = var.location

  # Those of terraform/cluster, by default: the bucket is on the same bill.
  labels = { application = "torchserve-alexnet" }

  # State holds every attribute of every resource: nobody but those named on this bucket may read it.
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # A state that was overwritten by mistake is the one before it.
  versioning {
    enabled = true
  }

  # lifecycle.prevent_destroy takes no variable; this does the same, and the teardown can switch it off.
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"

  # The bucket is never empty, since versions of state stay: protected, it is refused; else it goes with them.
  force_destroy = !var.deletion_protection

  # For versions and a bucket that are deleted by mistake. Unprotected, nothing is kept, nor billed, afterwards.
  soft_delete_policy {
    retention_duration_seconds = var.deletion_protection ? 7 * 24 * 60 * 60 : 0
  }

  # Both conditions must hold, so the newest ten stay however old they are.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.noncurrent_days
      num_newer_versions         = 10
      with_state                 = "ARCHIVED"
    }
  }

  depends_on = [google_project_service.storage]
}

resource "google_storage_bucket_iam_member" "writers" {
  for_each = var.writers

  bucket = google_storage_bucket.state.name
  role   = "roles/storage.objectUser"
  member = each.value
}
