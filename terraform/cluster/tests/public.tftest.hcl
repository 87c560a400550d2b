mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = 123456789012
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "alexnet-nodes@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:alexnet-nodes@my-project.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_compute_global_address" {
    defaults = {
      address = "203.0.113.7"
    }
  }
  mock_resource "google_certificate_manager_dns_authorization" {
    defaults = {
      dns_resource_record = [{
        name = "_acme-challenge.alexnet.example.com."
        type = "CNAME"
        data = "0.authorize.certificatemanager.goog."
      }]
    }
  }
}

variables {
  project_id = "my-project"
  services   = ["alexnet", "pets"]
}

run "by_default_nothing_can_be_reached_from_outside" {
  command = plan

  assert {
    condition = (
      length(google_compute_global_address.public) + length(google_certificate_manager_certificate.public) +
      length(google_compute_security_policy.public) + length(google_iap_web_iam_member.public) == 0
    )
    error_message = "something is public that nobody asked for"
  }
  assert {
    condition     = !anytrue([for api in ["certificatemanager", "iap"] : contains(keys(google_project_service.apis), "${api}.googleapis.com")])
    error_message = "an API is on that nothing uses"
  }
  assert {
    condition     = output.dns_records == ""
    error_message = "records for nothing"
  }
}

run "an_endpoint_has_an_address_a_certificate_and_https_of_today" {
  command = apply
  variables {
    public_endpoints = { alexnet = { hostname = "alexnet.example.com" } }
  }

  assert {
    condition = alltrue([
      for named in [
        google_compute_global_address.public, google_certificate_manager_certificate_map.public, google_compute_ssl_policy.public,
        google_compute_security_policy.public,
      ] : keys(named) == ["alexnet"] && named["alexnet"].name == "alexnet-public"
    ])
    error_message = "kserve/components/public-endpoint would not find it"
  }
  assert {
    condition = (
      google_certificate_manager_dns_authorization.public["alexnet"].domain == "alexnet.example.com" &&
      google_certificate_manager_certificate.public["alexnet"].managed[0].domains == tolist(["alexnet.example.com"]) &&
      google_certificate_manager_certificate.public["alexnet"].managed[0].dns_authorizations == tolist([google_certificate_manager_dns_authorization.public["alexnet"].id])
    )
    error_message = "the certificate is for another host, or waits for the load balancer"
  }
  assert {
    condition = (
      google_certificate_manager_certificate_map_entry.public["alexnet"].map == "alexnet-public" &&
      google_certificate_manager_certificate_map_entry.public["alexnet"].hostname == "alexnet.example.com" &&
      google_certificate_manager_certificate_map_entry.public["alexnet"].certificates == tolist([google_certificate_manager_certificate.public["alexnet"].id])
    )
    error_message = "the map does not lead to the certificate"
  }
  assert {
    condition     = google_compute_ssl_policy.public["alexnet"].min_tls_version == "TLS_1_2" && google_compute_ssl_policy.public["alexnet"].profile == "MODERN"
    error_message = "TLS of yesterday"
  }
  assert {
    condition     = alltrue([for api in ["certificatemanager", "iap"] : contains(keys(google_project_service.apis), "${api}.googleapis.com")])
    error_message = "an API is missing"
  }
  assert {
    condition     = output.dns_records == "_acme-challenge.alexnet.example.com. 300 IN CNAME 0.authorize.certificatemanager.goog.\nalexnet.example.com. 300 IN A 203.0.113.7"
    error_message = "other records: ${output.dns_records}"
  }
}

run "one_address_is_limited_and_without_that_rule_nobody_gets_in" {
  command = plan
  variables {
    public_endpoints = {
      alexnet = { hostname = "alexnet.example.com" }
      pets    = { hostname = "pets.example.com", requests_per_minute = 60 }
    }
  }

  assert {
    condition = alltrue([
      for service, count in { alexnet = 600, pets = 60 } : one([
        for rule in google_compute_security_policy.public[service].rule :
        rule.action == "throttle" && rule.match[0].config[0].src_ip_ranges == toset(["*"]) &&
        rule.rate_limit_options[0].enforce_on_key == "IP" && rule.rate_limit_options[0].exceed_action == "deny(429)" &&
        rule.rate_limit_options[0].rate_limit_threshold[0].count == count &&
        rule.rate_limit_options[0].rate_limit_threshold[0].interval_sec == 60
        if rule.priority == 1000
      ])
    ])
    error_message = "there is no limit"
  }
  assert {
    condition = alltrue([
      for policy in google_compute_security_policy.public :
      alltrue([for rule in policy.rule : rule.action != "allow"]) &&
      one([for rule in policy.rule : rule.action if rule.priority == 2147483647]) == "deny(403)"
    ])
    error_message = "there is a way in without a limit"
  }
}

run "the_proxy_lets_members_through_only_to_their_host" {
  command = plan
  variables {
    public_endpoints = {
      alexnet = { hostname = "alexnet.example.com", iap_members = ["group:ml@example.com", "serviceAccount:caller@my-project.iam.gserviceaccount.com"] }
      pets    = { hostname = "pets.example.com", iap_members = ["group:ml@example.com"] }
    }
  }

  assert {
    condition     = length(google_iap_web_iam_member.public) == 3
    error_message = "members are missing, or others are there"
  }
  assert {
    condition = (
      google_iap_web_iam_member.public["pets group:ml@example.com"].role == "roles/iap.httpsResourceAccessor" &&
      google_iap_web_iam_member.public["pets group:ml@example.com"].member == "group:ml@example.com" &&
      google_iap_web_iam_member.public["pets group:ml@example.com"].condition[0].expression == "request.host == \"pets.example.com\""
    )
    error_message = "the role is another, or is for every host of the project"
  }
}
