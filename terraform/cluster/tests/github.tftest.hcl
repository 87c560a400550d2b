mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = 123456789012
    }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "alexnet-apply@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:alexnet-apply@my-project.iam.gserviceaccount.com"
      name   = "projects/my-project/serviceAccounts/alexnet-apply@my-project.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_iam_workload_identity_pool" {
    defaults = {
      name = "projects/123456789012/locations/global/workloadIdentityPools/alexnet-github" # pragma: allowlist secret
    }
  }
  mock_resource "google_iam_workload_identity_pool_provider" {
    defaults = {
      name = "projects/123456789012/locations/global/workloadIdentityPools/alexnet-github/providers/actions" # pragma: allowlist secret
    }
  }
}

variables {
  project_id = "my-project"
}

run "by_default_github_has_no_access" {
  command = plan

  assert {
    condition = (
      length(google_iam_workload_identity_pool.github) + length(google_service_account.github) +
      length(google_project_iam_member.github) + length(google_project_iam_member.github_gives_roles) == 0 && output.github == null
    )
    error_message = "somebody else may apply"
  }
}

run "a_workflow_on_main_in_its_environment_is_an_account_without_a_key" {
  command = apply
  variables {
    github = { repository_id = "1234", environment = "prod" }
  }

  assert {
    condition = (
      google_iam_workload_identity_pool_provider.github[0].oidc[0].issuer_uri == "https://token.actions.githubusercontent.com" &&
      google_iam_workload_identity_pool_provider.github[0].attribute_condition == "assertion.repository_id == '1234' && assertion.environment == 'prod' && assertion.ref == 'refs/heads/main' && assertion.event_name == 'workflow_dispatch'"
    )
    error_message = "others are let in"
  }
  assert {
    condition = (
      google_service_account_iam_member.github[0].role == "roles/iam.workloadIdentityUser" &&
      google_service_account_iam_member.github[0].member == "principalSet://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/alexnet-github/attribute.repository_id/1234"
    )
    error_message = "not the repository's workflows"
  }
  assert {
    condition = (
      alltrue([for member in google_project_iam_member.github : member.member == google_service_account.github[0].member]) &&
      contains(keys(google_project_iam_member.github), "roles/container.admin") &&
      toset(keys(google_project_service.github)) == toset(["iamcredentials.googleapis.com", "sts.googleapis.com"])
    )
    error_message = "it cannot apply"
  }
  assert {
    condition = (
      !contains(keys(google_project_iam_member.github), "roles/resourcemanager.projectIamAdmin") &&
      one(google_project_iam_member.github_gives_roles[0].condition).expression == "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly(['roles/container.defaultNodeServiceAccount', 'roles/logging.logWriter', 'roles/serviceusage.serviceUsageConsumer'])"
    )
    error_message = "it could make itself owner"
  }
  assert {
    condition = (
      output.github.SERVICE_ACCOUNT == "alexnet-apply@my-project.iam.gserviceaccount.com" &&
      endswith(output.github.WORKLOAD_IDENTITY_PROVIDER, "/workloadIdentityPools/alexnet-github/providers/actions")
    )
    error_message = "the workflow would get other names"
  }
}
