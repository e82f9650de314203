{{/* How a process reaches Kafka, the store and the ledger, and what it is told in its configuration file. */}}

{{- define "tracemend.bootstrap" -}}
{{- $name := include "tracemend.fullname" . -}}
{{- if eq .Values.kafka.mode "external" }}{{ .Values.kafka.bootstrapServers }}
{{- else if eq .Values.kafka.mode "strimzi" }}{{ $name }}-kafka-bootstrap:9093
{{- else }}{{ $name }}-kafka:9092{{ end -}}
{{- end -}}

{{- define "tracemend.bus" -}}
kafka:{{ include "tracemend.bootstrap" . }}{{ with .Values.kafka.namespace }}?namespace={{ . }}{{ end }}
{{- end -}}

{{/* What topics and groups begin with on the broker. */}}
{{- define "tracemend.prefix" -}}
{{ with .Values.kafka.namespace }}{{ . }}.{{ end }}
{{- end -}}

{{- define "tracemend.store" -}}
s3:{{ .Values.store.bucket }}{{ with .Values.store.prefix }}/{{ . }}{{ end }}
{{- end -}}

{{- define "tracemend.storeEndpoint" -}}
{{- if eq .Values.store.mode "dev" }}http://{{ include "tracemend.fullname" . }}-minio:9000{{ else }}{{ .Values.store.endpoint }}{{ end -}}
{{- end -}}

{{- define "tracemend.kafkaProtocol" -}}
{{- if eq .Values.kafka.mode "strimzi" }}SASL_SSL{{ else if eq .Values.kafka.mode "dev" }}PLAINTEXT{{ else }}{{ .Values.kafka.securityProtocol }}{{ end -}}
{{- end -}}

{{/* The Secret with Kafka's credentials of `component`: Strimzi makes one for each. */}}
{{- define "tracemend.kafkaSecret" -}}
{{- $own := (get .root.Values.services .component | default dict).kafkaSecret -}}
{{- if $own }}{{ $own }}
{{- else if eq .root.Values.kafka.mode "strimzi" }}{{ include "tracemend.fullname" .root }}-{{ .component }}
{{- else }}{{ .root.Values.kafka.existingSecret }}{{ end -}}
{{- end -}}

{{- define "tracemend.kafkaCa" -}}
{{- if eq .Values.kafka.mode "strimzi" }}{{ include "tracemend.fullname" . }}-cluster-ca-cert{{ else }}{{ .Values.kafka.caSecret }}{{ end -}}
{{- end -}}

{{- define "tracemend.ledgerSecret" -}}
{{- (get .root.Values.services .component | default dict).ledgerSecret | default .root.Values.postgresql.existingSecret -}}
{{- end -}}

{{- define "tracemend.storeSecret" -}}
{{- (get .root.Values.services .component | default dict).storeSecret | default .root.Values.store.existingSecret -}}
{{- end -}}

{{/* root, component: variables of who reaches the ledger alone (the operator). */}}
{{- define "tracemend.ledgerEnv" -}}
- {name: TRACEMEND_LEDGER_FILE, value: /run/tracemend/ledger/url}
{{- end -}}

{{/* root, component: variables of who reaches the store. */}}
{{- define "tracemend.storeEnv" -}}
- {name: S3_ENDPOINT, value: {{ include "tracemend.storeEndpoint" .root | quote }}}
- {name: S3_REGION, value: {{ .root.Values.store.region | quote }}}
- name: S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "tracemend.storeSecret" . }}, key: access-key}}
- {name: S3_SECRET_KEY_FILE, value: /run/tracemend/store/secret-key}
{{- if .root.Values.store.caSecret }}
- {name: S3_CAFILE, value: /run/tracemend/store-ca/ca.crt}
{{- end }}
{{- end -}}

{{/* root, component: variables of who reaches the bus. */}}
{{- define "tracemend.busEnv" -}}
{{- $protocol := include "tracemend.kafkaProtocol" .root -}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ $protocol }}}
{{- if hasPrefix "SASL" $protocol }}
- {name: KAFKA_SASL_MECHANISM, value: {{ .root.Values.kafka.saslMechanism }}}
{{- if eq .root.Values.kafka.mode "strimzi" }}
- {name: KAFKA_SASL_USERNAME, value: {{ include "tracemend.kafkaSecret" . }}}
{{- else }}
- name: KAFKA_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ include "tracemend.kafkaSecret" . }}, key: username}}
{{- end }}
- {name: KAFKA_SASL_PASSWORD_FILE, value: /run/tracemend/kafka/password}
{{- end }}
{{- if and (hasSuffix "SSL" $protocol) (include "tracemend.kafkaCa" .root) }}
- {name: KAFKA_SSL_CAFILE, value: /run/tracemend/kafka-ca/ca.crt}
{{- end }}
{{- end -}}

{{/* root, component, `parts` (of ledger, store, bus, rpc): name to Secret of what is mounted under /run/tracemend. */}}
{{- define "tracemend.secrets" -}}
{{- $values := .root.Values -}}
{{- $protocol := include "tracemend.kafkaProtocol" .root -}}
{{- $secrets := dict -}}
{{- if has "ledger" .parts }}{{ $_ := set $secrets "ledger" (include "tracemend.ledgerSecret" .) }}{{ end -}}
{{- if has "store" .parts }}{{ $_ := set $secrets "store" (include "tracemend.storeSecret" .) }}{{ end -}}
{{- if and (has "store" .parts) $values.store.caSecret }}{{ $_ := set $secrets "store-ca" $values.store.caSecret }}{{ end -}}
{{- if and (has "bus" .parts) (hasPrefix "SASL" $protocol) }}{{ $_ := set $secrets "kafka" (include "tracemend.kafkaSecret" .) }}{{ end -}}
{{- if and (has "bus" .parts) (hasSuffix "SSL" $protocol) (include "tracemend.kafkaCa" .root) }}{{ $_ := set $secrets "kafka-ca" (include "tracemend.kafkaCa" .root) }}{{ end -}}
{{- if has "rpc" .parts -}}
{{- with $values.rpc.tlsSecret }}{{ $_ := set $secrets "tls" . }}{{ end -}}
{{- with $values.rpc.tokensSecret }}{{ $_ := set $secrets "tokens" . }}{{ end -}}
{{- with $values.rpc.pageKeySecret }}{{ $_ := set $secrets "page-key" . }}{{ end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{- define "tracemend.secretVolumes" -}}
{{- range $name, $secret := include "tracemend.secrets" . | fromYaml }}
- {name: secret-{{ $name }}, secret: {secretName: {{ $secret }}, defaultMode: 0440}}
{{- end }}
{{- end -}}

{{- define "tracemend.secretMounts" -}}
{{- range $name, $_ := include "tracemend.secrets" . | fromYaml }}
- {name: secret-{{ $name }}, mountPath: /run/tracemend/{{ $name }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* root, component, `target` for a generator: a service's configuration file. */}}
{{- define "tracemend.settings" -}}
{{- $values := .root.Values -}}
{{- $service := get $values.services .component -}}
{{- $rpc := dict "listen" "0.0.0.0:8443" -}}
{{- if $values.rpc.tlsSecret -}}
{{- $tls := dict "cert_file" "/run/tracemend/tls/tls.crt" "key_file" "/run/tracemend/tls/tls.key" "client_ca_file" "/run/tracemend/tls/ca.crt" -}}
{{- $_ := merge $rpc (dict "tls" $tls "peer_listen" "0.0.0.0:8444" "health_listen" "0.0.0.0:8445") -}}
{{- end -}}
{{- if $values.rpc.tokensSecret }}{{ $_ := set $rpc "tokens_file" "/run/tracemend/tokens/tokens.yaml" }}{{ end -}}
{{- if $values.rpc.pageKeySecret }}{{ $_ := set $rpc "page_key_file" "/run/tracemend/page-key/key" }}{{ end -}}
{{- $settings := dict "bus" (include "tracemend.bus" .root) "store" (include "tracemend.store" .root) "rpc" $rpc -}}
{{- $_ := set $settings "log" (dict "format" "json") -}}
{{- $_ := set $settings "stop" (dict "finish_within_s" $service.drainSeconds) -}}
{{- with .target }}{{ $_ := set $settings "target" . }}{{ end -}}
{{- if and $values.operator.enabled (has .component (list "trainer" "evaluator")) -}}
{{- $pods := dict "namespace" .root.Release.Namespace "gpus" $values.jobs.gpus "queue" $values.jobs.queue "priority_class" $values.jobs.priorityClassName -}}
{{- $_ := set $settings "jobs_on" "kubernetes" -}}
{{- $_ := set $settings "pods" (merge $pods (dict "nodes" $values.jobs.nodes)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $settings (deepCopy $values.settings) (deepCopy $service.settings)) -}}
{{- end -}}
