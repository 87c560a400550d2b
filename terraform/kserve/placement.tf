# Where this folder's pods run, and where their images come from.

locals {
  # A label of terraform/cluster's node pools. On the serving nodes, which are spot and come and go with the load, a webhook
  # would go with its node, and refuse the very pods that replace what the node lost (failurePolicy: Fail).
  system_nodes = { "torchserve-alexnet/role" = "system" }

  # For charts that know affinity alone.
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

  # What stands before the name of an image of Docker Hub: the mirror in Artifact Registry where terraform/cluster made one.
  docker_hub = local.cluster.docker_hub_mirror == "" ? "" : "${local.cluster.docker_hub_mirror}/"
}
