locals {
  charts  = "oci://ghcr.io/kserve/charts"
  knative = var.deployment_mode == "Knative"

  # Seconds that installing or removing a release may take: it may first need a new node, and pulls images.
  timeout = 900

  # Without a Gateway the URL of a service is where it answers: within the cluster.
  domain          = var.gateway == null ? "svc.cluster.local" : var.gateway.domain
  domain_template = var.gateway == null ? "{{ .Name }}-predictor.{{ .Namespace }}.{{ .IngressDomain }}" : "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"
}

# A separate release, as in KServe: CRDs exist before their users, and outlive them.
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
      # KServe adds agent and router to pods that request a logger, a batcher or a graph.
      agent  = { image = "${local.docker_hub}kserve/agent" }
      router = { image = "${local.docker_hub}kserve/router" }
      controller = {
        image          = "${local.docker_hub}kserve/kserve-controller"
        nodeSelector   = local.system_nodes
        deploymentMode = var.deployment_mode
        gateway = {
          domain         = local.domain
          domainTemplate = local.domain_template
          # Without a Gateway there is nothing for a route to attach to, and no service would ever be ready.
          disableIngressCreation = !local.knative && var.gateway == null
          # Istio is not installed; Kourier serves Knative's routes.
          disableIstioVirtualHost = true
          ingressGateway = {
            # With it, KServe does not start unless the Gateway API's kinds exist.
            enableGatewayApi = var.gateway != null
            # Used only with the Gateway API, but it must always be a name.
            kserveGateway = var.gateway == null ? "kserve/kserve-ingress-gateway" : var.gateway.name
          }
        }
      }
      storage = {
        # Every replica starts with it, so every new serving node pulls it.
        image = "${local.docker_hub}kserve/storage-initializer"
        # What Pod Security requires of each container in a namespace that enforces restricted.
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
