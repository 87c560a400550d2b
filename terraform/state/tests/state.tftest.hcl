mock_provider "google" {}

variables {
  project_id = "my-project"
}

run "the_project_is_enough" {
  command = plan

  assert {
    condition     = google_storage_bucket.state.name == "my-project-terraform" && google_storage_bucket.state.location == "europe-west4"
    error_message = "another bucket, or elsewhere"
  }
}

run "a_given_name_and_location_are_used" {
  command = plan
  variables {
    bucket_name = "states-of-ours"
    location    = "US"
  }

  assert {
    condition     = google_storage_bucket.state.name == "states-of-ours" && google_storage_bucket.state.location == "US"
    error_message = "not the bucket that was asked for"
  }
}

run "nobody_outside_reads_it_and_nothing_deletes_it" {
  command = plan

  assert {
    condition     = google_storage_bucket.state.uniform_bucket_level_access
    error_message = "uniform access is off"
  }
  assert {
    condition     = google_storage_bucket.state.public_access_prevention == "enforced"
    error_message = "public access is not prevented"
  }
  assert {
    condition     = google_storage_bucket.state.versioning[0].enabled
    error_message = "versioning is off"
  }
  assert {
    condition     = google_storage_bucket.state.deletion_policy == "PREVENT" && !google_storage_bucket.state.force_destroy
    error_message = "the bucket can be deleted"
  }
}

run "others_may_read_and_write_state_if_they_are_named" {
  command = plan
  variables {
    writers = ["serviceAccount:alexnet-apply@my-project.iam.gserviceaccount.com"]
  }

  assert {
    condition     = one(values(google_storage_bucket_iam_member.writers)).role == "roles/storage.objectUser"
    error_message = "they cannot apply, or may delete the bucket"
  }
}

run "the_public_writes_no_state" {
  command = plan
  variables {
    writers = ["allUsers"]
  }
  expect_failures = [var.writers]
}

run "old_versions_are_kept_for_a_bounded_time" {
  command = plan

  assert {
    condition = alltrue([
      for condition in one(google_storage_bucket.state.lifecycle_rule).condition :
      condition.days_since_noncurrent_time == 90 && condition.with_state == "ARCHIVED" && condition.num_newer_versions == 10
    ])
    error_message = "the lifecycle rule is not that for noncurrent versions"
  }
}

run "the_teardown_switches_the_protection_off" {
  command = plan
  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_storage_bucket.state.deletion_policy == "DELETE" && google_storage_bucket.state.force_destroy
    error_message = "the bucket cannot be deleted"
  }
  assert {
    condition     = google_storage_bucket.state.soft_delete_policy[0].retention_duration_seconds == 0
    error_message = "what is deleted stays, and is billed, for days"
  }
}

run "the_next_command_is_printed" {
  command = plan

  assert {
    condition     = output.init["cluster"] == "terraform -chdir=terraform/cluster init -backend-config=bucket=my-project-terraform -backend-config=prefix=$ENVIRONMENT/cluster"
    error_message = "not the line for terraform/cluster"
  }
}

run "a_bucket_name_with_capitals_is_refused" {
  command = plan
  variables {
    bucket_name = "My-Bucket"
  }
  expect_failures = [var.bucket_name]
}

run "a_bucket_name_that_is_googles_is_refused" {
  command = plan
  variables {
    bucket_name = "my-google-bucket"
  }
  expect_failures = [var.bucket_name]
}

run "a_zone_is_refused" {
  command = plan
  variables {
    location = "europe-west4-a"
  }
  expect_failures = [var.location]
}

run "half_a_day_is_refused" {
  command = plan
  variables {
    noncurrent_days = 0.5
  }
  expect_failures = [var.noncurrent_days]
}

run "a_project_number_is_refused" {
  command = plan
  variables {
    project_id = "123456789012"
  }
  expect_failures = [var.project_id]
}
