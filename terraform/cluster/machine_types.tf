# Which machines are available in a pool's zones, checked when Terraform plans: without this, GKE reports a missing one
# after a quarter of an hour, pool by pool. It needs compute.googleapis.com, and roles/compute.viewer.
data "google_compute_zones" "region" {
  region = local.region
}

data "google_compute_machine_types" "zone" {
  for_each = toset(data.google_compute_zones.region.names)

  zone   = each.key
  filter = join(" OR ", [for type in distinct(values(var.node_pools)[*].machine_type) : "(name = \"${type}\")"])
}

locals {
  # By pool: where its nodes are. In a region GKE uses three zones, and does not say beforehand which.
  pool_zones = { for name, pool in var.node_pools : name => sort(coalesce(
    pool.zones, local.region == var.location ? data.google_compute_zones.region.names : [var.location]
  )) }

  # By pool: the zones of the region that have its machines.
  zones_with = { for name, pool in var.node_pools : name => sort([
    for zone, offered in data.google_compute_machine_types.zone : zone
    if contains(offered.machine_types[*].name, pool.machine_type)
  ]) }

  # By pool: the architectures of its machines, X86_64 or ARM64.
  architectures = { for name, pool in var.node_pools : name => toset(flatten([
    for offered in data.google_compute_machine_types.zone : [
      for type in offered.machine_types : type.architecture if type.name == pool.machine_type
    ]
  ])) }
}
