# Where this folder's pods run, and where their images come from.

locals {
  # A label of terraform/cluster's node pools. Serving nodes are spot nodes that come and go with the load. A webhook there
  # would disappear with its node, and so block the very pods that replace the lost ones (failurePolicy: Fail).
  system_nodes = { "torchserve-alexnet/role" = "system" }

  # For charts that support only affinity.
  only_system_nodes = {
    nodeAffinity = {
      requiredDuringSchedulingIgnoredDuringExecution = {
        nodeSelectorTerms = [{
          matchExpressions = [
            for label, value in local.system_nodes : { key = label, operator = "In", values = [value] }
          ]
        }]
      }
    }
  }

  # The prefix for Docker Hub images: the mirror in Artifact Registry, if terraform/cluster created one.
  docker_hub = local.cluster.docker_hub_mirror == "" ? "" : "${local.cluster.docker_hub_mirror}/"
}
