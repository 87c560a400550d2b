terraform {
  required_version = ">= 1.9"

  # The bucket is named at init: terraform/state prints the line.
  backend "gcs" {
    prefix = "kserve"
  }

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.0"
    }
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 3.0"
    }
  }
}
