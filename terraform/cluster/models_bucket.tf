locals {
  bucket_name = coalesce(var.bucket_name, "${var.project_id}-models")
}

resource "google_storage_bucket" "models" {
  #checkov:skip=CKV_GCP_62:Google advises audit logs in place of usage logs, and those are the project's to switch on.
  name     = local.bucket_name
  location = local.region # where the nodes are: every new pod downloads an archive

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
  force_destroy   = !var.deletion_protection

  # A published version is never overwritten; this is for what is deleted by mistake.
  versioning {
    enabled = true
  }

  # For what is deleted for good by mistake, the bucket included. Unprotected, nothing is kept, nor billed, afterwards.
  soft_delete_policy {
    retention_duration_seconds = var.deletion_protection ? 7 * 24 * 60 * 60 : 0
  }

  # Both conditions must hold: the two newest stay in any case.
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

  # Parts of uploads that nobody went on with (scripts/publish.sh).
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
