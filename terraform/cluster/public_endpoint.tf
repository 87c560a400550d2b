# What stands between the internet and a service, and is Google's: an address, a certificate, and who may ask how often.
# kserve/components/public-endpoint finds each by its name, SERVICE-public. docs/endpoint.md is the way to publish.
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

# By a record in DNS the certificate is there before the address is, and is renewed whatever the load balancer does.
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

# --- Who may ask, and how often ---------------------------------------------------------------------------------------

resource "google_compute_security_policy" "public" {
  #checkov:skip=CKV_GCP_73:Log4j here is 2.17, which looks nothing up, and Envoy hands it no text of a client's.
  for_each = var.public_endpoints

  name        = "${each.key}-public"
  description = "In front of ${each.value.hostname}"
  type        = "CLOUD_ARMOR"
  labels      = var.labels

  rule {
    action      = "throttle"
    priority    = 1000
    description = "What one address may ask in a minute"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }

    # By address alone: what a client says of itself, a key say, it could change with each request.
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

  # The one that every policy has. Should the rule above ever go, nobody gets in.
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

# Whom the Identity-Aware Proxy lets through. GKE names the load balancer's backends, so the role is on all of the project
# that is behind that proxy, and its condition keeps it to this host.
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
