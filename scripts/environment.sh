#!/bin/sh
# What Terraform made, as variables of the shell: eval "$(scripts/environment.sh)"
root=$(unset CDPATH && cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P) || exit 1

fail() {
  echo "error: $*" >&2
  exit 1
}

case ${1-} in
"") ;;
-h | --help)
  cat <<'END'
Usage: eval "$(scripts/environment.sh)"

  Prints what Terraform made, as lines:
  BUCKET, IMAGE, NAMESPACE, PROJECT and
  REGION. terraform/cluster has to be
  applied before.
END
  exit 0
  ;;
*)
  echo "error: $1: scripts/environment.sh takes no arguments, but --help" >&2
  exit 2
  ;;
esac

command -v terraform >/dev/null || fail "terraform is not installed: terraform/README.md says what is needed"

# terraform/cluster/outputs.tf puts the lines together. Without a state, Terraform prints a warning in their place.
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
if lines=$(terraform -chdir="$root/terraform/cluster" output -no-color -raw environment 2>"$said"); then
  case $lines in
  "export "*) printf '%s\n' "$lines" ;;
  *) fail "terraform/cluster has not been applied: run terraform -chdir=terraform/cluster apply" ;;
  esac
elif grep -q 'terraform init' "$said"; then
  fail "terraform/cluster is not initialised: run terraform -chdir=terraform/cluster init -backend-config=bucket=…"
elif grep -q 'Output "environment" not found' "$said"; then
  fail "terraform/cluster was applied before it had this output: run terraform -chdir=terraform/cluster apply"
else
  fail "terraform output: $(sed -n 's/^.*Error: //p' "$said" | head -n 1)"
fi
