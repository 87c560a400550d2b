variable "cert_manager_version" {
  description = "Version of the cert-manager chart. KServe 0.20 needs its Certificate and Issuer, cert-manager.io/v1, and is tested by its makers with v1.17, which has no support any more."
  type        = string
  default     = "v1.21.1"
  nullable    = false

  # Older charts do not put all pods on the nodes that global.nodeSelector names.
  validation {
    condition     = can(regex("^v1\\.[2-9][0-9]\\.[0-9]+$", var.cert_manager_version))
    error_message = "cert_manager_version: a release such as v1.21.1, v1.20 or later."
  }
}

variable "deployment_mode" {
  description = "What KServe makes of a service that does not say: Standard (a Deployment) or Knative, which is then installed."
  type        = string
  default     = "Standard"
  nullable    = false

  validation {
    condition     = contains(["Standard", "Knative"], var.deployment_mode)
    error_message = "deployment_mode: Standard or Knative (RawDeployment and Serverless are their old names)."
  }
}

variable "environment" {
  description = "Name of the environment, as in terraform/environments: terraform/cluster keeps its state at ENVIRONMENT/cluster."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.environment))
    error_message = "environment: 1 to 20 of a-z 0-9 -, beginning with a letter and not ending with a dash: dev, for example."
  }
}

variable "gateway" {
  description = <<-EOT
    For Standard mode, a Gateway of yours that KServe attaches every service to: its name as NAMESPACE/NAME, and the
    domain beneath which it is reached. KServe 0.20 makes routes by regular expressions, which GKE's own classes of
    Gateways refuse (kserve/kserve#5319), and which ask nobody for keys. Null: services answer within the cluster alone,
    and kserve/components/public-endpoint opens one of them.
  EOT
  type = object({
    name   = string
    domain = string
  })
  default = null

  validation {
    condition     = var.gateway == null || can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.gateway.name))
    error_message = "gateway.name: NAMESPACE/NAME, each 1 to 63 of a-z 0-9 -, with a letter or a digit at both ends."
  }
  validation {
    condition     = var.gateway == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.gateway.domain))
    error_message = "gateway.domain: a domain such as models.example.com."
  }
  validation {
    condition     = var.gateway == null || var.deployment_mode == "Standard"
    error_message = "gateway: for deployment_mode Standard; Knative has routes of its own."
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
    error_message = "knative_version: a release such as v1.21.1, v1.15 or later."
  }
}

variable "kserve_version" {
  description = "Version of the KServe charts."
  type        = string
  default     = "v0.20.0"
  nullable    = false

  # Charts before 0.20 are named and cut otherwise.
  validation {
    condition     = can(regex("^v0\\.20\\.[0-9]+$", var.kserve_version))
    error_message = "kserve_version: a release of 0.20, such as v0.20.0."
  }
}

variable "state_bucket" {
  description = "The bucket of terraform/cluster's state (terraform/state's output bucket_name)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.state_bucket))
    error_message = "state_bucket: a bucket's name alone, without gs:// or a path."
  }
}
