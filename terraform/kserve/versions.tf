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
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.3"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 3.4"
    }
  }
}
