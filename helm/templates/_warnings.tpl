{{/* What renders and is probably not meant. */}}
{{- define "llm-service.warnings" -}}
{{- if gt (int .Values.gpu.count) 0 }}
NOTE: a rollout adds {{ (include "llm-service.rollout" . | fromYaml).maxSurge }} pods and misses {{ (include "llm-service.rollout" . | fromYaml).maxUnavailable }}: with GPUs the new pod waits for the GPU of the old one, so capacity is short by one replica while it goes on.
{{- end }}
{{- if and (eq (int .Values.replicas) 1) (gt (int .Values.gpu.count) 0) (not (include "llm-service.autoscaled" .)) }}
WARNING: one replica on GPUs is away while it is replaced: set replicas to 2 for rollouts without a gap.
{{- end }}
{{- $quotas := default dict .Values.config.quotas }}
{{- $tenants := or .Values.config.tenants .Values.tenantKeys.existingSecret .Values.tenantKeys.files }}
{{- $shared := false }}
{{- range $key, $value := $quotas }}
{{- if and $value (regexMatch "(redis|valkey)" $key) }}{{ $shared = true }}{{ end }}
{{- end }}
{{- range .Values.secretEnv }}
{{- if regexMatch "(?i)^LLM_SERVICE_QUOTAS__.*(REDIS|VALKEY)" .name }}{{ $shared = true }}{{ end }}
{{- end }}
{{- if and $tenants (not $shared) (gt (include "llm-service.maxReplicas" . | int) 1) }}
WARNING: up to {{ include "llm-service.maxReplicas" . }} replicas keep each tenant's quota in memory, so a tenant gets {{ include "llm-service.maxReplicas" . }} times its quota: list the address of a Valkey or Redis under secretEnv, as {name: LLM_SERVICE_QUOTAS__REDIS_URL, secret: NAME, key: KEY}.
{{- end }}
{{- if not .Values.image.digest }}
WARNING: the image is named by tag, and a tag can be moved: set image.digest.
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
WARNING: networkPolicy.enabled is false: whoever reaches a pod reaches its operations port.
{{- end }}
{{- if and (eq .Values.model.source "hub") (not (regexMatch "^[0-9a-f]{40}$" .Values.model.hub.revision)) }}
WARNING: model.hub.revision {{ .Values.model.hub.revision }} is no commit, and a branch or tag can be moved: write the commit.
{{- end }}
{{- end -}}
