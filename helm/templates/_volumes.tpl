{{- define "llm-service.volumeMounts" -}}
- {name: config, mountPath: /etc/llm-service/config.yaml, subPath: config.yaml, readOnly: true}
{{- if ne .Values.model.source "baked" }}
- {name: models, mountPath: {{ eq .Values.model.source "image" | ternary (include "llm-service.modelPath" .) "/models" }}, readOnly: true}
{{- end }}
- {name: adapters, mountPath: /adapters}
{{- if eq (include "llm-service.workload" .) "StatefulSet" }}
- {name: releases, mountPath: {{ include "llm-service.releasesPath" . }}}
{{- end }}
{{- range .Values.storage.adapterImages }}
- {name: adapter-{{ .name }}, mountPath: /adapters/images/{{ .name }}, readOnly: true}
{{- end }}
{{- if .Values.adapterList.enabled }}
- {name: adapter-list, mountPath: {{ .Values.adapterList.mountPath }}, readOnly: true}
{{- end }}
{{- if include "llm-service.tenantKeys" . }}
- {name: tenant-keys, mountPath: {{ .Values.tenantKeys.mountPath }}, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- if include "llm-service.claim" (list . "compiled") }}
- {name: compiled, mountPath: /tmp/cache}
{{- end }}
- {name: shm, mountPath: /dev/shm}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "llm-service.volumes" -}}
- name: config
  configMap: {name: {{ include "llm-service.fullname" . }}, items: [{key: config.yaml, path: config.yaml}]}
{{- if include "llm-service.fetches" . }}
- name: scripts
  configMap: {name: {{ include "llm-service.fullname" . }}, items: [{key: prefetch.py, path: prefetch.py}]}
{{- end }}
{{- if eq .Values.model.source "image" }}
- name: models
  image: {reference: {{ .Values.model.image.reference }}, pullPolicy: {{ .Values.model.image.pullPolicy }}}
{{- else if ne .Values.model.source "baked" }}
{{ include "llm-service.storage" (list . "models") }}
{{- end }}
{{ include "llm-service.storage" (list . "adapters") }}
{{- range .Values.storage.adapterImages }}
- name: adapter-{{ .name }}
  image: {reference: {{ .reference }}, pullPolicy: {{ default "IfNotPresent" .pullPolicy }}}
{{- end }}
{{- if .Values.adapterList.enabled }}
- name: adapter-list
  configMap: {name: {{ default (printf "%s-adapters" (include "llm-service.fullname" .)) .Values.adapterList.existingConfigMap }}}
{{- end }}
{{- with .Values.tenantKeys }}
{{- if or .existingSecret .files }}
- name: tenant-keys
  secret: {secretName: {{ default (printf "%s-tenant-keys" (include "llm-service.fullname" $)) .existingSecret }}, defaultMode: 0440}
{{- end }}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ include "llm-service.orDefault" (list . "tmpSize" .Values.volumes.tmpSize) }}}
{{- if include "llm-service.claim" (list . "compiled") }}
{{ include "llm-service.storage" (list . "compiled") }}
{{- end }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ include "llm-service.orDefault" (list . "shmSize" .Values.volumes.shmSize) }}}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A volume of a storage section: (list root "models"). */}}
{{- define "llm-service.storage" -}}
{{- $root := index . 0 -}}
- name: {{ index . 1 }}
  {{- with include "llm-service.claim" . }}
  persistentVolumeClaim: {claimName: {{ . }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ eq (index . 1) "models" | ternary (include "llm-service.modelsSize" $root) (index $root.Values.storage (index . 1)).size }}}
  {{- end }}
{{- end -}}

{{/* Where the weights are fetched, the pod fetches them itself, or waits for the Job that does. */}}
{{- define "llm-service.initContainers" -}}
{{- if include "llm-service.fetches" . }}
{{- include "llm-service.prefetchContainer" (dict "root" . "command" (.Values.model.prefetch.job | ternary "wait" "fetch")) }}
{{- end }}
{{- with .Values.extraInitContainers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "llm-service.prefetchContainer" -}}
{{- $root := .root -}}
- name: prefetch
  image: {{ include "llm-service.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  securityContext:
    {{- toYaml $root.Values.securityContext | nindent 4 }}
  command: [python, /etc/llm-service/scripts/prefetch.py]
  args: [{{ .command }}, {{ include "llm-service.modelSource" $root | quote }}, {{ include "llm-service.modelPath" $root | quote }}, {{ $root.Values.model.prefetch.timeoutSeconds | quote }}{{ range $root.Values.model.hub.ignore }}, {{ . | quote }}{{ end }}]
  {{- with printf "%s%s" (include "llm-service.withoutGpus" $root) (include "llm-service.givenEnv" $root) | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml $root.Values.model.prefetch.resources | nindent 4 }}
  volumeMounts:
    - {name: scripts, mountPath: /etc/llm-service/scripts, readOnly: true}
    - {name: models, mountPath: /models}
    - {name: tmp, mountPath: /tmp}
{{- end -}}
