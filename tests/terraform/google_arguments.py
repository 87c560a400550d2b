"""What hashicorp/google requires of each argument in terraform/, from its own code.

Read at commit e03b7622a2 (21 August 2026), where 8.0.0 had been merged: the nearest public source to the
stand-ins' 8.7.0. Paths are relative to google/ there. ANY is for arguments that were looked up and have no validator.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.terraform.validators import (
    ANY,
    CIDR,
    RFC3339,
    WHOLE,
    Check,
    Kind,
    Values,
    at_least,
    between,
    each,
    items,
    length,
    matches,
    network,
    one_of,
)

# verify/validation.go: ValidateGCEName
GCE_NAME = matches(r"^(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)$")

# tpgiamresource/resource_iam_member.go: validateIAMMember
IAM_MEMBER = Check(
    "a member that IAM knows",
    lambda value: (
        not value.startswith("deleted")
        and matches("(.+:.+|projectOwners|projectReaders|projectWriters|allUsers|allAuthenticatedUsers)").fits(value)
    ),
)

# services/storage/resource_storage_bucket.go: labelKeyValidator
BUCKET_LABELS = Check(
    "labels with keys of 1 to 63 of a-z 0-9 _ -",
    lambda value: all(matches("^[a-z0-9_-]{1,63}$").fits(key) for key in value),
)


def rfc1035(least: int, most: int) -> Check:
    """verify/validation.go: ValidateRFC1035Name."""
    return Check(
        f"{least} to {most} of a-z 0-9 -, beginning with a letter and not ending with a dash",
        lambda value: least <= len(value) <= most and matches("^[a-z]([-a-z0-9]*[a-z0-9])?$").fits(value),
    )


# services/iambeta/resource_iam_workload_identity_pool.go: ValidateWorkloadIdentityPoolId, less a name of Google's own,
# and …_provider.go: ValidateWorkloadIdentityPoolProviderId
FEDERATION_ID = matches("^(?!gcp-)[0-9a-z-]{4,32}$", "4 to 32 of a-z 0-9 -, not beginning with gcp-")

# No validator: the API refuses more, as the description in the provider's code says.
LENGTH_32 = length(0, 32)


def within(block: str, arguments: Mapping[str, Check]) -> dict[str, Check]:
    return {f"{block}.{path}": check for path, check in arguments.items()}


# services/container/node_config.go: schemaNodeConfig
NODE_CONFIG = {
    "disk_size_gb": at_least(10),
    "disk_type": ANY,
    "gcfs_config": ANY,
    "gcfs_config.enabled": ANY,
    "guest_accelerator": ANY,
    "guest_accelerator.count": WHOLE,
    "guest_accelerator.gpu_driver_installation_config": ANY,
    "guest_accelerator.gpu_driver_installation_config.gpu_driver_version": one_of(
        "GPU_DRIVER_VERSION_UNSPECIFIED", "INSTALLATION_DISABLED", "DEFAULT", "LATEST"
    ),
    "guest_accelerator.type": ANY,
    "image_type": ANY,
    "kubelet_config": ANY,
    "kubelet_config.insecure_kubelet_readonly_port_enabled": one_of("FALSE", "TRUE"),
    "kubelet_config.shutdown_grace_period_critical_pods_seconds": WHOLE,
    "kubelet_config.shutdown_grace_period_seconds": WHOLE,
    "labels": ANY,
    "machine_type": ANY,
    "metadata": ANY,
    "oauth_scopes": ANY,
    "resource_labels": ANY,
    "service_account": ANY,
    "shielded_instance_config": ANY,
    "shielded_instance_config.enable_integrity_monitoring": ANY,
    "shielded_instance_config.enable_secure_boot": ANY,
    "spot": ANY,
    "taint": ANY,
    "taint.effect": one_of("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"),
    "taint.key": ANY,
    "taint.value": ANY,
    "workload_metadata_config": ANY,
    "workload_metadata_config.mode": one_of("MODE_UNSPECIFIED", "GCE_METADATA", "GKE_METADATA"),
}

# tpgiamresource/resource_iam_member.go: IamMemberBaseSchema
IAM_MEMBER_ARGUMENTS = {"member": IAM_MEMBER, "role": ANY}
IAM_MEMBER_IF = IAM_MEMBER_ARGUMENTS | {"condition": ANY, "condition.expression": ANY, "condition.title": ANY}

# verify/validation.go: ProjectRegex, and ServiceAccountLinkRegex
PROJECT = (
    r"(?:(?:[-a-z0-9]{1,63}\.)*(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?):)?"
    r"(?:[0-9]{1,19}|(?:[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?))"
)
SERVICE_ACCOUNT_LINK = matches(
    rf"projects/(?:{PROJECT}|-)/serviceAccounts/({PROJECT}@[a-z]+.gserviceaccount.com$"
    r"|[0-9]{1,20}-compute@developer.gserviceaccount.com"
    r"|[a-z]([-a-z0-9]{4,28}[a-z0-9])@[-a-z0-9\.]{1,63}\.iam\.gserviceaccount\.com$)",
    "projects/PROJECT/serviceAccounts/EMAIL",
)

# services/artifactregistry/resource_artifact_registry_repository.go
REMOTE = "remote_repository_config"
REMOTE_KINDS = tuple(
    f"{REMOTE}.{name}_repository" for name in ("apt", "common", "docker", "maven", "npm", "python", "yum")
)


def surge_settings_are_of_the_strategy_surge(pool: Values) -> str:
    """services/container/resource_container_node_pool.go: expandNodePool, as it applies."""
    for settings in pool.get("upgrade_settings") or ():
        surge = any(settings.get(name) for name in ("max_surge", "max_unavailable"))
        if surge and (settings.get("strategy") or "SURGE") != "SURGE":
            return "upgrade_settings: surge settings may not be changed when surge strategy is not enabled"
        if settings.get("blue_green_settings") and settings.get("strategy") != "BLUE_GREEN":
            return "upgrade_settings: blue-green settings may not be changed when blue-green strategy is not enabled"
    return ""


def one_count_of_nodes(pool: Values) -> str:
    """services/container/resource_container_node_pool.go: expandNodePool, as it applies."""
    both = pool.get("initial_node_count") and pool.get("node_count")
    return "cannot set both initial_node_count and node_count" if both else ""


def no_version_for_a_first_pool_that_goes(cluster: Values) -> str:
    """services/container/resource_container_cluster.go: containerClusterNodeVersionRemoveDefaultCustomizeDiff."""
    both = cluster.get("node_version") and cluster.get("remove_default_node_pool")
    return "node_version can only be specified if remove_default_node_pool is not true" if both else ""


def no_zone_twice(cluster: Values) -> str:
    """services/container/resource_container_cluster.go: resourceContainerClusterCreate, as it applies."""
    both = cluster.get("location") in (cluster.get("node_locations") or ())
    return "when using a multi-zonal cluster, node_locations should not contain the original 'zone'" if both else ""


def each_rule_has_a_priority_of_its_own(policy: Values) -> str:
    """services/compute/resource_compute_security_policy.go: rulesCustomizeDiff."""
    priorities = [rule.get("priority") for rule in policy.get("rule") or ()]
    return "two rules have the same priority" if len(set(priorities)) < len(priorities) else ""


def features_of_ones_own_are_for_the_profile_custom(policy: Values) -> str:
    """services/compute/resource_compute_ssl_policy.go: sslPolicyCustomizeDiff."""
    if (policy.get("profile") == "CUSTOM") != bool(policy.get("custom_features")):
        return "custom_features are set if, and only if, the profile is CUSTOM"
    return ""


def what_comes_in_has_a_source(rule: Values) -> str:
    """services/compute/resource_compute_firewall.go: resourceComputeFirewallSourceFieldsCustomizeDiff.

    The provider accepts an empty list, for which Google then uses 0.0.0.0/0; that is refused here.
    """
    sources = any(rule.get(name) for name in ("source_ranges", "source_service_accounts", "source_tags"))
    if (rule.get("direction") or "INGRESS") != "EGRESS" and not sources:
        return "one of source_tags, source_ranges and source_service_accounts is to have something in it"
    return ""


CLUSTER = Kind(
    "services/container/resource_container_cluster.go: ResourceContainerCluster",
    {
        "anonymous_authentication_config": ANY,
        "anonymous_authentication_config.mode": one_of("ENABLED", "LIMITED"),
        "control_plane_endpoints_config": ANY,
        "control_plane_endpoints_config.dns_endpoint_config": ANY,
        "control_plane_endpoints_config.dns_endpoint_config.allow_external_traffic": ANY,
        "control_plane_endpoints_config.ip_endpoints_config": ANY,
        "control_plane_endpoints_config.ip_endpoints_config.enabled": ANY,
        "cost_management_config": ANY,
        "cost_management_config.enabled": ANY,
        "datapath_provider": one_of("DATAPATH_PROVIDER_UNSPECIFIED", "LEGACY_DATAPATH", "ADVANCED_DATAPATH"),
        "deletion_protection": ANY,
        "enable_legacy_abac": ANY,
        "enable_shielded_nodes": ANY.but(conflicts=("enable_autopilot",)),
        "gateway_api_config": ANY,
        "gateway_api_config.channel": one_of("CHANNEL_DISABLED", "CHANNEL_EXPERIMENTAL", "CHANNEL_STANDARD"),
        "initial_node_count": WHOLE,
        "ip_allocation_policy": ANY.but(conflicts=("cluster_ipv4_cidr",)),
        "ip_allocation_policy.cluster_secondary_range_name": ANY.but(
            conflicts=("ip_allocation_policy.cluster_ipv4_cidr_block", "ip_allocation_policy.services_ipv4_cidr_block")
        ),
        "ip_allocation_policy.services_secondary_range_name": ANY.but(
            conflicts=("ip_allocation_policy.cluster_ipv4_cidr_block", "ip_allocation_policy.services_ipv4_cidr_block")
        ),
        "location": ANY,
        "logging_config": ANY,
        "logging_config.enable_components": each(
            one_of(
                *("SYSTEM_COMPONENTS", "APISERVER", "CONTROLLER_MANAGER", "KCP_CONNECTION", "KCP_SSHD", "KCP_HPA"),
                *("KCP_VPA", "SCHEDULER", "WORKLOADS"),
            )
        ),
        "maintenance_policy": ANY.but(
            exactly_one_of=(
                "maintenance_policy.daily_maintenance_window",
                "maintenance_policy.recurring_window",
                "maintenance_policy.recurring_maintenance_window",
            )
        ),
        "maintenance_policy.maintenance_exclusion": Check("20 at most", lambda value: len(value) <= 20),
        "maintenance_policy.maintenance_exclusion.end_time": RFC3339,
        "maintenance_policy.maintenance_exclusion.exclusion_name": ANY,
        "maintenance_policy.maintenance_exclusion.exclusion_options": ANY,
        "maintenance_policy.maintenance_exclusion.exclusion_options.scope": one_of(
            "NO_UPGRADES", "NO_MINOR_UPGRADES", "NO_MINOR_OR_NODE_UPGRADES"
        ),
        "maintenance_policy.maintenance_exclusion.start_time": RFC3339,
        "maintenance_policy.recurring_window": ANY,
        "maintenance_policy.recurring_window.end_time": RFC3339,
        "maintenance_policy.recurring_window.recurrence": ANY,
        "maintenance_policy.recurring_window.start_time": RFC3339,
        "master_auth": ANY,
        "master_auth.client_certificate_config": ANY,
        "master_auth.client_certificate_config.issue_client_certificate": ANY,
        "master_authorized_networks_config": ANY,
        "master_authorized_networks_config.cidr_blocks": ANY,
        "master_authorized_networks_config.cidr_blocks.cidr_block": network(0, 32),
        "master_authorized_networks_config.cidr_blocks.display_name": ANY,
        "master_authorized_networks_config.gcp_public_cidrs_access_enabled": ANY,
        "monitoring_config": ANY,
        # No validator: as its description says
        "monitoring_config.enable_components": each(
            one_of(
                *("SYSTEM_COMPONENTS", "APISERVER", "SCHEDULER", "CONTROLLER_MANAGER", "STORAGE", "HPA", "POD"),
                *("DAEMONSET", "DEPLOYMENT", "STATEFULSET", "KUBELET", "CADVISOR", "DCGM", "JOBSET"),
            )
        ),
        "monitoring_config.managed_prometheus": ANY,
        "monitoring_config.managed_prometheus.enabled": ANY,
        "name": matches("^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", "1 to 40 of a-z 0-9 -, from a letter, not to a dash"),
        "network": ANY,
        "networking_mode": one_of("VPC_NATIVE", "ROUTES"),
        "node_config": ANY,
        **within(
            "node_config",
            {
                name: NODE_CONFIG[name]
                for name in (
                    *("disk_size_gb", "disk_type"),
                    *("machine_type", "oauth_scopes", "service_account", "shielded_instance_config"),
                    *("shielded_instance_config.enable_integrity_monitoring", "workload_metadata_config.mode"),
                    *("shielded_instance_config.enable_secure_boot", "workload_metadata_config"),
                )
            },
        ),
        "private_cluster_config": ANY.but(
            at_least_one_of=(
                "private_cluster_config.enable_private_endpoint",
                "private_cluster_config.enable_private_nodes",
                "private_cluster_config.master_ipv4_cidr_block",
                "private_cluster_config.private_endpoint_subnetwork",
                "private_cluster_config.master_global_access_config",
            )
        ),
        "private_cluster_config.enable_private_nodes": ANY,
        "release_channel": ANY,
        "release_channel.channel": one_of("UNSPECIFIED", "RAPID", "REGULAR", "STABLE", "EXTENDED"),
        "remove_default_node_pool": ANY.but(conflicts=("enable_autopilot",)),
        "resource_labels": ANY,
        "subnetwork": ANY,
        "workload_identity_config": ANY,
        "workload_identity_config.workload_pool": ANY,
    },
    (no_version_for_a_first_pool_that_goes, no_zone_twice),
)

NODE_POOL = Kind(
    "services/container/resource_container_node_pool.go: schemaNodePool",
    {
        "autoscaling": ANY,
        "autoscaling.location_policy": one_of("BALANCED", "ANY"),
        "autoscaling.total_max_node_count": at_least(0),
        "autoscaling.total_min_node_count": at_least(0),
        "cluster": ANY,
        "initial_node_count": WHOLE,
        "location": ANY,
        "management": ANY,
        "management.auto_repair": ANY,
        "management.auto_upgrade": ANY,
        "name": ANY,
        "node_config": ANY,
        "node_locations": ANY,
        **within("node_config", NODE_CONFIG),
        "upgrade_settings": ANY,
        "upgrade_settings.max_surge": at_least(0),
        "upgrade_settings.max_unavailable": at_least(0),
        "upgrade_settings.strategy": one_of("SURGE", "BLUE_GREEN"),
    },
    (surge_settings_are_of_the_strategy_surge, one_count_of_nodes),
)

GOOGLE: dict[str, Kind] = {
    "data.terraform_remote_state": Kind("part of Terraform: it has no validators", {"backend": ANY, "config": ANY}),
    "data.google_compute_machine_types": Kind(
        "services/compute/data_source_google_compute_machine_types.go", {"filter": ANY, "zone": ANY}
    ),
    "data.google_compute_zones": Kind("services/compute/data_source_google_compute_zones.go", {"region": ANY}),
    "data.google_container_cluster": Kind(
        "services/container/data_source_google_container_cluster.go", {"location": ANY, "name": ANY}
    ),
    "data.google_project": Kind(
        "services/resourcemanager/data_source_google_project.go",
        {
            # verify/validation.go: ValidateDSProjectID, of what follows the last slash
            "project_id": matches(
                f"^(?:.*/)?{PROJECT}$",
                "a project's ID",
            )
        },
    ),
    "google_artifact_registry_repository": Kind(
        "services/artifactregistry/resource_artifact_registry_repository.go",
        {
            "cleanup_policies": ANY,
            "cleanup_policies.action": one_of("DELETE", "KEEP", ""),
            "cleanup_policies.condition": ANY,
            "cleanup_policies.condition.older_than": ANY,
            "cleanup_policies.condition.tag_state": one_of("TAGGED", "UNTAGGED", "ANY", ""),
            "cleanup_policies.id": ANY,
            "cleanup_policies.most_recent_versions": ANY,
            "cleanup_policies.most_recent_versions.keep_count": WHOLE,
            "description": ANY,
            "format": ANY,
            "labels": ANY,
            "location": ANY,
            "mode": one_of("STANDARD_REPOSITORY", "VIRTUAL_REPOSITORY", "REMOTE_REPOSITORY", ""),
            REMOTE: ANY.but(conflicts=("virtual_repository_config",), exactly_one_of=REMOTE_KINDS),
            f"{REMOTE}.docker_repository": ANY,
            f"{REMOTE}.docker_repository.public_repository": one_of("DOCKER_HUB", "").but(
                conflicts=(f"{REMOTE}.docker_repository.custom_repository",)
            ),
            "repository_id": ANY,
            "vulnerability_scanning_config": ANY,
            "vulnerability_scanning_config.enablement_config": one_of("INHERITED", "DISABLED", ""),
        },
    ),
    "google_artifact_registry_repository_iam_member": Kind(
        "services/artifactregistry/iam_artifact_registry_repository.go: ArtifactRegistryRepositoryIamSchema",
        {**IAM_MEMBER_ARGUMENTS, "location": ANY, "project": ANY, "repository": ANY},
    ),
    "google_certificate_manager_certificate": Kind(
        "services/certificatemanager/resource_certificate_manager_certificate.go",
        {
            "": ANY.but(exactly_one_of=("managed", "self_managed")),
            "labels": ANY,
            "managed": ANY,
            "managed.dns_authorizations": ANY,
            "managed.domains": ANY,
            "name": ANY,
        },
    ),
    "google_certificate_manager_certificate_map": Kind(
        "services/certificatemanager/resource_certificate_manager_certificate_map.go", {"labels": ANY, "name": ANY}
    ),
    "google_certificate_manager_certificate_map_entry": Kind(
        "services/certificatemanager/resource_certificate_manager_certificate_map_entry.go",
        {
            "": ANY.but(exactly_one_of=("hostname", "matcher")),
            "certificates": ANY,
            "hostname": ANY,
            "labels": ANY,
            "map": ANY,
            "name": ANY,
        },
    ),
    "google_certificate_manager_dns_authorization": Kind(
        "services/certificatemanager/resource_certificate_manager_dns_authorization.go",
        {"domain": ANY, "labels": ANY, "name": ANY},
    ),
    "google_compute_firewall": Kind(
        "services/compute/resource_compute_firewall.go",
        {
            "": ANY.but(exactly_one_of=("allow", "deny")),
            "allow": ANY,
            "allow.ports": ANY,
            "allow.protocol": ANY,
            "description": ANY,
            "direction": one_of("INGRESS", "EGRESS", ""),
            "name": GCE_NAME,
            "network": ANY,
            "priority": between(0, 65535),
            "source_ranges": ANY,
            "target_service_accounts": items(0, 10).but(conflicts=("source_tags", "target_tags")),
        },
        (what_comes_in_has_a_source,),
    ),
    "google_compute_global_address": Kind(
        "services/compute/resource_compute_global_address.go", {"description": ANY, "labels": ANY, "name": ANY}
    ),
    "google_compute_network": Kind(
        "services/compute/resource_compute_network.go", {"auto_create_subnetworks": ANY, "name": GCE_NAME}
    ),
    "google_compute_router": Kind(
        "services/compute/resource_compute_router.go",
        {"name": GCE_NAME, "network": ANY.but(conflicts=("ncc_gateway",)), "region": ANY},
    ),
    "google_compute_router_nat": Kind(
        "services/compute/resource_compute_router_nat.go",
        {
            "log_config": ANY,
            "log_config.enable": ANY,
            "log_config.filter": one_of("ERRORS_ONLY", "TRANSLATIONS_ONLY", "ALL"),
            "name": rfc1035(2, 63),
            "nat_ip_allocate_option": one_of("MANUAL_ONLY", "AUTO_ONLY", ""),
            "region": ANY,
            "router": ANY,
            "source_subnetwork_ip_ranges_to_nat": one_of(
                "ALL_SUBNETWORKS_ALL_IP_RANGES", "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES", "LIST_OF_SUBNETWORKS"
            ),
            "subnetwork": ANY,
            "subnetwork.name": ANY,
            "subnetwork.source_ip_ranges_to_nat": Check("a list of one or more", bool),
        },
    ),
    "google_compute_security_policy": Kind(
        "services/compute/resource_compute_security_policy.go",
        {
            "description": ANY,
            "labels": ANY,
            "name": GCE_NAME,
            "rule": ANY,
            "rule.action": ANY,
            "rule.description": ANY,
            "rule.match": ANY,
            "rule.match.config": ANY,
            "rule.match.config.src_ip_ranges": items(1, 10),
            "rule.match.versioned_expr": one_of("SRC_IPS_V1"),
            "rule.priority": WHOLE,
            "rule.rate_limit_options": ANY,
            "rule.rate_limit_options.conform_action": one_of("allow"),
            "rule.rate_limit_options.enforce_on_key": one_of(
                *("ALL", "IP", "HTTP_HEADER", "XFF_IP", "HTTP_COOKIE", "HTTP_PATH", "SNI", "REGION_CODE"),
                *("TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "USER_IP", ""),
            ),
            "rule.rate_limit_options.exceed_action": one_of(
                "redirect", "deny(403)", "deny(404)", "deny(429)", "deny(502)"
            ),
            "rule.rate_limit_options.rate_limit_threshold": ANY,
            "rule.rate_limit_options.rate_limit_threshold.count": WHOLE,
            "rule.rate_limit_options.rate_limit_threshold.interval_sec": WHOLE,
            "type": one_of("CLOUD_ARMOR", "CLOUD_ARMOR_EDGE", "CLOUD_ARMOR_INTERNAL_SERVICE"),
        },
        (each_rule_has_a_priority_of_its_own,),
    ),
    "google_compute_ssl_policy": Kind(
        "services/compute/resource_compute_ssl_policy.go",
        {
            "min_tls_version": one_of("TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3", ""),
            "name": ANY,
            "profile": one_of("COMPATIBLE", "MODERN", "RESTRICTED", "CUSTOM", "FIPS_202205", ""),
        },
        (features_of_ones_own_are_for_the_profile_custom,),
    ),
    "google_compute_subnetwork": Kind(
        "services/compute/resource_compute_subnetwork.go",
        {
            "ip_cidr_range": CIDR,
            "name": GCE_NAME,
            "network": ANY,
            "private_ip_google_access": ANY,
            "region": ANY,
            "secondary_ip_range": ANY,
            "secondary_ip_range.ip_cidr_range": CIDR,
            "secondary_ip_range.range_name": GCE_NAME,
        },
    ),
    "google_container_cluster": CLUSTER,
    "google_container_node_pool": NODE_POOL,
    "google_iam_workload_identity_pool": Kind(
        "services/iambeta/resource_iam_workload_identity_pool.go",
        {"display_name": LENGTH_32, "workload_identity_pool_id": FEDERATION_ID},
    ),
    "google_iam_workload_identity_pool_provider": Kind(
        "services/iambeta/resource_iam_workload_identity_pool_provider.go",
        {
            "": ANY.but(exactly_one_of=("aws", "oidc", "saml", "x509")),
            "attribute_condition": ANY,
            "attribute_mapping": ANY,
            "display_name": LENGTH_32,
            "oidc": ANY,
            "oidc.issuer_uri": ANY,
            "workload_identity_pool_id": ANY,
            "workload_identity_pool_provider_id": FEDERATION_ID,
        },
    ),
    "google_iap_web_iam_member": Kind("services/iap/iam_iap_web.go: IapWebIamSchema", IAM_MEMBER_IF),
    "google_project_iam_member": Kind(
        "services/resourcemanager/iam_project.go: IamProjectSchema", {**IAM_MEMBER_IF, "project": ANY}
    ),
    "google_project_service": Kind(
        "services/resourcemanager/resource_google_project_service.go",
        {
            "disable_on_destroy": ANY,
            # validateProjectServiceService
            "service": Check(
                "a domain like serviceusage.googleapis.com",
                lambda value: value != "bigquery-json.googleapis.com" and "." in value,
            ),
        },
    ),
    "google_service_account": Kind(
        "services/resourcemanager/resource_google_service_account.go",
        {"account_id": rfc1035(6, 30), "display_name": length(0, 100)},  # the latter is the API's bound
    ),
    "google_service_account_iam_member": Kind(
        "services/resourcemanager/iam_service_account.go: IamServiceAccountSchema",
        {**IAM_MEMBER_ARGUMENTS, "service_account_id": SERVICE_ACCOUNT_LINK},
    ),
    "google_storage_bucket": Kind(
        "services/storage/resource_storage_bucket.go",
        {
            # tpgresource/utils.go: DeletionPolicyPreDelete; no validator, and another word protects nothing
            "deletion_policy": one_of("DELETE", "PREVENT", "ABANDON"),
            "force_destroy": ANY,
            "labels": BUCKET_LABELS,
            "lifecycle_rule": ANY,
            "lifecycle_rule.action": ANY,
            # No validator: as its description says
            "lifecycle_rule.action.type": one_of("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"),
            "lifecycle_rule.condition": ANY,
            "lifecycle_rule.condition.age": WHOLE,
            "lifecycle_rule.condition.days_since_noncurrent_time": WHOLE,
            "lifecycle_rule.condition.matches_prefix": ANY,
            "lifecycle_rule.condition.matches_suffix": ANY,
            "lifecycle_rule.condition.num_newer_versions": WHOLE,
            "lifecycle_rule.condition.with_state": one_of("LIVE", "ARCHIVED", "ANY", ""),
            "location": ANY,
            "name": ANY,
            # No validator: website/docs/r/storage_bucket.html.markdown
            "public_access_prevention": one_of("inherited", "enforced"),
            "soft_delete_policy": ANY,
            "soft_delete_policy.retention_duration_seconds": WHOLE,
            "uniform_bucket_level_access": ANY,
            "versioning": ANY,
            "versioning.enabled": ANY,
        },
    ),
    "google_storage_bucket_iam_member": Kind(
        "services/storage/iam_storage_bucket.go: StorageBucketIamSchema", {**IAM_MEMBER_IF, "bucket": ANY}
    ),
}
