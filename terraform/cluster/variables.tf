variable "authorized_networks" {
  description = "Networks that may reach the control plane by its addresses: name => CIDR. None, and it has none outside."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for network in values(var.authorized_networks) : can(cidrnetmask(network)) && try(cidrsubnet(network, 0, 0) == network, false)])
    error_message = "authorized_networks: each value is a CIDR of IPv4 that begins at its first address, such as 203.0.113.0/24."
  }
  validation {
    condition     = alltrue([for network in values(var.authorized_networks) : try(tonumber(split("/", network)[1]) >= 8, true)])
    error_message = "authorized_networks: a network wider than /8 is the world: use dns_endpoint, where IAM decides."
  }
}

variable "bucket_name" {
  description = "Name of the bucket for archives, unique in all of Cloud Storage. Null: PROJECT_ID-models."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null || can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name: 3 to 63 of a-z 0-9 _ -, with a letter or a digit at both ends."
  }
  validation {
    condition     = var.bucket_name == null || !can(regex("^goog|google", var.bucket_name))
    error_message = "bucket_name: Cloud Storage refuses names that begin with goog or contain google."
  }
}

variable "budget" {
  description = <<-EOT
    What the project may cost in a month, in whole units of the billing account's `currency`: at 50, 90 and 100 %, and once 100 % is
    foreseen, mails go to those who administer `billing_account`, and to `emails` of `monitoring`. Nothing is switched off. Null: none.
  EOT
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "budget: billing_account is its ID, such as 012345-6789AB-CDEF01: gcloud billing accounts list."
  }
  validation {
    condition     = try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, var.budget == null)
    error_message = "budget: amount is a whole number, 1 or more."
  }
  validation {
    condition     = try(var.budget.currency, null) == null || can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget: currency is three capitals, such as EUR, and that of the billing account; without it, that is taken."
  }
}

variable "cluster_name" {
  description = "Name of the cluster, of its network, and the beginning of what belongs to it."
  type        = string
  default     = "alexnet"
  nullable    = false

  # Shorter than GKE's 40: with -nodes or -build it is a service account, which has 6 to 30.
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.cluster_name))
    error_message = "cluster_name: 2 to 24 of a-z 0-9 -, beginning with a letter and not ending with a dash."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the cluster and the bucket. For a teardown: apply with false, then destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "dns_endpoint" {
  description = "Whether the control plane is reached by its DNS name, by those whom IAM lets (container.clusters.connect)."
  type        = bool
  default     = true
  nullable    = false
}

variable "docker_hub_mirror" {
  description = "Whether nodes pull images of Docker Hub, KServe's storage initializer among them, through Artifact Registry."
  type        = bool
  default     = true
  nullable    = false
}

variable "github" {
  description = <<-EOT
    The repository at GitHub whose workflow plans and applies (.github/workflows/terraform.yml): its number, which
    `gh api repos/OWNER/NAME --jq .id` prints, and its environment there. What is on main is let in. Null: none.
  EOT
  type = object({
    repository_id = string
    environment   = string
  })
  default = null

  validation {
    condition     = var.github == null || can(regex("^[0-9]+$", var.github.repository_id))
    error_message = "github.repository_id: the number that gh api repos/OWNER/NAME --jq .id prints."
  }
  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$", var.github.environment))
    error_message = "github.environment: the name of an environment of the repository, such as prod, of 60 characters at most."
  }
  validation {
    condition     = var.github == null || !startswith(var.cluster_name, "gcp-")
    error_message = "github: its pool of identities begins with cluster_name, and Google keeps what begins with gcp- to itself."
  }
}

variable "ip_ranges" {
  description = "Private ranges of nodes, pods and services, which may not overlap."
  type = object({
    nodes    = optional(string, "10.0.0.0/22")
    pods     = optional(string, "10.4.0.0/16")
    services = optional(string, "10.8.0.0/20")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for range in values(var.ip_ranges) : try(cidrsubnet(range, 0, 0) == range, false)])
    error_message = "ip_ranges: each is a CIDR that begins at its first address, such as 10.0.0.0/22."
  }
  # Two ranges overlap where both are the same at the shorter of their prefixes.
  validation {
    condition = alltrue(flatten([
      for i, one in values(var.ip_ranges) : [
        for j, other in values(var.ip_ranges) : try(
          cidrhost("${split("/", one)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0) !=
          cidrhost("${split("/", other)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0),
          true, # not a CIDR, as said above
        ) if i < j
      ]
    ]))
    error_message = "ip_ranges: no two may overlap."
  }
  validation {
    condition     = alltrue([for range in values(var.ip_ranges) : can(regex(local.private_range, range))])
    error_message = "ip_ranges: private ranges only, in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "labels" {
  description = "Labels of everything that is billed, for the bill."
  type        = map(string)
  default     = { application = "torchserve-alexnet" }
  nullable    = false

  validation {
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels: a-z 0-9 _ -, 63 characters at most, keys beginning with a letter."
  }
}

# One zone by default: GKE's free tier pays the management fee of one zonal cluster for each billing account.
variable "location" {
  description = "Zone (europe-west4-b) or region (europe-west4: three zones, no free tier) of the cluster, with c3 machines."
  type        = string
  default     = "europe-west4-b"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+(-[a-z])?$", var.location))
    error_message = "location: a zone such as europe-west4-b, or a region such as europe-west4."
  }
}

variable "maintenance_exclusions" {
  description = <<-EOT
    Times in which GKE upgrades nothing by itself, by name: from `start` to `end`, such as 2027-11-19T00:00:00Z. `scope`: NO_UPGRADES,
    NO_MINOR_UPGRADES or NO_MINOR_OR_NODE_UPGRADES. GKE bounds how long and how many they may be.
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
    error_message = "maintenance_exclusions: start and end are times such as 2027-11-19T00:00:00Z, and the end is later."
  }
  validation {
    condition     = alltrue([for exclusion in values(var.maintenance_exclusions) : contains(["NO_UPGRADES", "NO_MINOR_UPGRADES", "NO_MINOR_OR_NODE_UPGRADES"], exclusion.scope)])
    error_message = "maintenance_exclusions: scope is NO_UPGRADES, NO_MINOR_UPGRADES or NO_MINOR_OR_NODE_UPGRADES."
  }
  validation {
    condition     = length(var.maintenance_exclusions) <= 20
    error_message = "maintenance_exclusions: 20 at most."
  }
}

variable "monitoring" {
  description = <<-EOT
    A dashboard and alerts on what kserve/components/monitoring-google collects: docs/watching.md. `emails` are told, and `channels`, which
    you have already (projects/PROJECT/notificationChannels/ID). `error_share` of the calls may fail, and 99 of 100 predictions may take
    `latency_s`. `services` have to be there always: all of `services`, if it is null. Null: no dashboard and no alert.
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
    error_message = "monitoring: emails are addresses such as ml@example.com."
  }
  validation {
    condition     = length(try(var.monitoring.emails, [])) <= 5
    error_message = "monitoring: five emails at most, which is what a budget takes; a group has one address."
  }
  validation {
    condition     = alltrue([for channel in try(var.monitoring.channels, []) : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "monitoring: channels are called projects/PROJECT/notificationChannels/ID: gcloud beta monitoring channels list."
  }
  validation {
    condition     = try(0 < var.monitoring.error_share && var.monitoring.error_share < 1 && 0 < var.monitoring.latency_s && var.monitoring.latency_s <= 120, var.monitoring == null)
    error_message = "monitoring: error_share is between 0 and 1, latency_s above 0 and at most 120, the last bound that is counted."
  }
  validation {
    condition     = try(length(setsubtract(var.monitoring.services, var.services)) == 0 && length(var.monitoring.services) > 0, try(var.monitoring.services, null) == null)
    error_message = "monitoring: services are some of services, at least one."
  }
}

variable "namespace" {
  description = "Namespace of the service; terraform/kserve makes it."
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

variable "node_pools" {
  description = <<-EOT
    Node pools by name. `role` is `serving`, for replicas of the service alone, or `system`, for all else. `max_nodes` and
    `min_nodes` are of the whole pool, over all of its `zones` (null: those of the cluster). `long_shutdown` gives pods 105 s instead of 15 when a spot node is
    taken away, which needs GKE 1.35. `gpu` adds GPUs, their driver (DEFAULT or LATEST) and a taint that keeps other pods
    away. `image_streaming` starts a container before all of its image is there. Each replica of the service asks for 2 CPUs and 6 GiB.
  EOT
  type = map(object({
    role         = optional(string, "serving")
    machine_type = string
    max_nodes    = number
    min_nodes    = optional(number, 0)
    spot         = optional(bool, true)
    zones        = optional(list(string))
    # Of no meaning where spot is false.
    long_shutdown = optional(bool, true)
    disk_gb       = optional(number, 50)
    gpu = optional(object({
      type   = string
      count  = optional(number, 1)
      driver = optional(string, "DEFAULT")
    }))
    # Null: where there is a GPU, whose image is the largest.
    image_streaming = optional(bool)
  }))
  default = {
    # Too small for a replica of the service, whose 2 CPUs are more than a node of this kind can give to pods.
    system = {
      role         = "system"
      machine_type = "e2-standard-2"
      spot         = false
      min_nodes    = 1
      max_nodes    = 3
    }
    # Sapphire Rapids: these CPUs multiply bfloat16 in hardware (AMX), which serves this model several times as fast.
    # A node holds one replica. Six at most (kserve/overlays/standard), one more while a version is rolled out, and two of
    # a canary.
    serving = {
      machine_type = "c3-standard-4"
      max_nodes    = 9
    }
  }
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.node_pools) : can(regex("^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", name))])
    error_message = "node_pools: names are 1 to 40 of a-z 0-9 -, beginning with a letter and not ending with a dash."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : can(regex("^[a-z][a-z0-9]*-[a-z0-9-]+$", pool.machine_type))])
    error_message = "node_pools: machine_type is one of Compute Engine's, such as c3-standard-4."
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
    error_message = "node_pools: role is system or serving."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.role != "system" || (!pool.spot && pool.gpu == null)])
    error_message = "node_pools: a pool with role = system has spot = false and no gpu: KServe's webhooks run there, and without them no replica is made."
  }
  validation {
    condition     = anytrue([for pool in values(var.node_pools) : pool.role == "system" && pool.min_nodes >= 1])
    error_message = "node_pools: one pool with role = \"system\", spot = false and min_nodes >= 1, or KServe has nowhere to stay."
  }
  validation {
    condition = alltrue(flatten([
      for pool in values(var.node_pools) : [for zone in coalesce(pool.zones, []) : can(regex("^${local.region}-[a-z]$", zone))]
    ]))
    error_message = "node_pools: zones are of the cluster's region, such as [\"europe-west4-b\", \"europe-west4-c\"]."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.zones == null ? true : length(pool.zones) == length(toset(pool.zones)) && length(pool.zones) > 0])
    error_message = "node_pools: zones are one or more, each once; leave them out for those of the cluster."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.disk_gb >= 20 && pool.disk_gb <= 65536 && floor(pool.disk_gb) == pool.disk_gb])
    error_message = "node_pools: disk_gb is a whole number, 20 or more; the image of the service and what it unpacks take some."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : pool.gpu == null || can(regex("^(n1|g2|g4|a2|a3|a4)-", pool.machine_type))])
    error_message = "node_pools: only machines of n1, g2, g4, a2, a3 and a4 have GPUs; nvidia-l4 goes with g2-standard-4."
  }
  validation {
    condition     = alltrue([for pool in values(var.node_pools) : (try(pool.gpu.type, null) == "nvidia-l4") == startswith(pool.machine_type, "g2-")])
    error_message = "node_pools: g2 machines have nvidia-l4 GPUs, and no others have."
  }
  validation {
    condition = alltrue([
      for pool in values(var.node_pools) :
      pool.gpu == null || (try(contains(["DEFAULT", "LATEST"], pool.gpu.driver), false) && contains([1, 2, 4, 8, 16], try(pool.gpu.count, 0)))
    ])
    error_message = "node_pools: gpu.driver is DEFAULT or LATEST, gpu.count one of 1, 2, 4, 8 and 16."
  }
}

variable "noncurrent_days" {
  description = "Days after which objects that were deleted or replaced go for good; the two newest of a name stay."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days == floor(var.noncurrent_days)
    error_message = "noncurrent_days: a whole number, 1 or more."
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

variable "public_endpoints" {
  description = <<-EOT
    Services that are reached from the internet, each by its name in `services`: what kserve/components/public-endpoint puts before
    them. `hostname` is yours; `requests_per_minute` is what Cloud Armor takes from one address; `iap_members` are those whom the
    Identity-Aware Proxy lets through, where kserve/components/public-endpoint-iap is used. None: nothing is reached from outside.
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
    error_message = "public_endpoints: each is one of services, which may read the bucket."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.public_endpoints) :
      can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]*[a-z0-9]$", endpoint.hostname)) && length(endpoint.hostname) <= 253
    ])
    error_message = "public_endpoints: hostname is one in lower case, such as alexnet.example.com; no wildcard, no dot at its end."
  }
  validation {
    condition     = length(distinct(values(var.public_endpoints)[*].hostname)) == length(var.public_endpoints)
    error_message = "public_endpoints: each service has a hostname of its own."
  }
  validation {
    condition = alltrue([
      for endpoint in values(var.public_endpoints) :
      1 <= endpoint.requests_per_minute && endpoint.requests_per_minute <= 1000000 && floor(endpoint.requests_per_minute) == endpoint.requests_per_minute
    ])
    error_message = "public_endpoints: requests_per_minute is a whole number from 1 to 1000000; without a limit nothing is published."
  }
  validation {
    condition = alltrue(flatten([
      for endpoint in values(var.public_endpoints) : [
        for member in endpoint.iap_members :
        can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|domain:[^@\\s]+|principal(Set)?://iam\\.googleapis\\.com/\\S+)$", member))
      ]
    ]))
    error_message = "public_endpoints: iap_members are user:NAME@DOMAIN, group:…, serviceAccount:…, domain:… or principalSet://…; never the public."
  }
}

variable "publisher" {
  description = "Who publishes archives and images: user:…, group:…, serviceAccount:…, principal://… or principalSet://…. Null: nobody is given the right."
  type        = string
  default     = null

  validation {
    condition     = var.publisher == null || can(regex("^((user|group|serviceAccount):[^@\\s]+@[^@\\s]+|principal(Set)?://iam\\.googleapis\\.com/\\S+)$", var.publisher))
    error_message = "publisher: user:NAME@DOMAIN, group:…, serviceAccount:…, principal://iam.googleapis.com/… or principalSet://…; never the public."
  }
}

variable "release_channel" {
  description = "GKE's release channel: RAPID, REGULAR, STABLE or EXTENDED."
  type        = string
  default     = "REGULAR"
  nullable    = false

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "release_channel: RAPID, REGULAR, STABLE or EXTENDED."
  }
}

variable "services" {
  description = "The services that read the bucket, each as a ServiceAccount of its name: InferenceServices are called as their model, or by deploy.sh --name."
  type        = set(string)
  default     = ["alexnet"]
  nullable    = false

  validation {
    condition     = length(var.services) > 0 && alltrue([for service in var.services : can(regex("^[a-z]([a-z0-9-]{0,45}[a-z0-9])?$", service))])
    error_message = "services: at least one name, 1 to 47 of a-z 0-9 -, beginning with a letter and not ending with a hyphen."
  }
}

variable "webhook_rule" {
  description = <<-EOT
    A firewall rule for the API server's calls to webhooks. `source_ranges` are where they come from; without them, the
    ranges of nodes and pods, where GKE's agents make these calls. Null: none; GKE's own rules are enough.
  EOT
  type = object({
    source_ranges = optional(set(string))
  })
  default = null

  validation {
    condition     = try(length(var.webhook_rule.source_ranges) > 0, true)
    error_message = "webhook_rule.source_ranges: at least one, or leave it out."
  }
  validation {
    condition = var.webhook_rule == null || alltrue([
      for range in coalesce(try(var.webhook_rule.source_ranges, null), []) :
      try(cidrsubnet(range, 0, 0) == range, false) && can(regex(local.private_range, range))
    ])
    error_message = "webhook_rule.source_ranges: private ranges that begin at their first address, such as 172.16.0.0/28; nobody else calls a webhook."
  }
}
