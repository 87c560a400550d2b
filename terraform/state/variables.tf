variable "bucket_name" {
  description = "Name of the bucket for state, unique in all of Cloud Storage. Null: PROJECT_ID-terraform."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name: 3 to 63 characters of a-z 0-9 _ -, beginning and ending with a letter or a digit."
  }
  validation {
    condition     = var.bucket_name == null || !can(regex("^goog|google", var.bucket_name))
    error_message = "bucket_name: Cloud Storage refuses names that begin with goog or contain google."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the bucket. For a teardown: apply with false, then destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "location" {
  description = "Where the bucket is: a region (europe-west4) or a multi-region (EU, US, ASIA)."
  type        = string
  default     = "europe-west4"
  nullable    = false

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]+|EU|US|ASIA)$", var.location))
    error_message = "location: must be a region such as europe-west4, or EU, US or ASIA. Buckets are not in zones."
  }
}

variable "noncurrent_days" {
  description = "Days after which a version of state that is no longer current is deleted; the newest ten are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days == floor(var.noncurrent_days)
    error_message = "noncurrent_days: must be a whole number, 1 or more."
  }
}

variable "project_id" {
  description = "The project, by its ID (not its name or number)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id: 6 to 30 characters of a-z 0-9 -, beginning with a letter: the ID, not the name or the number."
  }
}

variable "writers" {
  description = "Who else may plan and apply, and so read and write state: user:…, group:… or serviceAccount:…."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for writer in var.writers : can(regex("^(user|group|serviceAccount):[^@\\s]+@[^@\\s]+$", writer))])
    error_message = "writers: must be user:NAME@DOMAIN, group:… or serviceAccount:…, never the public."
  }
}
