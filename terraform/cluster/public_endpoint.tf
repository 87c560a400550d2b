# Google's part between the internet and a service: an address, a certificate, and limits on who may call and how often.
# kserve/components/public-endpoint finds each by its name, SERVICE-public. docs/endpoint.md says how to publish.
locals {
  public_apis = length(var.public_endpoints) == 0 ? [] : ["certificatemanager.googleapis.com", "iap.googleapis.com"]

  iap_members = merge([
    for service, endpoint in var.public_endpoints : {
      for member in endpoint.iap_members : "${service} ${member}" => { hostname = endpoint.hostname, member = member }
    }
  ]...)
}

resource "google_compute_global_address" "public" {
  for_each = var.public_endpoints

  name        = "${each.key}-public"
  description = "Of ${each.value.hostname}"
  labels      = var.labels

  depends_on = [google_project_service.apis]
}

# --- HTTPS ------------------------------------------------------------------------------------------------------------

# With a DNS record, the certificate is issued before the address exists, and renewed independently of the load balancer.
resource "google_certificate_manager_dns_authorization" "public" {
  for_each = var.public_endpoints

  name   = "${each.key}-public"
  domain = each.value.hostname
  labels = var.labels

  depends_on = [google_project_service.apis]
}

resource "google_certificate_manager_certificate" "public" {
  for_each = var.public_endpoints

  name   = "${each.key}-public"
  labels = var.labels

  managed {
    domains            = [each.value.hostname]
    dns_authorizations = [google_certificate_manager_dns_authorization.public[each.key].id]
  }
}

resource "google_certificate_manager_certificate_map" "public" {
  for_each = var.public_endpoints

  name   = "${each.key}-public"
  labels = var.labels

  depends_on = [google_project_service.apis]
}

resource "google_certificate_manager_certificate_map_entry" "public" {
  for_each = var.public_endpoints

  name         = "${each.key}-public"
  map          = google_certificate_manager_certificate_map.public[each.key].name
  hostname     = each.value.hostname
  certificates = [google_certificate_manager_certificate.public[each.key].id]
  labels       = var.labels
}

resource "google_compute_ssl_policy" "public" {
  for_each = var.public_endpoints

  name            = "${each.key}-public"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.apis]
}

# --- Who may call, and how often --------------------------------------------------------------------------------------

resource "google_compute_security_policy" "public" {
  #checkov:skip=CKV_GCP_73:Log4j here is 2.17, which does no lookups, and Envoy passes no client text to it.
  for_each = var.public_endpoints

  name        = "${each.key}-public"
  description = "In front of ${each.value.hostname}"
  type        = "CLOUD_ARMOR"
  labels      = var.labels

  rule {
    action      = "throttle"
    priority    = 1000
    description = "Requests a minute from one address"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }

    # By address only: anything that a client sends, such as a key, it could change with each request.
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"

      rate_limit_threshold {
        count        = each.value.requests_per_minute
        interval_sec = 60
      }
    }
  }

  # Every policy has this default rule. If the rule above were ever removed, nobody would get in.
  rule {
    action      = "deny(403)"
    priority    = 2147483647
    description = "Nobody else"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.apis]
}

# Who may pass the Identity-Aware Proxy. GKE chooses the names of the load balancer's backends, so the role applies to
# everything behind that proxy in the project, and its condition limits it to this host.
resource "google_iap_web_iam_member" "public" {
  for_each = local.iap_members

  role   = "roles/iap.httpsResourceAccessor"
  member = each.value.member

  condition {
    title      = each.value.hostname
    expression = "request.host == \"${each.value.hostname}\""
  }

  depends_on = [google_project_service.apis]
}
