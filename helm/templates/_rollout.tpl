{{/* How many pods a rollout may add and miss. A surplus pod would wait for a GPU, a claim of one node, a port of its
node or the log of rollouts, that only the pod it replaces can give back, so none is added there. */}}
{{- define "llm-service.rollout" -}}
{{- $waits := or (gt (int .Values.gpu.count) 0) .Values.hostNetwork (include "llm-service.releasesPath" .) -}}
{{- range $name := list "models" "adapters" "compiled" -}}
{{- if not (include "llm-service.shared" (list $ $name)) }}{{ $waits = true }}{{ end -}}
{{- end -}}
{{- $surge := ternary 0 1 (not (empty $waits)) -}}
{{- $unavailable := ternary 1 0 (not (empty $waits)) -}}
{{- if ne (toString .Values.rollout.maxSurge) "auto" -}}
{{- $surge = .Values.rollout.maxSurge -}}
{{- end -}}
{{- if ne (toString .Values.rollout.maxUnavailable) "auto" -}}
{{- $unavailable = .Values.rollout.maxUnavailable -}}
{{- end -}}
{{- if eq (include "llm-service.workload" .) "StatefulSet" }}{{ $surge = 0 }}{{ $unavailable = 1 }}{{ end -}}
maxSurge: {{ $surge }}
maxUnavailable: {{ $unavailable }}
{{- end -}}
