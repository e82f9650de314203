{{/* What the schema cannot say: values that do not go together. Everything that is wrong is said at once. */}}
{{- define "tracemend.check" -}}
{{- $wrong := list -}}
{{- $v := .Values -}}
{{- if and (eq $v.kafka.mode "external") (not $v.kafka.bootstrapServers) }}{{ $wrong = append $wrong "set kafka.bootstrapServers, or kafka.mode" }}{{ end -}}
{{- if and (hasPrefix "SASL" (include "tracemend.kafkaProtocol" .)) (ne $v.kafka.mode "strimzi") (not $v.kafka.existingSecret) }}{{ $wrong = append $wrong "kafka.securityProtocol asks for a user: name a Secret with username and password in kafka.existingSecret" }}{{ end -}}
{{- if and (eq $v.store.mode "external") (not $v.store.endpoint) }}{{ $wrong = append $wrong "set store.endpoint, or store.mode" }}{{ end -}}
{{- if not $v.store.existingSecret }}{{ $wrong = append $wrong "name a Secret with access-key and secret-key in store.existingSecret" }}{{ end -}}
{{- if not $v.postgresql.existingSecret }}{{ $wrong = append $wrong "name a Secret with url (postgresql://…) in postgresql.existingSecret" }}{{ end -}}
{{- $dev := list -}}
{{- range list "kafka" "store" "postgresql" }}{{ if eq (get $v .).mode "dev" }}{{ $dev = append $dev (printf "%s.mode dev" .) }}{{ end }}{{ end -}}
{{- if and $dev (not $v.unsafeDev) }}{{ $wrong = append $wrong (printf "%s: one copy of everything, for trying things out; say so by unsafeDev" (join ", " $dev)) }}{{ end -}}
{{- $oidc := ($v.settings.rpc | default dict).oidc -}}
{{- if and (not $v.rpc.tlsSecret) (or $oidc $v.rpc.tokensSecret) (not $v.unsafeDev) }}{{ $wrong = append $wrong "tokens would travel in the clear: name rpc.tlsSecret, or say by unsafeDev that a mesh encrypts or that it does not matter" }}{{ end -}}
{{- $names := dict -}}
{{- range $v.targets }}{{ if hasKey $names .name }}{{ $wrong = append $wrong (printf "targets has '%s' twice" .name) }}{{ end }}{{ $_ := set $names .name true }}{{ end -}}
{{- range $v.modelServers -}}
{{- $server := . -}}
{{- $found := false -}}
{{- range $v.models }}{{ if or (eq $server.model .path) (hasPrefix (printf "%s/" .path) $server.model) }}{{ $found = true }}{{ end }}{{ end -}}
{{- if not $found }}{{ $wrong = append $wrong (printf "modelServers '%s': %s lies in none of models" .name .model) }}{{ end -}}
{{- end -}}
{{- range $v.models }}{{ if and (.hydrate | default dict).enabled (or (not .claim) (not (.hydrate | default dict).image) (not (.hydrate | default dict).command) (not (.hydrate | default dict).checksums)) }}{{ $wrong = append $wrong (printf "models '%s': hydrate needs a claim, an image, a command and checksums" .name) }}{{ end }}{{ end -}}
{{- range $name, $service := $v.services }}{{ if gt (int $service.minReplicas) (int $service.maxReplicas) }}{{ $wrong = append $wrong (printf "services.%s: minReplicas is above maxReplicas" $name) }}{{ end }}{{ end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.services.generator.maxReplicas) 48) }}{{ $wrong = append $wrong "services.generator.maxReplicas: generations have 48 partitions, and more replicas would have nothing to do" }}{{ end -}}
{{- if and (gt (int $v.jobs.nodes) 1) (not $v.jobs.folderClaim) }}{{ $wrong = append $wrong "jobs.nodes: several nodes share a folder: name a ReadWriteMany claim in jobs.folderClaim" }}{{ end -}}
{{- if $wrong }}{{ fail (printf "\n\nThese values do not go together:\n  - %s\n" (join "\n  - " $wrong)) }}{{ end -}}
{{- end -}}
