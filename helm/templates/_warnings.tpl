{{/* What renders and is probably not meant. */}}
{{- define "llm-service.warnings" -}}
{{- if gt (int .Values.gpu.count) 0 }}
NOTE: a rollout adds {{ (include "llm-service.rollout" . | fromYaml).maxSurge }} pods and misses {{ (include "llm-service.rollout" . | fromYaml).maxUnavailable }}: with GPUs the new pod waits for the GPU of the old one, so capacity is short by one replica while it goes on.
{{- end }}
{{- if and (eq (int .Values.replicas) 1) (gt (int .Values.gpu.count) 0) (not (include "llm-service.autoscaled" .)) }}
WARNING: one replica on GPUs is away while it is replaced: set replicas to 2 for rollouts without a gap.
{{- end }}
{{- if lt (include "llm-service.budgetSeconds" . | float64) (include "llm-service.deadlineSeconds" . | float64) }}
WARNING: config.drain.budget_s is {{ include "llm-service.budgetSeconds" . }} and a request may take {{ include "llm-service.deadlineSeconds" . }} s (config.admission.max_timeout_ms), so each rollout ends those that take longer: leave config.drain.budget_s out, or allow no longer deadline.
{{- end }}
{{- if hasKey .Values.config "gate" }}
WARNING: config.gate is an old name, which works for one version more: rename it to config.admission.
{{- end }}
{{- $keys := or (include "llm-service.tenantKeys" .) (dig "tenants" "keys" "" .Values.config) }}
{{- $shared := include "llm-service.sharedStore" (list . "quotas") }}
{{- $blocked := dict "releases" "so the pods do not start" "batches" "so /v1/files and /v1/batches answer 503 and no batch runs" "usage" "so /v1/usage answers 503 and what is counted is lost with the pod" }}
{{- if $keys }}{{ $blocked = set $blocked "admission" "so each replica is fair to tenants by itself" }}{{ end }}
{{- if $keys }}{{ $blocked = set $blocked "quotas" "so each replica counts by itself, or answers 503" }}{{ end }}
{{- range $section, $meaning := $blocked }}
{{- with include "llm-service.blockedPort" (list $ $section) }}
WARNING: networkPolicy.egress does not let the pods reach the store of {{ $section }}, {{ $meaning }}: add a rule, as {to: [{podSelector: {matchLabels: {app.kubernetes.io/name: valkey}}}], ports: [{port: {{ . }}, protocol: TCP}]}.
{{- end }}
{{- end }}
{{- with dig "tracing" "endpoint" "" .Values.config }}
{{- with include "llm-service.blocked" (list $ (include "llm-service.addressPort" . | default (hasPrefix "https:" . | ternary "443" "80"))) }}
WARNING: networkPolicy.egress does not let the pods reach config.tracing.endpoint, so no span arrives: add a rule, as {to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], ports: [{port: {{ . }}, protocol: TCP}]}.
{{- end }}
{{- end }}
{{- if and $keys (not $shared) (gt (include "llm-service.maxReplicas" . | int) 1) }}
WARNING: up to {{ include "llm-service.maxReplicas" . }} replicas keep each tenant's quota in memory, so a tenant gets {{ include "llm-service.maxReplicas" . }} times its quota: set config.quotas.storage to a Valkey or Redis, or, with a password, list it under secretEnv, as {name: LLM_SERVICE_QUOTAS__STORAGE, secret: NAME, key: KEY}.
{{- end }}
{{- if and $keys (not (include "llm-service.sharedStore" (list . "admission"))) (gt (include "llm-service.maxReplicas" . | int) 1) }}
NOTE: up to {{ include "llm-service.maxReplicas" . }} replicas are fair to tenants each by itself: to share their counters set config.admission.storage to a Valkey or Redis, or, with a password, list it under secretEnv, as {name: LLM_SERVICE_ADMISSION__STORAGE, secret: NAME, key: KEY}.
{{- end }}
{{- if and (dig "usage" "path" "" .Values.config) (gt (include "llm-service.maxReplicas" . | int) 1) }}
WARNING: up to {{ include "llm-service.maxReplicas" . }} replicas keep usage in folders of their own, so /v1/usage shows that of the replica which answers: set config.usage.storage to a Valkey or Redis in the place of config.usage.path, or, with a password, list it under secretEnv, as {name: LLM_SERVICE_USAGE__STORAGE, secret: NAME, key: KEY}.
{{- end }}
{{- if and (dig "batches" "path" "" .Values.config) (not (include "llm-service.sharedStore" (list . "batches"))) (gt (include "llm-service.maxReplicas" . | int) 1) }}
WARNING: up to {{ include "llm-service.maxReplicas" . }} replicas keep batches in folders of their own, so a batch is 404 at all but one: set config.batches.storage to a Valkey or Redis and config.batches.files to a bucket, or, with a password, list the storage under secretEnv, as {name: LLM_SERVICE_BATCHES__STORAGE, secret: NAME, key: KEY}.
{{- end }}
{{- if and (include "llm-service.releasesPath" .) (gt (include "llm-service.maxReplicas" . | int) 1) }}
WARNING: up to {{ include "llm-service.maxReplicas" . }} replicas judge each rollout by their own requests alone, so it takes {{ include "llm-service.maxReplicas" . }} times as long, and one may roll back what another serves to all: set config.releases.storage to a Valkey or Redis in the place of config.releases.path, or, with a password, list it under secretEnv, as {name: LLM_SERVICE_RELEASES__STORAGE, secret: NAME, key: KEY}.
{{- end }}
{{- if not $keys }}
WARNING: there are no keys, so every client that reaches the public port is served: set tenantKeys.existingSecret to a Secret of keys files.
{{- else if and .Values.smokeTest.enabled (not .Values.smokeTest.apiKeySecret) }}
WARNING: the service asks for keys and smokeTest.apiKeySecret is empty, so helm test will be refused: set it to a Secret with a key.
{{- end }}
{{- if and .Values.loadTest.enabled (not .Values.loadTest.resultsClaim) }}
WARNING: the load test's results are lost with its pod and only its log stays: name a claim in loadTest.resultsClaim.
{{- end }}
{{- if not (contains "/" .Values.image.repository) }}
WARNING: image.repository is {{ .Values.image.repository }}, without a registry: unless the nodes have this image already, build it from the Dockerfile (target {{ gt (int .Values.gpu.count) 0 | ternary "cuda" "cpu" }}), push it, and set image.repository to REGISTRY/{{ .Values.image.repository }}.
{{- end }}
{{- if not .Values.image.digest }}
WARNING: the image is named by a tag, which can move to another image: set image.digest.
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
WARNING: networkPolicy.enabled is false: every client that reaches a pod reaches its admin port.
{{- end }}
{{- $scraped := list }}
{{- if .Values.monitoring.serviceMonitor.enabled }}{{ $scraped = append $scraped "monitoring.serviceMonitor.enabled" }}{{ end }}
{{- if .Values.keda.enabled }}{{ $scraped = append $scraped "keda.enabled" }}{{ end }}
{{- if .Values.autoscaling.enabled }}{{ $scraped = append $scraped "autoscaling.enabled" }}{{ end }}
{{- if and $scraped .Values.networkPolicy.enabled (not .Values.networkPolicy.prometheus) (not .Values.networkPolicy.opsFrom) }}
WARNING: {{ join " and " $scraped }} {{ gt (len $scraped) 1 | ternary "are" "is" }} true, but the network policy keeps Prometheus from the admin port, so no metric arrives: name it in networkPolicy.prometheus.
{{- end }}
{{- if and .Values.inferencePool.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.opsFrom) }}
WARNING: inferencePool.enabled is true, but the network policy keeps the endpoint picker from the admin port, so it chooses without the replicas' metrics: name its pods in networkPolicy.opsFrom.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tls) }}
WARNING: ingress.tls is empty, so keys and prompts cross the network in plain text unless the controller has a certificate of its own: name a Secret with one.
{{- end }}
{{- if and .Values.hostNetwork .Values.networkPolicy.enabled }}
WARNING: hostNetwork is true, so network policies do not apply to the pods: every client that reaches a node reaches the admin port on it.
{{- end }}
{{- $sources := list .Values.model.objectStore.uri }}
{{- range concat (default list .Values.config.adapters) .Values.adapterList.adapters }}{{ $sources = append $sources .source }}{{ end }}
{{- range $sources }}
{{- if regexMatch "^(gs|az)://" (toString .) }}
WARNING: {{ . }} needs a client that the Dockerfile's images do not contain: add gcsfs for gs:// or adlfs for az:// to the image, or use s3://, oci://, hf:// or https://.
{{- end }}
{{- end }}
{{- $outside := list }}
{{- if .Values.httpRoute.enabled }}{{ $outside = append $outside "httpRoute.enabled is true" }}{{ end }}
{{- if .Values.ingress.enabled }}{{ $outside = append $outside "ingress.enabled is true" }}{{ end }}
{{- if ne .Values.service.type "ClusterIP" }}{{ $outside = append $outside (printf "service.type is %s" .Values.service.type) }}{{ end }}
{{- if and .Values.networkPolicy.enabled $outside (not .Values.networkPolicy.from) }}
WARNING: {{ join " and " $outside }}, but networkPolicy.from is empty, so the public port is open to pods of {{ .Release.Namespace }} only and all others' requests time out: name the allowed clients, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: gateways}}}].
{{- end }}
{{- if and (eq .Values.model.source "hub") (not (regexMatch "^[0-9a-f]{40}$" .Values.model.hub.revision)) }}
WARNING: model.hub.revision {{ .Values.model.hub.revision }} is no commit, and a branch or tag can be moved: write the commit.
{{- end }}
{{- end -}}


{{/* The store that replicas share for a section of config: its address, `secret` for one in a Secret, or empty. */}}
{{- define "llm-service.sharedStore" -}}
{{- $root := index . 0 -}}
{{- $section := index . 1 -}}
{{- $storage := dig $section "storage" "" $root.Values.config | default "" -}}
{{- range $root.Values.secretEnv -}}
{{- if eq .name (printf "LLM_SERVICE_%s__STORAGE" (upper $section)) }}{{ $storage = "secret" }}{{ end -}}
{{- end -}}
{{- if not (hasPrefix "memory:" $storage) }}{{ $storage }}{{ end -}}
{{- end -}}

{{/* The port of a section's shared store if the network policy keeps the pods from it; empty where it does not. */}}
{{- define "llm-service.blockedPort" -}}
{{- $root := index . 0 -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $storage := include "llm-service.sharedStore" . -}}
{{- $secret := eq $storage "secret" -}}
{{- $port := include "llm-service.addressPort" $storage | default (hasPrefix "redis+sentinel:" $storage | ternary "26379" "6379") -}}
{{- if and $storage (not (and $secret $policy.egress)) }}{{ include "llm-service.blocked" (list $root $port) }}{{ end -}}
{{- end -}}

{{/* The port in an address, or nothing. */}}
{{- define "llm-service.addressPort" -}}
{{- regexFind "[0-9]+$" (regexFind "^[^/?]*" (last (splitList "@" . | last | splitList "://"))) -}}
{{- end -}}

{{/* A port if the network policy keeps the pods from it everywhere; empty where it may not: (list root "6379"). */}}
{{- define "llm-service.blocked" -}}
{{- $root := index . 0 -}}
{{- $port := index . 1 -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- $offline := dig "adapter_cache" "offline" false $root.Values.config -}}
{{- $reached := or (not $policy.enabled) $root.Values.hostNetwork (and $policy.https (not $offline) (eq $port "443")) -}}
{{- range $policy.egress -}}
{{- if not .ports }}{{ $reached = true }}{{ end -}}
{{- range .ports -}}
{{- $first := toString .port -}}
{{- if or (not (regexMatch "^[0-9]+$" $first)) (and (le (int $first) (int $port)) (ge (int (.endPort | default $first)) (int $port))) }}{{ $reached = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $reached }}{{ $port }}{{ end -}}
{{- end -}}
