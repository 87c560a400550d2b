# The ServiceAccount alexnet in it, which may read the bucket, comes with kserve/base.
resource "kubernetes_namespace_v1" "service" {
  metadata {
    name = local.cluster.namespace

    labels = {
      "pod-security.kubernetes.io/enforce"         = "restricted"
      "pod-security.kubernetes.io/enforce-version" = "v1.31" # as in kserve/components/restricted-namespace
      "pod-security.kubernetes.io/warn"            = "restricted"
      "pod-security.kubernetes.io/warn-version"    = "v1.31"
    }
  }

  lifecycle {
    # What else others put on it, Istio or a policy engine say, is theirs.
    ignore_changes = [metadata[0].annotations]
  }

  # In reverse at the teardown: services go while KServe is there to take their finalizers away.
  depends_on = [helm_release.kserve]
}
