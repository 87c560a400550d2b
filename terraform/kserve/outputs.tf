output "deployment_mode" {
  description = "The mode that KServe was installed for: scripts/deploy.sh --overlay knative for Knative."
  value       = var.deployment_mode
}

output "namespace" {
  description = "The namespace of the service: scripts/deploy.sh --namespace."
  value       = kubernetes_namespace_v1.service.metadata[0].name
}
