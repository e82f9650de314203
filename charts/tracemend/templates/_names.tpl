{{/* Names, labels and images. Arguments are dicts with `root`, the chart's context, and what else is said. */}}

{{- define "tracemend.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters at most: what is appended must leave names of pods and labels below 63. */}}
{{- define "tracemend.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tracemend.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tracemend.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* root, component, and `target` for a generator: what selectors hold. */}}
{{- define "tracemend.selector" -}}
app.kubernetes.io/name: {{ include "tracemend.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .target }}
tracemend.dev/target: {{ . }}
{{- end }}
{{- end -}}

{{- define "tracemend.labels" -}}
{{ include "tracemend.selector" . }}
app.kubernetes.io/part-of: tracemend
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* root, image: its full name. */}}
{{- define "tracemend.image" -}}
{{- $registry := .root.Values.imageRegistry | default .image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* root, image: the lines of a container that say which image it is. */}}
{{- define "tracemend.imageLines" -}}
image: {{ include "tracemend.image" . | quote }}
imagePullPolicy: {{ .root.Values.imagePullPolicy }}
{{- end -}}
