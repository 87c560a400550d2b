variable "cert_manager_version" {
  description = "Version of the cert-manager chart. KServe 0.20 needs its Certificate and Issuer, cert-manager.io/v1; KServe's own tests use v1.17, which is no longer supported."
  type        = string
  default     = "v1.21.1"
  nullable    = false

  # Older charts do not place all pods by global.nodeSelector.
  validation {
    condition     = can(regex("^v1\\.[2-9][0-9]\\.[0-9]+$", var.cert_manager_version))
    error_message = "cert_manager_version: must be a release such as v1.21.1, v1.20 or later."
  }
}

variable "deployment_mode" {
  description = "KServe's default mode for a service: Standard (a Deployment), or Knative, which is then installed."
  type        = string
  default     = "Standard"
  nullable    = false

  validation {
    condition     = contains(["Standard", "Knative"], var.deployment_mode)
    error_message = "deployment_mode: must be Standard or Knative (RawDeployment and Serverless are their old names)."
  }
}

variable "environment" {
  description = "Name of the environment, as in terraform/environments: terraform/cluster keeps its state at ENVIRONMENT/cluster."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.environment))
    error_message = "environment: 1 to 20 characters of a-z 0-9 -, beginning with a letter and not ending with a hyphen, such as dev."
  }
}

variable "gateway" {
  description = <<-EOT
    For Standard mode, your own Gateway, to which KServe attaches every service: its name as NAMESPACE/NAME, and the
    domain under which it is reached. KServe 0.20 creates routes with regular expressions, which GKE's own Gateway classes
    refuse (kserve/kserve#5319), and which require no keys. Null: services answer only within the cluster, and
    kserve/components/public-endpoint publishes one of them.
  EOT
  type = object({
    name   = string
    domain = string
  })
  default = null

  validation {
    condition     = var.gateway == null || can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.gateway.name))
    error_message = "gateway.name: must be NAMESPACE/NAME, each 1 to 63 characters of a-z 0-9 -, beginning and ending with a letter or a digit."
  }
  validation {
    condition     = var.gateway == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.gateway.domain))
    error_message = "gateway.domain: must be a domain such as models.example.com."
  }
  validation {
    condition     = var.gateway == null || var.deployment_mode == "Standard"
    error_message = "gateway: only for deployment_mode Standard; Knative has its own routes."
  }
}

variable "knative_version" {
  description = "Version of the Knative operator, and so of Knative Serving; the default is the one that KServe 0.20 is tested with."
  type        = string
  default     = "v1.21.1"
  nullable    = false

  # Older ones refuse a startup probe: kserve/components/knative.
  validation {
    condition     = can(regex("^v1\\.(1[5-9]|[2-9][0-9])\\.[0-9]+$", var.knative_version))
    error_message = "knative_version: must be a release such as v1.21.1, v1.15 or later."
  }
}

variable "kserve_version" {
  description = "Version of the KServe charts."
  type        = string
  default     = "v0.20.0"
  nullable    = false

  # Charts before 0.20 have other names and contents.
  validation {
    condition     = can(regex("^v0\\.20\\.[0-9]+$", var.kserve_version))
    error_message = "kserve_version: must be a release of 0.20, such as v0.20.0."
  }
}

variable "state_bucket" {
  description = "The bucket of terraform/cluster's state (terraform/state's output bucket_name)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.state_bucket))
    error_message = "state_bucket: must be only the bucket's name, without gs:// or a path."
  }
}
