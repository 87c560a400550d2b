variable "cert_manager_version" {
  description = "Version of the cert-manager chart; the default is the one that KServe 0.20 is tested with."
  type        = string
  default     = "v1.17.0"
  nullable    = false

  validation {
    condition     = can(regex("^v1\\.[0-9]+\\.[0-9]+$", var.cert_manager_version))
    error_message = "cert_manager_version: a release such as v1.17.0."
  }
}

variable "cluster_name" {
  description = "The cluster that terraform/cluster made (its output cluster_name)."
  type        = string
  default     = "alexnet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,38}[a-z0-9]$", var.cluster_name))
    error_message = "cluster_name: 2 to 40 of a-z 0-9 -, beginning with a letter and not ending with a dash."
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

variable "gateway" {
  description = <<-EOT
    For Standard mode, a Gateway of yours that KServe attaches every service to: its name as NAMESPACE/NAME, and the
    domain beneath which it is reached. Null: services answer within the cluster alone, and
    kserve/components/public-gateway opens one of them.
  EOT
  type = object({
    name   = string
    domain = string
  })
  default = null

  validation {
    condition     = var.gateway == null || can(regex("^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9-]{0,62}$", var.gateway.name))
    error_message = "gateway.name: NAMESPACE/NAME."
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

variable "location" {
  description = "The cluster's zone or region (terraform/cluster's output location)."
  type        = string
  default     = "europe-west4-b"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+(-[a-z])?$", var.location))
    error_message = "location: a zone such as europe-west4-b, or a region such as europe-west4."
  }
}

variable "namespace" {
  description = "Namespace of the service, the same as in terraform/cluster: it is part of who may read the bucket."
  type        = string
  default     = "alexnet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace: 1 to 63 of a-z 0-9 -, with a letter or a digit at both ends."
  }
  validation {
    condition     = !startswith(var.namespace, "kube-") && !contains(["default", "kserve", "cert-manager"], var.namespace)
    error_message = "namespace: one of its own, since it enforces the Pod Security Standard restricted."
  }
}

variable "project_id" {
  description = "The project, by its ID (not its name or number)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id: 6 to 30 of a-z 0-9 -, beginning with a letter: the ID, not the name or the number."
  }
}
