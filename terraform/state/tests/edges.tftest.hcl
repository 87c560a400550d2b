# As terraform/cluster/tests/edges.tftest.hcl.
mock_provider "google" {}

run "the_least_that_the_variables_take" {
  command = plan
  variables {
    bucket_name     = "a_1"
    location        = "EU"
    noncurrent_days = 1
    project_id      = "abcde1"
  }
}

run "the_most_that_the_variables_take" {
  command = plan
  variables {
    bucket_name     = "a${format("%062d", 0)}"
    location        = "northamerica-northeast12"
    noncurrent_days = 1000000
    project_id      = "a${format("%029d", 0)}"
  }
}
