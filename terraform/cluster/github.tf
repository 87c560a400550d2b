# Who a workflow at GitHub is for Google: .github/workflows/terraform.yml shows what it tells, Google believes what GitHub
# signed, and there is no key. Off by default. docs/environments.md says in which order.

locals {
  # What applying takes (terraform/README.md, "What the applying identity needs"). With roles/resourcemanager.projectIamAdmin
  # it could make itself owner: it may give and take these roles alone, which are those that Terraform gives here. It may act
  # as every service account of the project all the same, which docs/environments.md says.
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

# What exchanges GitHub's token for Google's.
resource "google_project_service" "github" {
  for_each = toset(var.github == null ? [] : ["iamcredentials.googleapis.com", "sts.googleapis.com"])

  service            = each.key
  disable_on_destroy = false
}

resource "google_iam_workload_identity_pool" "github" {
  count = var.github == null ? 0 : 1

  workload_identity_pool_id = "${var.cluster_name}-github"
  display_name              = "GitHub: ${var.cluster_name}" # 32 characters at most

  depends_on = [google_project_service.apis]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:It looks for the repository by name, in the subject; here it is known by number, which nobody takes over.
  count = var.github == null ? 0 : 1

  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "actions"
  display_name                       = "GitHub Actions"

  attribute_mapping = {
    # Google takes 127 bytes, and the subject of a token has the names of the repository and of its owner in it.
    "google.subject"          = "assertion.repository_id + ':' + assertion.environment"
    "attribute.repository_id" = "assertion.repository_id"
  }

  # By number, since a name can be somebody else's tomorrow; what is on the main branch, not what a branch makes of it; and
  # started by a person: workflows that pull requests start can run as of main, too.
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
