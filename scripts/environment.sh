#!/bin/sh
# What Terraform made, as variables of the shell: eval "$(scripts/environment.sh)"
root=$(unset CDPATH && cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P) || exit 1

# eval runs stdout even after an error: it unsets another environment's variables, so that nothing is deployed there by mistake.
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

  Prints what Terraform created, as
  lines for the shell: BUCKET, BUILDER,
  IMAGE, NAMESPACE, PROJECT, REGION
  and STATE. Apply terraform/cluster
  first. NAME is an environment, as in
  terraform/environments; then it also
  prints ENVIRONMENT and TF_DATA_DIR,
  Terraform's working folder. Without
  NAME, it uses the shell's own.
END
  exit 0
  ;;
-* | *[!a-z0-9-]*)
  echo "error: $1: an environment's name may have only a-z 0-9 -, such as dev: see scripts/environment.sh --help" >&2
  exit 2
  ;;
esac
if [ $# -gt 1 ]; then
  echo "error: $2: scripts/environment.sh takes only one argument, the environment" >&2
  exit 2
fi
if [ -n "${1-}" ]; then
  ENVIRONMENT=$1
  TF_DATA_DIR=.terraform/$1
  export TF_DATA_DIR
fi
of=${ENVIRONMENT:+ of $ENVIRONMENT}

command -v terraform >/dev/null || fail "terraform is not installed: see terraform/README.md for what you need"

# terraform/cluster/outputs.tf builds the lines. Without a state, Terraform prints a warning instead.
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

# The state's bucket, as `terraform init` recorded it: bucket names need no quotes.
backend=$root/terraform/cluster/${TF_DATA_DIR:-.terraform}/terraform.tfstate
[ ! -f "$backend" ] || sed -n "s/^ *\"bucket\": \"\([a-z0-9._-]*\)\".*/export STATE='\1'/p" "$backend" | head -n 1
