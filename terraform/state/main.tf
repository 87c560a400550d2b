resource "google_project_service" "storage" {
  service = "storage.googleapis.com"

  # Others in the project may use it, and it costs nothing.
  disable_on_destroy = false
}

resource "google_storage_bucket" "state" {
  #checkov:skip=CKV_GCP_62:Google recommends audit logs instead of usage logs, and the project decides whether to enable those.
  name     = coalesce(var.bucket_name, "${var.project_id}-terraform")
  location = var.location

  # As terraform/cluster's by default: the bucket is on the same bill.
  labels = { application = "torchserve-alexnet" }

  # State holds every attribute of every resource: only those named on this bucket may read it.
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # A state that was overwritten by mistake can be restored.
  versioning {
    enabled = true
  }

  # lifecycle.prevent_destroy accepts no variable; this does the same, and the teardown can switch it off.
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"

  # The bucket is never empty, since it keeps versions of state: if protected, deleting it is refused; otherwise they go too.
  force_destroy = !var.deletion_protection

  # For versions, or the bucket, that are deleted by mistake. Unprotected, nothing is kept or billed afterwards.
  soft_delete_policy {
    retention_duration_seconds = var.deletion_protection ? 7 * 24 * 60 * 60 : 0
  }

  # Both conditions must hold, so the newest ten are kept however old they are.
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
