{{/* How many pods a rollout may add and miss. With GPUs a surplus pod would wait for a GPU that only the pod it
replaces can give back, so none is added. */}}
{{- define "llm-service.rollout" -}}
{{- $gpus := gt (int .Values.gpu.count) 0 -}}
{{- $surge := ternary 0 1 $gpus -}}
{{- $unavailable := ternary 1 0 $gpus -}}
{{- if ne (toString .Values.rollout.maxSurge) "auto" -}}
{{- $surge = .Values.rollout.maxSurge -}}
{{- end -}}
{{- if ne (toString .Values.rollout.maxUnavailable) "auto" -}}
{{- $unavailable = .Values.rollout.maxUnavailable -}}
{{- end -}}
maxSurge: {{ $surge }}
maxUnavailable: {{ $unavailable }}
{{- end -}}
