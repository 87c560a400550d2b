# kserve/base adds the ServiceAccount alexnet, which may read the bucket.
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
    # Others, such as Istio or a policy engine, may add their own.
    ignore_changes = [metadata[0].annotations]
  }

  # At the teardown the order is reversed: services go while KServe is there to remove their finalizers.
  depends_on = [helm_release.kserve]
}
