{{/* root, component, dev (values of the kind `DevServer`), port, data, scratch, env, args: a single server, and its Service. */}}
{{- define "tracemend.devServer" }}
{{- $name := printf "%s-%s" (include "tracemend.fullname" .root) .component }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "tracemend.labels" . | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "tracemend.selector" . | nindent 4 }}
  ports:
    - {name: server, port: {{ .port }}, targetPort: server}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "tracemend.labels" . | nindent 4 }}
spec:
  serviceName: {{ $name }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "tracemend.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "tracemend.labels" . | nindent 8 }}
    spec:
      {{- include "tracemend.podLines" (dict "root" .root "pods" dict "gpus" 0) | nindent 6 }}
      containers:
        - name: server
          {{- include "tracemend.imageLines" (dict "root" .root "image" .dev.image) | nindent 10 }}
          {{- with .args }}
          args: {{ toJson . }}
          {{- end }}
          env:
            {{- toYaml .env | nindent 12 }}
          ports:
            - {name: server, containerPort: {{ .port }}}
          readinessProbe:
            tcpSocket: {port: server}
            periodSeconds: 3
          resources:
            {{- toYaml .dev.resources | nindent 12 }}
          securityContext:
            {{- include "tracemend.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: {{ .data }}}
            {{- range $index, $path := .scratch }}
            - {name: scratch-{{ $index }}, mountPath: {{ $path }}}
            {{- end }}
      volumes:
        {{- range $index, $_ := .scratch }}
        - {name: scratch-{{ $index }}, emptyDir: {sizeLimit: 1Gi}}
        {{- end }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .dev.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ .dev.size }}}}
{{- end }}
