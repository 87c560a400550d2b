# Signs the certificates of KServe's webhooks, and renews them.
resource "helm_release" "cert_manager" {
  name             = "cert-manager"
  repository       = "https://charts.jetstack.io"
  chart            = "cert-manager"
  version          = var.cert_manager_version
  namespace        = "cert-manager"
  create_namespace = true
  timeout          = local.timeout

  values = [yamlencode({
    crds = { enabled = true }
    global = {
      # By default cert-manager elects its leader in kube-system, which GKE reserves for itself.
      leaderElection = { namespace = "cert-manager" }
      nodeSelector   = local.system_nodes # of all its pods, including the final check's job
    }
  })]
}
