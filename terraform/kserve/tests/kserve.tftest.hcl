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
      cluster_name      = "alexnet"
      docker_hub_mirror = "europe-west4-docker.pkg.dev/my-project/docker-hub"
      image_repository  = "europe-west4-docker.pkg.dev/my-project/alexnet"
      project_number    = "123456789012"
      location          = "europe-west4-b"
      namespace         = "alexnet"
      project_id        = "my-project"
    }
  }
}

override_data {
  target = data.google_container_cluster.this
  values = {
    endpoint = "172.16.0.2"
  }
}

run "by_default_standard_mode_without_a_gateway" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.controller.deploymentMode == "Standard" &&
      !yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.enableGatewayApi
    )
    error_message = "another mode, or routes to a Gateway that nobody named"
  }
  assert {
    condition     = length(helm_release.knative_operator) + length(helm_release.knative_serving) == 0
    error_message = "Knative is installed"
  }
}

run "by_default_services_answer_only_within_the_cluster" {
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
      helm_release.cert_manager.version == "v1.21.1"
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

run "what_is_not_a_replica_runs_on_system_nodes" {
  command = plan
  variables {
    deployment_mode = "Knative"
  }

  assert {
    condition = alltrue([
      for selector in [
        yamldecode(helm_release.kserve.values[0]).kserve.controller.nodeSelector,
        yamldecode(helm_release.cert_manager.values[0]).global.nodeSelector,
        yamldecode(helm_release.knative_serving[0].values[0]).nodeSelector,
      ] : selector == { "torchserve-alexnet/role" = "system" }
    ])
    error_message = "a webhook goes with a spot node"
  }
  assert {
    condition = alltrue([
      for part in ["knative_operator", "operator_webhook"] :
      one(one(
        yamldecode(helm_release.knative_operator[0].values[0]).knative_operator[part].affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
      ).matchExpressions) == { key = "torchserve-alexnet/role", operator = "In", values = ["system"] }
    ])
    error_message = "the operator goes with a spot node"
  }
}

run "a_release_may_wait_for_a_node" {
  command = plan
  variables {
    deployment_mode = "Knative"
  }

  assert {
    condition = alltrue([
      for release in [
        helm_release.cert_manager, helm_release.knative_operator[0], helm_release.knative_serving[0],
        helm_release.kserve_crd, helm_release.kserve,
      ] : release.timeout == 900
    ])
    error_message = "a release ends before its node is there"
  }
}

run "images_of_docker_hub_come_through_the_mirror" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.kserve.values[0]).kserve.storage.image == "europe-west4-docker.pkg.dev/my-project/docker-hub/kserve/storage-initializer" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.image == "europe-west4-docker.pkg.dev/my-project/docker-hub/kserve/kserve-controller" &&
      yamldecode(helm_release.kserve.values[0]).kserve.agent.image == "europe-west4-docker.pkg.dev/my-project/docker-hub/kserve/agent" &&
      yamldecode(helm_release.kserve.values[0]).kserve.router.image == "europe-west4-docker.pkg.dev/my-project/docker-hub/kserve/router"
    )
    error_message = "nodes pull from Docker Hub, anonymously, through one address"
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
    condition = (
      google_artifact_registry_repository_iam_member.knative[0].repository == "alexnet" &&
      google_artifact_registry_repository_iam_member.knative[0].location == "europe-west4" &&
      google_artifact_registry_repository_iam_member.knative[0].role == "roles/artifactregistry.reader" &&
      google_artifact_registry_repository_iam_member.knative[0].member == "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/knative-serving/sa/controller"
    )
    error_message = "Knative cannot ask for the digest of the serving image"
  }
  assert {
    condition     = strcontains(file("${path.module}/charts/knative-serving/templates/knative-serving.yaml"), "service-type: ClusterIP")
    error_message = "Kourier has a public address"
  }
}

run "a_given_gateway_gets_the_routes" {
  command = plan
  variables {
    gateway = { name = "gateways/shared", domain = "models.example.com" }
  }

  assert {
    condition = (
      !yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.disableIngressCreation &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.enableGatewayApi &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.domain == "models.example.com" &&
      yamldecode(helm_release.kserve.values[0]).kserve.controller.gateway.ingressGateway.kserveGateway == "gateways/shared"
    )
    error_message = "no routes, or to another Gateway"
  }
}

run "a_missing_cluster_ends_the_plan" {
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
        cluster_name      = "cats"
        docker_hub_mirror = ""
        image_repository  = "us-central1-docker.pkg.dev/my-project-prod/alexnet"
        project_number    = "210987654321"
        location          = "us-central1"
        namespace         = "cats"
        project_id        = "my-project-prod"
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
  assert {
    condition     = yamldecode(helm_release.kserve.values[0]).kserve.storage.image == "kserve/storage-initializer"
    error_message = "a mirror that is not there"
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
