resource "helm_release" "knative_operator" {
  count = local.knative ? 1 : 0

  name             = "knative-operator"
  chart            = "https://github.com/knative/operator/releases/download/knative-${var.knative_version}/knative-operator-${var.knative_version}.tgz"
  namespace        = "knative-operator"
  create_namespace = true
}

# The operator makes Knative Serving and Kourier of one object. It is in a chart, because kubernetes_manifest would look
# for its kind when it plans, before the operator has brought it.
resource "helm_release" "knative_serving" {
  count = local.knative ? 1 : 0

  name             = "knative-serving"
  chart            = "${path.module}/charts/knative-serving"
  namespace        = "knative-serving"
  create_namespace = true

  values = [yamlencode({
    domain = local.domain
  })]

  depends_on = [helm_release.knative_operator]
}
