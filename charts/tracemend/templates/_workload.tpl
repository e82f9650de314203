{{/*
root, component, and for a generator `target` (its values): the Deployment of a service.

Startup asks whether it is ready, for as long as loading a model may take; liveness whether its event loop turns and
nothing else, so that an outage of Kafka restarts nobody; readiness whether it can work.
*/}}
{{- define "tracemend.workload" -}}
{{- $values := .root.Values -}}
{{- $service := get $values.services .component -}}
{{- $target := .target | default dict -}}
{{- $gpus := $target.gpus | default 0 -}}
{{- $args := dict "root" .root "component" .component "target" $target.name "parts" (list "ledger" "store" "bus" "rpc") -}}
{{- $name := printf "%s-%s" (include "tracemend.fullname" .root) .component -}}
{{- if $target.name }}{{ $name = printf "%s-%s" $name $target.name }}{{ end -}}
{{- $isScaled := and $values.autoscaling.enabled (has .component (list "generator" "judge" "corrector")) -}}
{{- /* Ingestion asks the target's folder who it is, and a judge that looks for cuts its tokenizer. */ -}}
{{- $seesModels := has .component (list "ingestion" "generator" "judge" "trainer" "evaluator") -}}
{{- $runsJobs := has .component (list "trainer" "evaluator") -}}
{{- $image := ternary $values.images.gpu $values.images.services (or (eq .component "generator") (and $runsJobs (not $values.operator.enabled))) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "tracemend.labels" $args | nindent 4 }}
    {{- if and (eq .component "generator") (eq $values.gpu.pool "shared") (not $isScaled) }}
    tracemend.dev/gpu-pool: shared
    {{- end }}
spec:
  {{- if not $isScaled }}
  replicas: {{ ternary $target.replicas $service.replicas (hasKey $target "replicas") }}
  {{- end }}
  {{- if gt (int $gpus) 0 }}
  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}
  {{- end }}
  selector:
    matchLabels:
      {{- include "tracemend.selector" $args | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "tracemend.labels" $args | nindent 8 }}
      annotations:
        checksum/settings: {{ include "tracemend.settings" $args | sha256sum }}
        {{- with $service.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "tracemend.fullname" .root }}-{{ .component }}
      {{- include "tracemend.podLines" (dict "root" .root "pods" $service "gpus" $gpus "token" (and $runsJobs $values.operator.enabled) "apart" $args) | nindent 6 }}
      {{- include "tracemend.spread" $args | nindent 6 }}
      terminationGracePeriodSeconds: {{ add 3 $service.drainSeconds 5 10 }}
      containers:
        - name: {{ .component }}
          {{- include "tracemend.imageLines" (dict "root" .root "image" $image) | nindent 10 }}
          args: [serve, {{ .component }}, --config, /etc/tracemend/settings.yaml]
          env:
            - name: TRACEMEND_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- include "tracemend.ledgerEnv" $args | nindent 12 }}
            {{- include "tracemend.storeEnv" $args | nindent 12 }}
            {{- include "tracemend.busEnv" $args | nindent 12 }}
            {{- include "tracemend.ownEnv" $service | nindent 12 }}
          {{- with $service.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - {name: grpc, containerPort: 8443}
            - {name: http, containerPort: 9090}
            {{- if $values.rpc.tlsSecret }}
            - {name: grpc-peers, containerPort: 8444}
            - {name: grpc-health, containerPort: 8445}
            {{- end }}
          startupProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: {{ div (add $service.startSeconds 4) 5 }}
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 20
            timeoutSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 2
          lifecycle:
            # Until every endpoint list has lost this pod; then SIGTERM drains it.
            preStop: {sleep: {seconds: 3}}
          {{- include "tracemend.resources" (dict "root" .root "resources" (mergeOverwrite (deepCopy $service.resources) (deepCopy ($target.resources | default dict))) "gpus" $gpus) | nindent 10 }}
          securityContext:
            {{- include "tracemend.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: settings, mountPath: /etc/tracemend, readOnly: true}
            - {name: folder, mountPath: /var/lib/tracemend}
            - {name: tmp, mountPath: /tmp}
            {{- include "tracemend.secretMounts" $args | nindent 12 }}
            {{- if $seesModels }}
            {{- include "tracemend.modelMounts" .root | nindent 12 }}
            {{- end }}
            {{- if $target.shm }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
            {{- with $service.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - {name: settings, configMap: {name: {{ $name }}}}
        - {name: folder, emptyDir: {sizeLimit: {{ $service.scratchSize }}}}
        - {name: tmp, emptyDir: {sizeLimit: {{ $service.scratchSize }}}}
        {{- include "tracemend.secretVolumes" $args | nindent 8 }}
        {{- if $seesModels }}
        {{- include "tracemend.modelVolumes" .root | nindent 8 }}
        {{- end }}
        {{- with $target.shm }}
        - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ . }}}}
        {{- end }}
        {{- with $service.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
