#!/bin/sh
# What Terraform made, as variables of the shell: eval "$(scripts/environment.sh)"
root=$(unset CDPATH && cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P) || exit 1

# What is evaluated all the same takes away what another environment has left: nothing is deployed there by mistake.
fail() {
  echo "unset BUCKET BUILDER IMAGE NAMESPACE REGION"
  echo "error: $*" >&2
  exit 1
}

case ${1-} in
-h | --help)
  cat <<'END'
Usage: scripts/environment.sh [NAME]
  eval "$(scripts/environment.sh dev)"

  Prints what Terraform made, as lines:
  BUCKET, BUILDER, IMAGE, NAMESPACE,
  PROJECT, REGION and STATE.
  terraform/cluster has to be applied
  before. NAME is the environment, as
  in terraform/environments: it, as
  ENVIRONMENT, and TF_DATA_DIR, where
  Terraform keeps it, are printed too.
  Without it, the shell's are taken.
END
  exit 0
  ;;
-* | *[!a-z0-9-]*)
  echo "error: $1: an environment is named by a-z 0-9 -, as dev: see scripts/environment.sh --help" >&2
  exit 2
  ;;
esac
if [ $# -gt 1 ]; then
  echo "error: $2: scripts/environment.sh takes one argument, the environment" >&2
  exit 2
fi
if [ -n "${1-}" ]; then
  ENVIRONMENT=$1
  TF_DATA_DIR=.terraform/$1
  export TF_DATA_DIR
fi
of=${ENVIRONMENT:+ of $ENVIRONMENT}

command -v terraform >/dev/null || fail "terraform is not installed: terraform/README.md says what is needed"

# terraform/cluster/outputs.tf puts the lines together. Without a state, Terraform prints a warning in their place.
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
if lines=$(terraform -chdir="$root/terraform/cluster" output -no-color -raw environment 2>"$said"); then
  case $lines in
  "export "*) ;;
  *) fail "terraform/cluster$of has not been applied: run terraform -chdir=terraform/cluster apply -var-file=…" ;;
  esac
elif grep -q 'terraform init' "$said"; then
  fail "terraform/cluster$of is not initialised: run terraform -chdir=terraform/cluster init -backend-config=bucket=…"
elif grep -q 'Output "environment" not found' "$said"; then
  fail "terraform/cluster$of was applied before it had this output: run terraform -chdir=terraform/cluster apply -var-file=…"
else
  fail "terraform output: $(sed -n 's/^.*Error: //p' "$said" | head -n 1)"
fi
printf '%s\n' "$lines"
[ -z "${1-}" ] || printf "export %s='%s'\n" ENVIRONMENT "$ENVIRONMENT" TF_DATA_DIR "$TF_DATA_DIR"

# Where the state is, as `terraform init` wrote it down: names of buckets need no quotes.
backend=$root/terraform/cluster/${TF_DATA_DIR:-.terraform}/terraform.tfstate
[ ! -f "$backend" ] || sed -n "s/^ *\"bucket\": \"\([a-z0-9._-]*\)\".*/export STATE='\1'/p" "$backend" | head -n 1
