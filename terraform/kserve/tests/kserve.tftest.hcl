mock_provider "google" {}
mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  environment  = "dev"
  state_bucket = "my-project-terraform"
}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = {
      cluster_name = "alexnet"
      location     = "europe-west4-b"
      namespace    = "alexnet"
      project_id   = "my-project"
    }
  }
}

override_data {
  target = data.google_container_cluster.this
  values = {
    endpoint = "172.16.0.2"
  }
}

run "by_default_standard_mode_and_the_gateway_api" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.controller.deploymentMode == "Standard" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.enableGatewayApi
    )
    error_message = "another mode, or no Gateway API"
  }
  assert {
    condition     = length(helm_release.knative_operator) + length(helm_release.knative_serving) == 0
    error_message = "Knative is installed"
  }
}

run "by_default_services_answer_within_the_cluster_alone" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.disableIngressCreation &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.disableIstioVirtualHost &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.domain == "svc.cluster.local" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.domainTemplate == "{{ .Name }}-predictor.{{ .Namespace }}.{{ .IngressDomain }}"
    )
    error_message = "routes to a Gateway that is not there, or a URL where nothing answers"
  }
}

run "versions_are_pinned" {
  command = plan

  assert {
    condition = (
      helm_release.kserve.version == "v0.20.0" && helm_release.kserve_crd.version == "v0.20.0" &&
      helm_release.cert_manager.version == "v1.17.0"
    )
    error_message = "not the versions that belong together"
  }
  assert {
    condition     = helm_release.kserve.chart == "kserve-resources" && helm_release.kserve_crd.chart == "kserve-crd"
    error_message = "not KServe's charts"
  }
}

run "the_namespace_enforces_restricted_and_the_storage_initializer_fits" {
  command = plan

  assert {
    condition = (
      kubernetes_namespace_v1.service.metadata[0].name == "alexnet" &&
      kubernetes_namespace_v1.service.metadata[0].labels["pod-security.kubernetes.io/enforce"] == "restricted"
    )
    error_message = "another namespace, or another level"
  }
  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.storage.containerSecurityContext.seccompProfile.type == "RuntimeDefault" &&
      yamldecode(helm_release.kserve.values[0]).kserve.storage.containerSecurityContext.runAsNonRoot &&
      !yamldecode(helm_release.kserve.values[0]).kserve.storage.containerSecurityContext.allowPrivilegeEscalation
    )
    error_message = "the storage initializer would be refused there"
  }
}

run "knative_brings_its_operator_and_kourier_without_a_public_address" {
  command = plan
  variables {
    deployment_mode = "Knative"
  }

  assert {
    condition     = length(helm_release.knative_operator) == 1 && length(helm_release.knative_serving) == 1
    error_message = "Knative is not installed"
  }
  assert {
    condition     = endswith(helm_release.knative_operator[0].chart, "/knative-v1.21.1/knative-operator-v1.21.1.tgz")
    error_message = "another version of the operator"
  }
  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.controller.deploymentMode == "Knative" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.disableIstioVirtualHost &&
      !yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.enableGatewayApi
    )
    error_message = "KServe expects Istio or a Gateway"
  }
  assert {
    condition     = strcontains(file("${path.module}/charts/knative-serving/templates/knative-serving.yaml"), "service-type: ClusterIP")
    error_message = "Kourier has a public address"
  }
}

run "a_gateway_of_ones_own_gets_the_routes" {
  command = plan
  variables {
    gateway = { name = "gateways/shared", domain = "models.example.com" }
  }

  assert {
    condition = (
      !yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.disableIngressCreation &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.domain == "models.example.com" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.kserveGateway == "gateways/shared"
    )
    error_message = "no routes, or to another Gateway"
  }
}

run "a_cluster_that_is_not_there_ends_the_plan" {
  command = plan

  override_data {
    target = data.google_container_cluster.this
    values = {
      endpoint = ""
    }
  }
  expect_failures = [data.google_container_cluster.this]
}

run "the_cluster_is_the_one_of_the_environment" {
  command = plan
  variables {
    environment = "prod"
  }

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = {
        cluster_name = "cats"
        location     = "us-central1"
        namespace    = "cats"
        project_id   = "my-project-prod"
      }
    }
  }

  assert {
    condition = (
      data.terraform_remote_state.cluster.config.bucket == "my-project-terraform" &&
      data.terraform_remote_state.cluster.config.prefix == "prod/cluster"
    )
    error_message = "the state of another environment"
  }
  assert {
    condition = (
      data.google_container_cluster.this.name == "cats" && data.google_container_cluster.this.location == "us-central1" &&
      kubernetes_namespace_v1.service.metadata[0].name == "cats"
    )
    error_message = "another cluster or namespace"
  }
}

run "a_cluster_that_was_not_applied_ends_the_plan" {
  command = plan

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = {}
    }
  }
  expect_failures = [data.terraform_remote_state.cluster]
}
