{{/* The service's configuration file. The chart adds where the keys are mounted and, with several nodes, how they
find each other; where the leader listens comes from its environment. */}}
{{- define "llm-service.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if include "llm-service.languageModel" . -}}
{{- $_ := set $config "engine" (include "llm-service.engine" . | fromYaml) -}}
{{- else -}}
{{- $_ := unset (unset $config "model") "engine" -}}
{{- end -}}
{{- $_ := set $config "drain" (merge (dict "budget_s" (include "llm-service.budgetSeconds" . | float64)) (omit (default dict $config.drain) "budget_s")) -}}
{{- if and $config.encoders (not (dig "max_body_bytes" "" $config.http)) -}}
{{- $inputs := dig "embedding_inputs" 2048 (default dict $config.limits) | int -}}
{{- $_ := set $config.http "max_body_bytes" (max 1048576 (mul 2048 $inputs)) -}}
{{- end -}}
{{- if and (include "llm-service.tenantKeys" .) (not (dig "tenants" "keys" "" $config)) -}}
{{- $_ := set $config "tenants" (dict "keys" .Values.tenantKeys.mountPath) -}}
{{- end -}}
{{- if .Values.adapterList.enabled -}}
{{- $_ := set $config "adapters_path" .Values.adapterList.mountPath -}}
{{- end -}}
{{- if include "llm-service.multiNode" . -}}
{{- $_ := set $config "engine" (merge (dict "nnodes" (int .Values.multiNode.nodes) "node_rank" 0 "master_port" (int .Values.multiNode.port) "distributed_executor_backend" "mp") $config.engine) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* vLLM's own arguments for a node that only computes, a YAML list: the leader's engine, without its head. What the
service gives the leader by default (service/vllm/arguments.py) is given here too. */}}
{{- define "llm-service.workerArguments" -}}
{{- $engine := merge (dict "nnodes" (int .Values.multiNode.nodes) "master_port" (int .Values.multiNode.port) "distributed_executor_backend" "mp") (include "llm-service.engine" . | fromYaml) -}}
{{- $_ := set $engine "structured_outputs_config" (merge (dict "backend" "xgrammar") (default dict $engine.structured_outputs_config)) -}}
{{- $arguments := list "serve" .Values.config.model.path "--headless" "--node-rank=$(NODE_RANK)" "--master-addr=$(LWS_LEADER_ADDRESS)" "--worker-extension-cls=service.vllm.worker.WorkerExtension" "--scheduling-policy=priority" -}}
{{- range $key, $value := $engine -}}
{{- $flag := $key | replace "_" "-" -}}
{{- if kindIs "bool" $value -}}
{{- $arguments = append $arguments (ternary (printf "--%s" $flag) (printf "--no-%s" $flag) $value) -}}
{{- else if kindIs "map" $value -}}
{{- $arguments = append $arguments (printf "--%s=%s" $flag (toJson $value)) -}}
{{- else if kindIs "slice" $value -}}
{{- $arguments = append $arguments (printf "--%s" $flag) -}}
{{- range $item := $value -}}
{{- $arguments = append $arguments (toString $item) -}}
{{- end -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $arguments = append $arguments (printf "--%s=%s" $flag (kindIs "string" $value | ternary $value (toJson $value))) -}}
{{- end -}}
{{- end -}}
{{- if or .Values.config.adapters .Values.adapterList.enabled -}}
{{- $kept := .Values.adapterList.enabled | ternary 64 (add1 (len (default list .Values.config.adapters))) -}}
{{- $slots := min $kept 8 -}}
{{- if not (hasKey $engine "enable_lora") -}}
{{- $arguments = append $arguments "--enable-lora" -}}
{{- end -}}
{{- if not (hasKey $engine "max_loras") -}}
{{- $arguments = append $arguments (printf "--max-loras=%d" $slots) -}}
{{- else -}}
{{- $slots = int $engine.max_loras -}}
{{- end -}}
{{- if not (hasKey $engine "max_cpu_loras") -}}
{{- $arguments = append $arguments (printf "--max-cpu-loras=%d" (max $slots $kept)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $arguments -}}
{{- end -}}
