locals {
  bucket_name = coalesce(var.bucket_name, "${var.project_id}-models")
}

resource "google_storage_bucket" "models" {
  #checkov:skip=CKV_GCP_62:Google recommends audit logs instead of usage logs, and the project decides whether to enable those.
  name     = local.bucket_name
  location = local.region # where the nodes are: every new pod downloads an archive

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
  force_destroy   = !var.deletion_protection

  # Published versions are never overwritten; this is for objects that are deleted by mistake.
  versioning {
    enabled = true
  }

  # For objects, or the bucket, that are deleted for good by mistake. Unprotected, nothing is kept or billed afterwards.
  soft_delete_policy {
    retention_duration_seconds = var.deletion_protection ? 7 * 24 * 60 * 60 : 0
  }

  # Both conditions must hold: the two newest are always kept.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.noncurrent_days
      num_newer_versions         = 2
      with_state                 = "ARCHIVED"
    }
  }

  # Parts of uploads that were never finished (scripts/publish.sh).
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 1
      matches_suffix = [".part"]
      with_state     = "ANY"
    }
  }

  # Sources of images, once they are built (builds.tf).
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 1
      matches_prefix = [".builds/"]
      with_state     = "ANY"
    }
  }

  labels = var.labels

  depends_on = [google_project_service.apis]
}
