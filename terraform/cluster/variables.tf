variable "authorized_networks" {
  description = "Networks that may reach the control plane by its IP addresses: name => CIDR. Without any, it has no public address."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for network in values(var.authorized_networks) : can(cidrnetmask(network)) && try(cidrsubnet(network, 0, 0) == network, false)])
    error_message = "authorized_networks: each value must be an IPv4 CIDR with no host bits set, such as 203.0.113.0/24."
  }
  validation {
    condition     = alltrue([for network in values(var.authorized_networks) : try(tonumber(split("/", network)[1]) >= 8, true)])
    error_message = "authorized_networks: a network wider than /8 is too wide: use dns_endpoint, where IAM decides."
  }
}

variable "bucket_name" {
  description = "Name of the bucket for archives, unique in all of Cloud Storage. Null: PROJECT_ID-models."
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

variable "budget" {
  description = <<-EOT
    What the project may cost a month, in whole units of the billing account's `currency`: at 50, 90 and 100 %, and when 100 % is
    forecast, mails go to the administrators of `billing_account`, and to `emails` of `monitoring`. Nothing is switched off. Null: no budget.
  EOT
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget: billing_account must be its ID, such as 012345-6789AB-CDEF01: gcloud billing accounts list."
  }
  validation {
    condition     = try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, var.budget == null)
    error_message = "budget: amount must be a whole number, 1 or more."
  }
  validation {
    condition     = try(var.budget.currency, null) == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget: currency must be three capital letters, such as EUR, and the billing account's own; leave it out to use that."
  }
}

variable "cluster_name" {
  description = "Name of the cluster and of its network; the names of other resources begin with it."
  type        = string
  default     = "alexnet"
  nullable    = false

  # Shorter than GKE's 40: with -nodes or -build it names a service account, which has 6 to 30 characters.
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.cluster_name))
    error_message = "cluster_name: 2 to 24 characters of a-z 0-9 -, beginning with a letter and not ending with a hyphen."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the cluster and the bucket. For a teardown: apply with false, then destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "dns_endpoint" {
  description = "Whether the control plane can be reached by its DNS name, by anybody with the IAM permission container.clusters.connect."
  type        = bool
  default     = true
  nullable    = false
}

variable "docker_hub_mirror" {
  description = "Whether nodes pull Docker Hub images, including KServe's storage initializer, through Artifact Registry."
  type        = bool
  default     = true
  nullable    = false
}

variable "github" {
  description = <<-EOT
    The GitHub repository whose workflow plans and applies (.github/workflows/terraform.yml): its number, which
    `gh api repos/OWNER/NAME --jq .id` prints, and its GitHub environment. Only the main branch is let in. Null: none.
  EOT
  type = object({
    repository_id = string
    environment   = string
  })
  default = null

  validation {
    condition     = var.github == null || can(regex("^[0-9]+$", var.github.repository_id))
    error_message = "github.repository_id: must be the number that gh api repos/OWNER/NAME --jq .id prints."
  }
  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$", var.github.environment))
    error_message = "github.environment: must be the name of one of the repository's environments, such as prod, with at most 60 characters."
  }
  validation {
    condition     = var.github == null || !startswith(var.cluster_name, "gcp-")
    error_message = "github: the identity pool's name begins with cluster_name, and Google reserves names that begin with gcp-."
  }
}

variable "ip_ranges" {
  description = "Private IP ranges of nodes, pods and services, which may not overlap."
  type = object({
    nodes    = optional(string, "10.0.0.0/22")
    pods     = optional(string, "10.4.0.0/16")
    services = optional(string, "10.8.0.0/20")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for range in values(var.ip_ranges) : try(cidrsubnet(range, 0, 0) == range, false)])
    error_message = "ip_ranges: each must be a CIDR with no host bits set, such as 10.0.0.0/22."
  }
  # Two ranges overlap if they are equal at the shorter of their prefixes.
  validation {
    condition = alltrue(flatten([
      for i, one in values(var.ip_ranges) : [
        for j, other in values(var.ip_ranges) : try(
          cidrhost("${split("/", one)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0) !=
          cidrhost("${split("/", other)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0),
          true, # not a CIDR: refused above
        ) if i < j
      ]
    ]))
    error_message = "ip_ranges: no two may overlap."
  }
  validation {
    condition     = alltrue([for range in values(var.ip_ranges) : can(regex(local.private_range, range))])
    error_message = "ip_ranges: must be private, within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "labels" {
  description = "Labels for every billed resource, as the bill shows them."
  type        = map(string)
  default     = { application = "torchserve-alexnet" }
  nullable    = false

  validation {
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels: at most 63 characters of a-z 0-9 _ -, and a key begins with a letter."
  }
}

# One zone by default: GKE's free tier covers the management fee of one zonal cluster for each billing account.
variable "location" {
  description = "Zone (europe-west4-b) or region (europe-west4: three zones, no free tier) of the cluster; it must offer c3 machines."
  type        = string
  default     = "europe-west4-b"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+(-[a-z])?$", var.location))
    error_message = "location: must be a zone such as europe-west4-b, or a region such as europe-west4."
  }
}

variable "maintenance_exclusions" {
  description = <<-EOT
    Times without automatic upgrades by GKE, by name: from `start` to `end`, such as 2027-11-19T00:00:00Z. `scope`: NO_UPGRADES,
    NO_MINOR_UPGRADES or NO_MINOR_OR_NODE_UPGRADES. GKE limits their length and number.
  EOT
  type = map(object({
    start = string
    end   = string
    scope = optional(string, "NO_UPGRADES")
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for exclusion in values(var.maintenance_exclusions) : try(timecmp(exclusion.start, exclusion.end) < 0, false)])
    error_message = "maintenance_exclusions: start and end must be times such as 2027-11-19T00:00:00Z, and end must be the later one."
  }
  validation {
    condition     = alltrue([for exclusion in values(var.maintenance_exclusions) : contains(["NO_UPGRADES", "NO_MINOR_UPGRADES", "NO_MINOR_OR_NODE_UPGRADES"], exclusion.scope)])
    error_message = "maintenance_exclusions: scope must be NO_UPGRADES, NO_MINOR_UPGRADES or NO_MINOR_OR_NODE_UPGRADES."
  }
  validation {
    condition     = length(var.maintenance_exclusions) <= 20
    error_message = "maintenance_exclusions: at most 20."
  }
}

variable "monitoring" {
  description = <<-EOT
    A dashboard and alerts on the metrics of kserve/components/monitoring-google: docs/watching.md. Alerts go to `emails` and to existing
    `channels` (projects/PROJECT/notificationChannels/ID). An alert fires when more than `error_share` of the calls fail, when 1 in 100
    predictions takes longer than `latency_s`, or when one of `services` (null: all of the variable `services`) is down. Null: neither.
  EOT
  type = object({
    emails      = optional(set(string), [])
    channels    = optional(set(string), [])
    error_share = optional(number, 0.05)
    latency_s   = optional(number, 2.5)
    services    = optional(set(string))
  })
  default = null

  validation {
    condition     = alltrue([for email in try(var.monitoring.emails, []) : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "monitoring: emails must be addresses such as ml@example.com."
  }
  validation {
    condition     = length(try(var.monitoring.emails, [])) <= 5
    error_message = "monitoring: at most five emails, which is what a budget takes; use a group's address for more."
  }
  validation {
    condition     = alltrue([for channel in try(var.monitoring.channels, []) : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "monitoring: channels must have the form projects/PROJECT/notificationChannels/ID: gcloud beta monitoring channels list."
  }
  validation {
    condition     = try(0 < var.monitoring.error_share && var.monitoring.error_share < 1 && 0 < var.monitoring.latency_s && var.monitoring.latency_s <= 120, var.monitoring == null)
    error_message = "monitoring: error_share must be between 0 and 1, latency_s above 0 and at most 120, the largest histogram bound."
  }
  validation {
    condition     = try(length(setsubtract(var.monitoring.services, var.services)) == 0 && length(var.monitoring.services) > 0, try(var.monitoring.services, null) == null)
    error_message = "monitoring: services must be at least one of those in the variable services."
  }
}

variable "namespace" {
  description = "Namespace of the service; terraform/kserve creates it."
  type        = string
  default     = "alexnet"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace: 1 to 63 characters of a-z 0-9 -, beginning and ending with a letter or a digit."
  }
  validation {
    condition     = !startswith(var.namespace, "kube-") && !contains(["default", "kserve", "cert-manager"], var.namespace)
    error_message = "namespace: must be one of its own, since it enforces the Pod Security Standard restricted."
  }
}

variable "node_pools" {
  description = <<-EOT
    Node pools by name. `role` is `serving`, only for replicas of the service, or `system`, for everything else. `max_nodes` and
    `min_nodes` count the whole pool, over all of its `zones` (null: the cluster's). `long_shutdown` gives pods 105 s instead of 15 when a spot node is
    taken away; it needs GKE 1.35. `gpu` adds GPUs, their driver (DEFAULT or LATEST) and a taint that keeps other pods
    away. `image_streaming` starts a container before its whole image has arrived. Each replica of the service requests 2 CPUs and 6 GiB.
  EOT
  type = map(object({
    role         = optional(string, "serving")
    machine_type = string
    max_nodes    = number
    min_nodes    = optional(number, 0)
    spot         = optional(bool, true)
    zones        = optional(list(string))
    # Without effect where spot is false.
    long_shutdown = optional(bool, true)
    disk_gb       = optional(number, 50)
    gpu = optional(object({
      type   = string
      count  = optional(number, 1)
      driver = optional(string, "DEFAULT")
    }))
    # Null: only with a GPU, whose image is the largest.
    image_streaming = optional(bool)
  }))
  default = {
    # Too small for a replica of the service, whose 2 CPUs are more than such a node can give to pods.
    system = {
      role         = "system"
      machine_type = "e2-standard-2"
      spot         = false
      min_nodes    = 1
      max_nodes    = 3
    }
    # Sapphire Rapids: these CPUs multiply bfloat16 in hardware (AMX), which makes this model several times as fast.
    # A node holds one replica. At most six (kserve/overlays/standard), one more while a version is rolled out, and two for
    # a canary.
    serving = {
      machine_type = "c3-standard-4"
      max_nodes    = 9
    }
  }
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.node_pools) : can(regex("^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", name))])
    error_message = "node_pools: a name has 1 to 40 characters of a-z 0-9 -, beginning with a letter and not ending with a hyphen."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : can(regex("^[a-z][a-z0-9]*-[a-z0-9-]+$", pool.machine_type))])
    error_message = "node_pools: machine_type must be one of Compute Engine's, such as c3-standard-4."
  }
  validation {
    condition = alltrue([
      for pool in values(var.node_pools) :
      0 <= pool.min_nodes && pool.min_nodes <= pool.max_nodes && 1 <= pool.max_nodes && pool.max_nodes <= 1000 &&
      floor(pool.min_nodes) == pool.min_nodes && floor(pool.max_nodes) == pool.max_nodes
    ])
    error_message = "node_pools: 0 <= min_nodes <= max_nodes, and 1 <= max_nodes <= 1000, all whole numbers."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : contains(["system", "serving"], pool.role)])
    error_message = "node_pools: role must be system or serving."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.role != "system" || (!pool.spot && pool.gpu == null)])
    error_message = "node_pools: a pool with role = system must have spot = false and no gpu: KServe's webhooks run there, and without them no replica can be created."
  }
  validation {
    condition     = anytrue([for pool in values(var.node_pools) : pool.role == "system" && pool.min_nodes >= 1])
    error_message = "node_pools: must have a pool with role = \"system\", spot = false and min_nodes >= 1, or KServe has nowhere to run."
  }
  validation {
    condition = alltrue(flatten([
      for pool in values(var.node_pools) : [for zone in coalesce(pool.zones, []) : can(regex("^${local.region}-[a-z]$", zone))]
    ]))
    error_message = "node_pools: zones must be in the cluster's region, such as [\"europe-west4-b\", \"europe-west4-c\"]."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.zones == null ? true : length(pool.zones) == length(toset(pool.zones)) && length(pool.zones) > 0])
    error_message = "node_pools: zones must be one or more, each once; leave them out to use the cluster's."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.disk_gb >= 20 && pool.disk_gb <= 65536 && floor(pool.disk_gb) == pool.disk_gb])
    error_message = "node_pools: disk_gb must be a whole number, 20 to 65536; the serving image and the model need room."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.gpu == null || can(regex("^(n1|g2|g4|a2|a3|a4)-", pool.machine_type))])
    error_message = "node_pools: only n1, g2, g4, a2, a3 and a4 machines have GPUs; nvidia-l4 goes with g2-standard-4."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : (try(pool.gpu.type, null) == "nvidia-l4") == startswith(pool.machine_type, "g2-")])
    error_message = "node_pools: g2 machines need nvidia-l4 GPUs, and only g2 machines have them."
  }
  validation {
    condition = alltrue([
      for pool in values(var.node_pools) :
      pool.gpu == null || (try(contains(["DEFAULT", "LATEST"], pool.gpu.driver), false) && contains([1, 2, 4, 8, 16], try(pool.gpu.count, 0)))
    ])
    error_message = "node_pools: gpu.driver must be DEFAULT or LATEST, and gpu.count 1, 2, 4, 8 or 16."
  }
}

variable "noncurrent_days" {
  description = "Days after which deleted or replaced objects are removed for good; the two newest versions of each name are kept."
  type        = number
  default     = 30
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

variable "public_endpoints" {
  description = <<-EOT
    Services that can be reached from the internet, by their names in `services`: the resources that kserve/components/public-endpoint
    uses. `hostname` is yours; `requests_per_minute` is Cloud Armor's limit for one address; `iap_members` are those whom the
    Identity-Aware Proxy lets through, with kserve/components/public-endpoint-iap. None: nothing can be reached from outside.
  EOT
  type = map(object({
    hostname            = string
    requests_per_minute = optional(number, 600)
    iap_members         = optional(set(string), [])
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for service in keys(var.public_endpoints) : contains(var.services, service)])
    error_message = "public_endpoints: each must be one of services, which may read the bucket."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.public_endpoints) :
      can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]*[a-z0-9]$", endpoint.hostname)) && length(endpoint.hostname) <= 253
    ])
    error_message = "public_endpoints: hostname must be in lower case, such as alexnet.example.com, without a wildcard or a dot at its end."
  }
  validation {
    condition     = length(distinct(values(var.public_endpoints)[*].hostname)) == length(var.public_endpoints)
    error_message = "public_endpoints: each service needs its own hostname."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.public_endpoints) :
      1 <= endpoint.requests_per_minute && endpoint.requests_per_minute <= 1000000 && floor(endpoint.requests_per_minute) == endpoint.requests_per_minute
    ])
    error_message = "public_endpoints: requests_per_minute must be a whole number from 1 to 1000000; nothing is published without a limit."
  }
  validation {
    condition = alltrue(flatten([
      for endpoint in values(var.public_endpoints) : [
        for member in endpoint.iap_members :
        can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|domain:[^@\\s]+|principal(Set)?://iam\\.googleapis\\.com/\\S+)$", member))
      ]
    ]))
    error_message = "public_endpoints: iap_members must be user:NAME@DOMAIN, group:…, serviceAccount:…, domain:… or principalSet://…, never the public."
  }
}

variable "publisher" {
  description = "Who publishes archives and images: user:…, group:…, serviceAccount:…, principal://… or principalSet://…. Null: nobody."
  type        = string
  default     = null

  validation {
    condition     = var.publisher == null || can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|principal(Set)?://iam\\.googleapis\\.com/\\S+)$", var.publisher))
    error_message = "publisher: must be user:NAME@DOMAIN, group:…, serviceAccount:…, principal://iam.googleapis.com/… or principalSet://…, never the public."
  }
}

variable "release_channel" {
  description = "GKE's release channel: RAPID, REGULAR, STABLE or EXTENDED."
  type        = string
  default     = "REGULAR"
  nullable    = false

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "release_channel: must be RAPID, REGULAR, STABLE or EXTENDED."
  }
}

variable "services" {
  description = "The services that may read the bucket, each as the ServiceAccount of the same name: an InferenceService is named after its model, or by deploy.sh --name."
  type        = set(string)
  default     = ["alexnet"]
  nullable    = false

  validation {
    condition     = length(var.services) > 0 && alltrue([for service in var.services : can(regex("^[a-z]([a-z0-9-]{0,45}[a-z0-9])?$", service))])
    error_message = "services: at least one name of 1 to 47 characters of a-z 0-9 -, beginning with a letter and not ending with a hyphen."
  }
}

variable "webhook_rule" {
  description = <<-EOT
    A firewall rule for the API server's calls to webhooks. `source_ranges` are where the calls come from; by default, the
    ranges of nodes and pods, where GKE's agents make them. Null: no rule; GKE's own rules are enough.
  EOT
  type = object({
    source_ranges = optional(set(string))
  })
  default = null

  validation {
    condition     = try(length(var.webhook_rule.source_ranges) > 0, true)
    error_message = "webhook_rule.source_ranges: give at least one, or leave it out."
  }
  validation {
    condition = var.webhook_rule == null || alltrue([
      for range in coalesce(try(var.webhook_rule.source_ranges, null), []) :
      try(cidrsubnet(range, 0, 0) == range, false) && can(regex(local.private_range, range))
    ])
    error_message = "webhook_rule.source_ranges: must be private CIDRs with no host bits set, such as 172.16.0.0/28; nobody else calls a webhook."
  }
}
