#!/bin/sh
# keeper.sh [once]: initialises Vault once, gives secret-svc its AppRole, and unseals Vault whenever it comes up sealed.
#
# Needs: VAULT_ADDR, BIZOS_VAULT_MOUNT, BIZOS_VAULT_ROLE_ID, BIZOS_VAULT_SECRET_ID, and KEYS (a folder that only this job sees).
# The unseal key lies in KEYS, on the machine whose disk it protects: a stolen data volume stays closed, a stolen machine does not.
# On more than one machine let a cloud key or a second Vault unseal it (https://developer.hashicorp.com/vault/docs/concepts/seal) and drop this job.
set -eu
umask 077

status() { # FIELD: true or false, or nothing while Vault does not answer. `vault status` exits with 2 while sealed: no failure here
  vault status -format=json 2> /dev/null | sed -n "s/^ *\"$1\": *\([a-z]*\),*$/\1/p"
}
unseal() {
  vault operator unseal "$(cat "$KEYS/unseal")" > /dev/null
  echo "vault unsealed"
}
initialise() {
  vault operator init -key-shares=1 -key-threshold=1 -format=json > "$KEYS/init.json"
  tr -d '\n ' < "$KEYS/init.json" | sed 's/.*"unseal_keys_b64":\["\([^"]*\)".*/\1/' > "$KEYS/unseal"
  tr -d '\n ' < "$KEYS/init.json" | sed 's/.*"root_token":"\([^"]*\)".*/\1/' > "$KEYS/root"
  rm "$KEYS/init.json"
  echo "vault initialised"
}
configure() { # may run any number of times; the role follows the ids in .env
  VAULT_TOKEN=$(cat "$KEYS/root")
  export VAULT_TOKEN
  vault secrets list -format=json | grep -q "\"$BIZOS_VAULT_MOUNT/\"" || vault secrets enable -path="$BIZOS_VAULT_MOUNT" -version=2 kv
  vault auth list -format=json | grep -q '"approle/"' || vault auth enable approle
  for part in data metadata delete undelete destroy; do
    printf 'path "%s/%s/*" { capabilities = ["create", "read", "update", "delete", "list"] }\n' "$BIZOS_VAULT_MOUNT" "$part"
  done | vault policy write secret-svc - > /dev/null
  role=auth/approle/role/secret-svc
  if ! printf '%s' "$BIZOS_VAULT_SECRET_ID" | vault write "$role/secret-id/lookup" secret_id=- 2> /dev/null | grep -q accessor; then
    vault delete "$role" > /dev/null # an id that left .env stops working
    vault write "$role" token_policies=secret-svc token_ttl=20m token_max_ttl=1h > /dev/null
    printf '%s' "$BIZOS_VAULT_SECRET_ID" | vault write "$role/custom-secret-id" secret_id=- > /dev/null
  fi
  vault write "$role/role-id" role_id="$BIZOS_VAULT_ROLE_ID" > /dev/null
  unset VAULT_TOKEN
  echo "vault ready for secret-svc"
}

[ "${1:-}" != configure ] || { configure; exit; } # a process of its own, since `until` below would switch set -e off inside

tries=0
until [ -n "$(status initialized)" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "vault at $VAULT_ADDR does not answer" >&2; exit 1; }
  sleep 1
done
[ "$(status initialized)" = true ] || initialise
[ -s "$KEYS/unseal" ] || { echo "vault was initialised before, but its key is not in $KEYS: bring the volume vault-keys back" >&2; exit 1; }
[ "$(status sealed)" = false ] || unseal
tries=0
until "$0" configure; do # right after unsealing a node still elects itself and refuses writes
  tries=$((tries + 1))
  [ "$tries" -lt 30 ] || { echo "vault could not be configured" >&2; exit 1; }
  sleep 1
done
[ "${1:-}" != once ] || exit 0
touch /tmp/ready # what the health check of this job looks at
while sleep 5; do
  [ "$(status sealed)" != true ] || unseal || true
done
