{{/* Whether the service has a language model; without one it has encoders only. */}}
{{- define "llm-service.languageModel" -}}
{{- if .Values.config.model -}}true{{- end -}}
{{- end -}}

{{/* Whether others run the engines, so that a pod has none. */}}
{{- define "llm-service.remote" -}}
{{- if eq (dig "client" "" (default dict .Values.config.engine)) "remote" -}}true{{- end -}}
{{- end -}}

{{/* The folder of the language model, or of all encoders where there is none. */}}
{{- define "llm-service.modelPath" -}}
{{ dig "model" "path" "/models" .Values.config }}
{{- end -}}

{{/* Size of all weights in GiB, the encoders' too; auto is the package's (the checks refuse it for any other source). */}}
{{- define "llm-service.weightsGiB" -}}
{{- $model := 0 -}}
{{- if include "llm-service.languageModel" . -}}
{{- $model = eq (toString .Values.model.weightsGiB) "auto" | ternary 0.3 .Values.model.weightsGiB -}}
{{- end -}}
{{ addf $model .Values.model.encodersGiB }}
{{- end -}}

{{/* GiB of memory on CPUs beyond those of the package's model: the other weights, and 1.2 for each encoder's processes. */}}
{{- define "llm-service.moreMemory" -}}
{{- $weights := include "llm-service.weightsGiB" . | float64 -}}
{{ max 0 (ceil (addf $weights -0.3 (mulf 1.2 (len (default list .Values.config.encoders)))) | int) }}
{{- end -}}

{{/* The name that an example or a test asks: the model's, or the first encoder's. */}}
{{- define "llm-service.asked" -}}
{{- if include "llm-service.languageModel" . -}}
{{ .Values.config.model.name }}
{{- else -}}
{{- with .Values.config.encoders -}}
{{ (first .).name }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkEngines" -}}
{{- $encoders := default list .Values.config.encoders -}}
{{- if and $encoders (not .Values.model.encodersGiB) -}}
{{- fail (printf "config.encoders names %d and model.encodersGiB is 0: set it to the size of their weights together, as 0.1, by which memory and the start are reckoned" (len $encoders)) -}}
{{- end -}}
{{- if not (include "llm-service.languageModel" .) -}}
{{- include "llm-service.checkEncodersAlone" . -}}
{{- end -}}
{{- if include "llm-service.remote" . -}}
{{- include "llm-service.checkRemote" . -}}
{{- else -}}
{{- include "llm-service.checkShares" . -}}
{{- include "llm-service.checkMemory" . -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkRemote" -}}
{{- if not (dig "remote" "url" "" .Values.config) -}}
{{- fail "config.engine.client is remote and config.remote.url is empty: set it to the address of vLLM's server or of a router before several, as http://vllm-router:8000" -}}
{{- end -}}
{{- if or (gt (int .Values.gpu.count) 0) (gt (int .Values.multiNode.nodes) 1) -}}
{{- fail (printf "config.engine.client is remote, and gpu.count is %d and multiNode.nodes %d: a pod has no engine, so set gpu.count to 0 and multiNode.nodes to 1" (int .Values.gpu.count) (int .Values.multiNode.nodes)) -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkEncodersAlone" -}}
{{- $config := .Values.config -}}
{{- if not $config.encoders -}}
{{- fail "config.model is null and config.encoders is empty, so nothing would be served: give a model, encoders, or both" -}}
{{- end -}}
{{- if .Values.adapterList.enabled -}}
{{- fail "adapterList.enabled belongs to a language model, and config.model is null: leave it out, or give a model" -}}
{{- end -}}
{{- range $key := list "engine" "adapters" "adapters_path" -}}
{{- if get $config $key -}}
{{- fail (printf "config.%s belongs to a language model, and config.model is null: leave it out, or give a model" $key) -}}
{{- end -}}
{{- end -}}
{{- if include "llm-service.fetches" . -}}
{{- fail (printf "config.model is null and model.source %s: the chart fetches no encoder, so set model.source to volume, image or baked" .Values.model.source) -}}
{{- end -}}
{{- if or (gt (int .Values.gpu.count) 1) (gt (int .Values.multiNode.nodes) 1) -}}
{{- fail (printf "gpu.count is %d and multiNode.nodes %d, and config.model is null: each encoder runs on one GPU, so set both to 1 at most, and replicas to more" (int .Values.gpu.count) (int .Values.multiNode.nodes)) -}}
{{- end -}}
{{- range $encoder := $config.encoders -}}
{{- if not (or (eq $.Values.model.source "baked") $.Values.extraVolumeMounts (hasPrefix "/models" (toString $encoder.path))) -}}
{{- fail (printf "config.encoders: %s has the path %s: the weights are mounted at /models, so write /models/NAME" $encoder.name $encoder.path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Engines share a GPU's memory by gpu_memory_utilization; 0.92 is vLLM's default. The service checks the sum on CPUs too. */}}
{{- define "llm-service.checkShares" -}}
{{- $sum := 0.0 -}}
{{- $told := list -}}
{{- if include "llm-service.languageModel" . -}}
{{- $sum = (include "llm-service.engine" . | fromYaml).gpu_memory_utilization -}}
{{- $told = append $told (printf "%s %v" .Values.config.model.name $sum) -}}
{{- end -}}
{{- range $encoder := .Values.config.encoders -}}
{{- $share := dig "gpu_memory_utilization" 0.92 (default dict $encoder.engine) -}}
{{- $sum = addf $sum $share -}}
{{- $told = append $told (printf "%s %v" $encoder.name $share) -}}
{{- end -}}
{{- if and (gt (len $told) 1) (gt (float64 $sum) 1.000001) -}}
{{- fail (printf "gpu_memory_utilization: the shares of all engines must be at most 1 together and are %s: set config.engine.gpu_memory_utilization, or that of an encoder's engine, to less" (join ", " $told)) -}}
{{- end -}}
{{- end -}}

{{/* On CPUs the weights and the caches of keys and values lie in the container's memory. */}}
{{- define "llm-service.checkMemory" -}}
{{- $limit := dig "limits" "memory" "" (include "llm-service.resources" . | fromYaml) -}}
{{- if and $limit (eq (int .Values.gpu.count) 0) -}}
{{- $weights := include "llm-service.weightsGiB" . | float64 -}}
{{- $cache := ternary (dig "cpu" "kv_cache_gib" 1 .Values.config) 0 (eq (include "llm-service.languageModel" .) "true") -}}
{{- if gt (addf $weights $cache) (include "llm-service.gib" $limit | float64) -}}
{{- fail (printf "resources.limits.memory is %v, and the weights (model.weightsGiB, model.encodersGiB) have %g GiB and the cache %v (config.cpu.kv_cache_gib): set it to more" $limit $weights $cache) -}}
{{- end -}}
{{- end -}}
{{- end -}}
