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
      # GKE keeps kube-system to itself, where cert-manager would choose its leader.
      leaderElection = { namespace = "cert-manager" }
      nodeSelector   = local.system_nodes # of all its pods, the job of the check at the end among them
    }
  })]
}
