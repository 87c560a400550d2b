locals {
  charts  = "oci://ghcr.io/kserve/charts"
  knative = var.deployment_mode == "Knative"

  # Seconds that a release may take, there and back: a node for it must be made first, perhaps, and images pulled.
  timeout = 900

  # Without a Gateway the URL of a service is where it answers: within the cluster.
  domain          = var.gateway == null ? "svc.cluster.local" : var.gateway.domain
  domain_template = var.gateway == null ? "{{ .Name }}-predictor.{{ .Namespace }}.{{ .IngressDomain }}" : "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"
}

# Apart from the rest, as KServe has it: CRDs outlive what uses them, and are there before it.
resource "helm_release" "kserve_crd" {
  name             = "kserve-crd"
  repository       = local.charts
  chart            = "kserve-crd"
  version          = var.kserve_version
  namespace        = "kserve"
  create_namespace = true
  timeout          = local.timeout
}

resource "helm_release" "kserve" {
  name       = "kserve"
  repository = local.charts
  chart      = "kserve-resources"
  version    = var.kserve_version
  namespace  = helm_release.kserve_crd.namespace
  timeout    = local.timeout

  values = [yamlencode({
    kserve = {
      # Agent and router are put into pods that ask for a logger, a batcher or a graph.
      agent  = { image = "${local.docker_hub}kserve/agent" }
      router = { image = "${local.docker_hub}kserve/router" }
      controller = {
        image          = "${local.docker_hub}kserve/kserve-controller"
        nodeSelector   = local.system_nodes
        deploymentMode = var.deployment_mode
        gateway = {
          domain         = local.domain
          domainTemplate = local.domain_template
          # Without a Gateway there is nothing that a route could attach to, and no service would ever be ready.
          disableIngressCreation = !local.knative && var.gateway == null
          # Istio is not there; Knative's own routes are Kourier's.
          disableIstioVirtualHost = true
          ingressGateway = {
            # With it, KServe does not start where the kinds of the Gateway API are not there.
            enableGatewayApi = var.gateway != null
            # Read only with the Gateway API, but then it must be a name.
            kserveGateway = var.gateway == null ? "kserve/kserve-ingress-gateway" : var.gateway.name
          }
        }
      }
      storage = {
        # Every replica begins with it, so every new serving node pulls it.
        image = "${local.docker_hub}kserve/storage-initializer"
        # What Pod Security asks for in a namespace that enforces restricted, whatever the pod itself says.
        containerSecurityContext = {
          allowPrivilegeEscalation = false
          privileged               = false
          runAsNonRoot             = true
          capabilities             = { drop = ["ALL"] }
          seccompProfile           = { type = "RuntimeDefault" }
        }
      }
    }
  })]

  depends_on = [helm_release.cert_manager, helm_release.knative_serving]
}
