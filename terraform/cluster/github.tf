# The Google identity of a GitHub workflow (.github/workflows/terraform.yml): Google trusts tokens that GitHub signed, so
# there is no key. Off by default. docs/environments.md has the steps.

locals {
  # What applying needs (terraform/README.md, "What the applying identity needs"). With roles/resourcemanager.projectIamAdmin
  # it could make itself owner, so it may grant and revoke only the roles that Terraform grants here. It can still act as
  # every service account of the project, as docs/environments.md says.
  applying = [
    "roles/artifactregistry.admin",
    "roles/certificatemanager.owner",
    "roles/compute.networkAdmin",
    "roles/compute.securityAdmin",
    "roles/compute.viewer",
    "roles/container.admin",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountUser",
    "roles/iam.workloadIdentityPoolViewer",
    "roles/iap.admin",
    "roles/monitoring.editor",
    "roles/serviceusage.serviceUsageAdmin",
    "roles/storage.admin",
  ]
  given_by_terraform = [
    "roles/container.defaultNodeServiceAccount",
    "roles/logging.logWriter",
    "roles/serviceusage.serviceUsageConsumer",
  ]
}

# The APIs that exchange GitHub's token for Google's.
resource "google_project_service" "github" {
  for_each = toset(var.github == null ? [] : ["iamcredentials.googleapis.com", "sts.googleapis.com"])

  service            = each.key
  disable_on_destroy = false
}

resource "google_iam_workload_identity_pool" "github" {
  count = var.github == null ? 0 : 1

  workload_identity_pool_id = "${var.cluster_name}-github"
  display_name              = "GitHub: ${var.cluster_name}" # at most 32 characters

  depends_on = [google_project_service.apis]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:It looks for the repository's name in the subject; here the repository is known by its number, which nobody can take over.
  count = var.github == null ? 0 : 1

  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "actions"
  display_name                       = "GitHub Actions"

  attribute_mapping = {
    # Google allows 127 bytes, and the token's own subject contains the names of the repository and of its owner.
    "google.subject"          = "assertion.repository_id + ':' + assertion.environment"
    "attribute.repository_id" = "assertion.repository_id"
  }

  # By number, since a name can be somebody else's tomorrow; only from the main branch; and only if started by a person,
  # since workflows that pull requests start can also run as of main.
  attribute_condition = join(" && ", [
    "assertion.repository_id == '${var.github.repository_id}'",
    "assertion.environment == '${var.github.environment}'",
    "assertion.ref == 'refs/heads/main'",
    "assertion.event_name == 'workflow_dispatch'",
  ])

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "github" {
  count = var.github == null ? 0 : 1

  account_id   = "${var.cluster_name}-apply"
  display_name = "Terraform at GitHub, environment ${var.github.environment}"

  depends_on = [google_project_service.apis]
}

resource "google_service_account_iam_member" "github" {
  count = var.github == null ? 0 : 1

  service_account_id = google_service_account.github[0].name
  role               = "roles/iam.workloadIdentityUser"
  member = join("/", [
    "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}",
    "attribute.repository_id/${var.github.repository_id}",
  ])
}

resource "google_project_iam_member" "github" {
  for_each = toset(var.github == null ? [] : local.applying)

  project = var.project_id
  role    = each.value
  member  = google_service_account.github[0].member
}

resource "google_project_iam_member" "github_gives_roles" {
  count = var.github == null ? 0 : 1

  project = var.project_id
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = google_service_account.github[0].member

  condition {
    title      = "roles that terraform gives"
    expression = "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([${join(", ", [for role in local.given_by_terraform : "'${role}'"])}])"
  }
}
