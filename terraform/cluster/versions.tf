terraform {
  required_version = ">= 1.9"

  # Bucket and prefix, one for each environment, are named at init: terraform/state prints the line.
  backend "gcs" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.0"
    }
  }
}

provider "google" {
  project = var.project_id
  region  = local.region
}
