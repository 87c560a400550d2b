terraform {
  required_version = ">= 1.9"

  # Bucket and prefix, one for each environment, are given at init: terraform/state prints the command.
  backend "gcs" {}

  # Each range begins with the version that the tests use: ../README.md says whom that excludes.
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

provider "google" {
  project = var.project_id
  region  = local.region

  # Requests count against this project's quota. Otherwise those of a gcloud login count against a project of Google's, which
  # some APIs refuse: the provider does not read the quota project of Application Default Credentials.
  user_project_override = true
  billing_project       = var.project_id
}
