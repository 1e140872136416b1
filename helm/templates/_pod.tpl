{{/* The pod template of a server or, of a replica over several nodes, a worker: (dict "root" . "role" "server"). */}}
{{- define "llm-service.podTemplate" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "llm-service.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- with include "llm-service.commonLabels" $root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "llm-service.config" $root | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "llm-service.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "llm-service.graceSeconds" $root }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with include "llm-service.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "llm-service.spread" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if $values.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with include "llm-service.initContainers" $root | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "llm-service.image" $root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      {{- if eq .role "worker" }}
      command: [python, -m, vllm.entrypoints.cli.main]
      args:
        {{- include "llm-service.workerArguments" $root | nindent 8 }}
      {{- else }}
      args: [serve, --config, /etc/llm-service/config.yaml]
      {{- end }}
      env:
        {{- include "llm-service.env" . | nindent 8 }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if eq .role "server" }}
      {{- include "llm-service.lifecycle" $root | nindent 6 }}
      {{- end }}
      resources:
        {{- include "llm-service.resources" $root | nindent 8 }}
      volumeMounts:
        {{- include "llm-service.volumeMounts" $root | nindent 8 }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "llm-service.volumes" $root | nindent 4 }}
{{- end -}}

{{- define "llm-service.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where the tests' pods run. */}}
{{- define "llm-service.testPlacement" -}}
{{- include "llm-service.pullSecrets" . }}
{{- with .Values.smokeTest.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.smokeTest.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where pods may run: those that serve, and the one that fetches onto their volume. */}}
{{- define "llm-service.placement" -}}
{{- include "llm-service.pullSecrets" . }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.gpu.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .Values.tolerations }}
{{- if gt (int .Values.gpu.count) 0 }}
{{- /* Nodes whose cards are cut into MIG slices, or shared, carry the taint of whole cards. */}}
{{- $vendor := regexFind "^[^/]+/" .Values.gpu.resource }}
{{- range list .Values.gpu.resource (ternary "nvidia.com/gpu" .Values.gpu.resource (eq $vendor "nvidia.com/")) | uniq }}
{{- $tolerations = append $tolerations (dict "key" . "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- $tolerations = uniq $tolerations }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Replicas keep apart; the nodes of one replica do not: they exchange every step's tensors. */}}
{{- define "llm-service.spread" -}}
{{- with .root.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- else }}
{{- if and .root.Values.spread (eq .role "server") }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "llm-service.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: server
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "llm-service.env" -}}
{{- $root := .root -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- if include "llm-service.multiNode" $root }}
{{- if eq .role "worker" }}
- {name: STARTED_BY_LLM_SERVICE, value: "1"}
- name: NODE_RANK
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['leaderworkerset.sigs.k8s.io/worker-index']"}}
{{- else }}
- name: LLM_SERVICE_ENGINE__MASTER_ADDR
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}
- name: VLLM_HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}
{{- if dig "tracing" "endpoint" "" $root.Values.config }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ $root.Release.Namespace }},k8s.pod.name=$(POD_NAME)
{{- end }}
{{- include "llm-service.givenEnv" $root }}
{{- end -}}

{{/* The image asks NVIDIA's runtime for all GPUs of a node; containers that need none must not get them. */}}
{{- define "llm-service.withoutGpus" -}}
{{- if gt (int .Values.gpu.count) 0 }}
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end }}
{{- end -}}

{{/* The environment that the values give, for the server and for what fetches. */}}
{{- define "llm-service.givenEnv" -}}
{{- if and (eq .Values.model.source "hub") .Values.model.hub.tokenSecret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.model.hub.tokenSecret }}, key: {{ .Values.model.hub.tokenKey }}}}
{{- end }}
{{- range .Values.secretEnv }}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Ports, probes and the pause before SIGTERM. Ready turns false when the drain begins; live stays true. */}}
{{- define "llm-service.lifecycle" -}}
{{- $probes := .Values.probes -}}
{{- $start := include "llm-service.startSeconds" . | int -}}
ports:
  - {name: http, containerPort: {{ int .Values.config.http.port }}, protocol: TCP}
  - {name: ops, containerPort: {{ int .Values.config.http.ops_port }}, protocol: TCP}
startupProbe:
  httpGet: {path: /startupz, port: ops}
  periodSeconds: {{ int $probes.startup.periodSeconds }}
  timeoutSeconds: {{ int $probes.liveness.timeoutSeconds }}
  failureThreshold: {{ ceil (divf $start $probes.startup.periodSeconds) | int }}
livenessProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: {{ int $probes.liveness.periodSeconds }}
  timeoutSeconds: {{ int $probes.liveness.timeoutSeconds }}
  failureThreshold: {{ int $probes.liveness.failureThreshold }}
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: {{ int $probes.readiness.periodSeconds }}
  timeoutSeconds: {{ int $probes.readiness.timeoutSeconds }}
  failureThreshold: {{ int $probes.readiness.failureThreshold }}
{{- if gt (int .Values.preStopSeconds) 0 }}
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
    sleep: {seconds: {{ int .Values.preStopSeconds }}}
    {{- else }}
    exec: {command: [sleep, {{ .Values.preStopSeconds | quote }}]}
    {{- end }}
{{- end }}
{{- end -}}
