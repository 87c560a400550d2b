resource "helm_release" "knative_operator" {
  count = local.knative ? 1 : 0

  name             = "knative-operator"
  chart            = "https://github.com/knative/operator/releases/download/knative-${var.knative_version}/knative-operator-${var.knative_version}.tgz"
  namespace        = "knative-operator"
  create_namespace = true
  timeout          = local.timeout

  values = [yamlencode({
    knative_operator = {
      knative_operator = { affinity = local.only_system_nodes }
      operator_webhook = { affinity = local.only_system_nodes }
    }
  })]
}

# The operator creates Knative Serving and Kourier from one object. The object is in a chart, because kubernetes_manifest
# would look up its kind when it plans, before the operator has installed it. Helm waits for Deployments, not for an object
# that creates some: a job in the chart does. KServe checks only once, when it starts, whether Knative's kinds exist.
resource "helm_release" "knative_serving" {
  count = local.knative ? 1 : 0

  name             = "knative-serving"
  chart            = "${path.module}/charts/knative-serving"
  namespace        = "knative-serving"
  create_namespace = true
  timeout          = local.timeout

  values = [yamlencode({
    domain       = local.domain
    nodeSelector = local.system_nodes
  })]

  depends_on = [helm_release.knative_operator]
}

# Knative's controller itself asks the registry for an image's digest, as its Kubernetes ServiceAccount (Workload Identity):
# the nodes' permission to pull does not apply to it.
resource "google_artifact_registry_repository_iam_member" "knative" {
  count = local.knative ? 1 : 0

  project    = local.cluster.project_id
  location   = trimsuffix(split("/", local.cluster.image_repository)[0], "-docker.pkg.dev")
  repository = split("/", local.cluster.image_repository)[2]
  role       = "roles/artifactregistry.reader"
  member = join("/", [
    "principal://iam.googleapis.com/projects/${local.cluster.project_number}",
    "locations/global/workloadIdentityPools/${local.cluster.project_id}.svc.id.goog",
    "subject/ns/${helm_release.knative_serving[0].namespace}/sa/controller",
  ])
}
