terraform {
  required_version = ">= 1.9"

  # No backend: this folder makes the bucket that the others keep their state in, so its own stays on this machine.

  # Each range begins with what the tests know: ../README.md says whom that leaves out.
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

provider "google" {
  project = var.project_id

  # Requests count for this project. Else those of a login of gcloud's count for a project of Google's, which some APIs
  # refuse: the provider does not read the quota project of Application Default Credentials.
  user_project_override = true
  billing_project       = var.project_id
}
