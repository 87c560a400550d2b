locals {
  charts  = "oci://ghcr.io/kserve/charts"
  knative = var.deployment_mode == "Knative"

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
}

resource "helm_release" "kserve" {
  name       = "kserve"
  repository = local.charts
  chart      = "kserve-resources"
  version    = var.kserve_version
  namespace  = helm_release.kserve_crd.namespace

  values = [yamlencode({
    kserve = {
      controller = {
        deploymentMode = var.deployment_mode
        gateway = {
          domain         = local.domain
          domainTemplate = local.domain_template
          # Without a Gateway there is nothing that a route could attach to, and no service would ever be ready.
          disableIngressCreation = !local.knative && var.gateway == null
          # Istio is not there; Knative's own routes are Kourier's.
          disableIstioVirtualHost = true
          ingressGateway = {
            enableGatewayApi = !local.knative
            # KServe refuses to start without a name, used or not.
            kserveGateway = var.gateway == null ? "kserve/kserve-ingress-gateway" : var.gateway.name
          }
        }
      }
      storage = {
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
