#!/bin/sh
# Makes the namespace of workflow-svc once the server answers. Finished workflows stay visible for 30 days.
set -eu
tries=0
until temporal operator cluster health > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "temporal at $TEMPORAL_ADDRESS does not answer" >&2; exit 1; }
  sleep 1
done
temporal operator namespace describe --namespace "$BIZOS_TEMPORAL_NAMESPACE" > /dev/null 2>&1 \
  || temporal operator namespace create --namespace "$BIZOS_TEMPORAL_NAMESPACE" --retention 720h
