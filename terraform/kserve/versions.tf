terraform {
  required_version = ">= 1.9"

  # Bucket and prefix, one for each environment, are named at init: terraform/state prints the line.
  backend "gcs" {}

  # Each range begins with what the tests know: ../README.md says whom that leaves out.
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
