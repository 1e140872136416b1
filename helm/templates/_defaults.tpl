{{/* Defaults by where the engine computes, on CPUs or on the GPUs of gpu.count, and by the size of the weights: a YAML
tree. Keys of the values' own win. */}}
{{- define "llm-service.defaults" -}}
{{- $gpus := int .Values.gpu.count -}}
{{- $more := include "llm-service.moreMemory" . | int -}}
{{- $fetched := 0 -}}
{{- if include "llm-service.fetches" . -}}
{{- $fetched = include "llm-service.weightsGiB" . | float64 | int -}}
{{- end -}}
{{- if include "llm-service.remote" . }}
engine: {max_num_seqs: 64}
resources:
  requests: {cpu: "1", memory: 2Gi, ephemeral-storage: {{ add 1 $fetched }}Gi}
  limits: {memory: 4Gi, ephemeral-storage: {{ add 8 $fetched }}Gi}
shmSize: 64Mi
tmpSize: 2Gi
startSeconds: 180
{{- else if gt $gpus 0 }}
engine: {max_num_seqs: 256, gpu_memory_utilization: 0.9}
resources:
  requests: {cpu: "{{ mul 4 $gpus }}", memory: {{ mul 16 $gpus }}Gi, ephemeral-storage: {{ add 4 $fetched }}Gi}
  limits: {memory: {{ mul 32 $gpus }}Gi, ephemeral-storage: {{ add 16 $fetched }}Gi}
{{- /* The processes of one model communicate through it. */}}
shmSize: {{ gt $gpus 1 | ternary "8Gi" "1Gi" }}
{{- /* Compiled kernels and graphs. */}}
tmpSize: 8Gi
{{- /* Compiling the model and warming its kernels up. */}}
startSeconds: 900
{{- else }}
engine: {dtype: auto, max_model_len: 2048, max_num_seqs: 32, gpu_memory_utilization: 0.3, enforce_eager: true}
resources:
  requests: {cpu: "2", memory: {{ add 5 $more }}Gi, ephemeral-storage: {{ add 1 $fetched }}Gi}
  limits: {memory: {{ add 6 $more }}Gi, ephemeral-storage: {{ add 8 $fetched }}Gi}
shmSize: 1Gi
tmpSize: 2Gi
startSeconds: 120
{{- end }}
{{- end -}}

{{/* A value of these defaults where the given one is auto: (list root "tmpSize" given). */}}
{{- define "llm-service.orDefault" -}}
{{- if eq (toString (index . 2)) "auto" -}}
{{ get (include "llm-service.defaults" (index . 0) | fromYaml) (index . 1) }}
{{- else -}}
{{ index . 2 }}
{{- end -}}
{{- end -}}

{{/* The engine's arguments. */}}
{{- define "llm-service.engine" -}}
{{- $defaults := (include "llm-service.defaults" . | fromYaml).engine -}}
{{- toYaml (merge (deepCopy (default dict .Values.config.engine)) $defaults) -}}
{{- end -}}

{{/* The resources with the GPUs added; quantities of extended resources are strings. */}}
{{- define "llm-service.resources" -}}
{{- $resources := merge (deepCopy .Values.resources) (include "llm-service.defaults" . | fromYaml).resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- range $kind := list "requests" "limits" -}}
{{- $_ := set $resources $kind (merge (dict $.Values.gpu.resource ($.Values.gpu.count | toString)) (get $resources $kind)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Size of the models' volume: a quarter more than the weights, at least 4Gi. */}}
{{- define "llm-service.modelsSize" -}}
{{- if ne .Values.storage.models.size "auto" -}}
{{ .Values.storage.models.size }}
{{- else -}}
{{ max 4 (ceil (mulf 1.25 (include "llm-service.weightsGiB" . | float64)) | int) }}Gi
{{- end -}}
{{- end -}}
