# Signs the certificates of KServe's webhooks, and renews them.
resource "helm_release" "cert_manager" {
  name             = "cert-manager"
  repository       = "https://charts.jetstack.io"
  chart            = "cert-manager"
  version          = var.cert_manager_version
  namespace        = "cert-manager"
  create_namespace = true

  values = [yamlencode({
    crds = { enabled = true }
    # GKE keeps kube-system to itself, where cert-manager would choose its leader.
    global = { leaderElection = { namespace = "cert-manager" } }
  })]
}
