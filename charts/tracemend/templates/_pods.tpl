{{/* What all pods share: security, placement, scratch space. */}}

{{- define "tracemend.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tracemend.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* root, pods (values of the kind `Pods`), gpus, `token` where the pod may speak to the Kubernetes API, and `apart` (arguments
of `tracemend.selector`) where its replicas belong on different hosts if the values say nothing else. */}}
{{- define "tracemend.podLines" -}}
{{- $gpu := .root.Values.gpu -}}
{{- $onGpu := gt (int .gpus) 0 -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
securityContext:
  {{- include "tracemend.podSecurity" .root | nindent 2 }}
{{- with .pods.nodeSelector | default (ternary $gpu.nodeSelector dict $onGpu) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (.pods.tolerations | default list) (ternary $gpu.tolerations list $onGpu) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .pods.affinity }}
affinity:
  {{- toYaml .pods.affinity | nindent 2 }}
{{- else if .apart }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "tracemend.selector" .apart | nindent 14 }}
{{- end }}
{{- with .pods.runtimeClassName | default (ternary $gpu.runtimeClassName "" $onGpu) }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .pods.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* root, resources, gpus: GPUs are requested as they are limited. */}}
{{- define "tracemend.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $one := dict .root.Values.gpu.resource (.gpus | toString) -}}
{{- $resources = mergeOverwrite $resources (dict "requests" (deepCopy $one) "limits" (deepCopy $one)) -}}
{{- end -}}
resources:
  {{- toYaml $resources | nindent 2 }}
{{- end -}}

{{/* env and envFrom of values of the kind `Pods`. */}}
{{- define "tracemend.ownEnv" -}}
{{- range $name, $value := .env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* root: volumes and mounts of all models. */}}
{{- define "tracemend.modelVolumes" -}}
{{- range .Values.models }}
- name: model-{{ .name }}
  {{- if .claim }}
  persistentVolumeClaim: {claimName: {{ .claim }}, readOnly: true}
  {{- else }}
  image: {reference: {{ .image | quote }}, pullPolicy: IfNotPresent}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tracemend.modelMounts" -}}
{{- range .Values.models }}
- {name: model-{{ .name }}, mountPath: {{ .path | quote }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* component, root: replicas of a stateless service are spread over hosts and zones where that can be. */}}
{{- define "tracemend.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tracemend.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}
