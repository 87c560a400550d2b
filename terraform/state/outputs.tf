output "bucket_name" {
  description = "The bucket that holds the state of the other folders."
  value       = google_storage_bucket.state.name
}

output "init" {
  description = "The commands to run next: in each environment, each of the other folders has its own prefix."
  value = {
    for folder in ["cluster", "kserve"] : folder => join(" ", [
      "terraform -chdir=terraform/${folder} init",
      "-backend-config=bucket=${google_storage_bucket.state.name}",
      "-backend-config=prefix=$ENVIRONMENT/${folder}",
    ])
  }
}
