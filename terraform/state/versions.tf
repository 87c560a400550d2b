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
}
