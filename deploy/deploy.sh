#!/usr/bin/env bash
# Brings a cluster to what k8s/overlays has: shared objects, migrations, rollout, smoke test. A rollout that does not become
# ready, or a smoke test that fails, is rolled back to what ran before; migrations stay, as the version before runs on them.
#     deploy/deploy.sh staging|production
# KUBECTL (kubectl), LOTE_CONTEXT (the kubeconfig's context, lote-<environment>), LOTE_URL (what people open; for the smoke test).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kubectl=${KUBECTL:-kubectl}
say() { printf 'deploy: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

case ${1:-} in
    staging) overlay=staging url=${LOTE_URL:-https://lote.staging.example.com} ;;
    production) overlay=prod url=${LOTE_URL:-https://lote.example.com} ;;
    *) die "expected staging or production, as in: deploy/deploy.sh staging" ;;
esac
context=${LOTE_CONTEXT:-lote-$1}
k() { "$kubectl" --context "$context" --namespace lote "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$kubectl" kustomize "$root/k8s/overlays/$overlay" >"$work/all.yaml"
! grep -q 'sha256:0\{64\}' "$work/all.yaml" ||
    die "k8s/overlays/$overlay/images names no digests yet: put those of the release there"
# What a rollback, or a person, changed last belongs to somebody else until we take it back.
apply() { k apply --server-side --force-conflicts --field-manager lote-deploy --filename "$work/all.yaml" --selector "$1"; }

say "shared objects"
apply '!app.kubernetes.io/component'
k wait externalsecret --all --for condition=Ready --timeout 120s
k wait rabbitmqcluster/rabbitmq --for condition=AllReplicasReady --timeout 900s

say "migrations"
# Jobs can't be changed, and a name that says the version would leave one behind a release.
k delete job --selector app.kubernetes.io/component=migrate --ignore-not-found --wait --timeout 120s
apply app.kubernetes.io/component=migrate
deadline=$((SECONDS + ${MIGRATE_SECONDS:-3600}))
while :; do
    # A line a job: its name, and how it ended if it has.
    jobs=$(k get job --selector app.kubernetes.io/component=migrate --output \
        'jsonpath={range .items[*]}{.metadata.name}{"\t"}{.status.conditions[?(@.status=="True")].type}{"\n"}{end}')
    ! grep -q Failed <<<"$jobs" || die "a migration failed; the version before runs on: kubectl logs job/$(awk '/Failed/ {print $1; exit}' <<<"$jobs")"
    [ -z "$jobs" ] || grep -qv Complete <<<"$jobs" || break
    [ "$SECONDS" -lt "$deadline" ] || die "migrations have not ended in time; the version before runs on"
    sleep "${POLL_SECONDS:-2}"
done

# What runs now, to come back to: a line a Deployment, its name and its revision.
k get deployment --selector 'app.kubernetes.io/component in (api,worker)' --output \
    'jsonpath={range .items[*]}{.metadata.name}{"\t"}{.metadata.annotations.deployment\.kubernetes\.io/revision}{"\n"}{end}' \
    >"$work/before"

roll_back() {
    say "$1: rolling back"
    local failed=0 name revision
    while IFS=$'\t' read -r name revision; do
        [ -n "$revision" ] || continue
        k rollout undo "deployment/$name" --to-revision "$revision" || failed=1
    done <"$work/before"
    while IFS=$'\t' read -r name revision; do
        [ -n "$revision" ] || continue
        k rollout status "deployment/$name" --timeout 300s || failed=1
    done <"$work/before"
    [ "$failed" = 0 ] || die "the rollback is not complete: kubectl get deployments"
    die "rolled back to what ran before; a Deployment that is new in this release stays"
}

say "rollout"
apply 'app.kubernetes.io/component in (api,worker)' || roll_back "what is to run can't be applied"
rolled=$(k get deployment --selector 'app.kubernetes.io/component in (api,worker)' --output name) || roll_back "Deployments can't be listed"
for deployment in $rolled; do
    k rollout status "$deployment" --timeout 600s || roll_back "$deployment does not become ready"
done

say "smoke test at $url"
# A path, and the status that it must have: alive, keys to check tokens with, and no data without a login.
while read -r path wanted; do
    status=$(curl --silent --output /dev/null --max-time 20 --retry 3 --retry-connrefused --write-out '%{http_code}' "$url$path") || status=none
    [ "$status" = "$wanted" ] || roll_back "$url$path answers $status, expected $wanted"
done <<'PATHS'
/health 200
/.well-known/jwks.json 200
/api/v1/catalog/items 401
/metrics 404
PATHS
say "done"
