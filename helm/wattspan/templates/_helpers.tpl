{{- define "wattspan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects the pods: it can never change, so neither version nor chart stands in it. */ -}}
{{- define "wattspan.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wattspan.labels" -}}
{{- $own := include "wattspan.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "wattspan.testLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 58 | trimSuffix "-" }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wattspan.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "wattspan.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "wattspan.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Where pod metadata comes from. Pairs that cannot work end here, with a word for each. */ -}}
{{- define "wattspan.pods" -}}
{{- $pods := .Values.pods | default (ternary "none" "api" (eq .Values.profile "minimal")) -}}
{{- if and (eq .Values.profile "minimal") (ne $pods "none") -}}
{{- fail (printf "pods: %s needs the profile attributed or host: minimal has no token and sees no kubelet" $pods) -}}
{{- end -}}
{{- if and .Values.dra.enabled (ne $pods "api") -}}
{{- fail "dra.enabled needs pods: api, for which GPU a claim holds stands in ResourceSlices alone" -}}
{{- end -}}
{{- if and (ne .Values.web.security "none") (not .Values.web.configSecret) -}}
{{- fail (printf "web.security: %s needs web.configSecret, the Secret with the web configuration that says so" .Values.web.security) -}}
{{- end -}}
{{- $pods -}}
{{- end -}}

{{- /* The daemon's YAML: `config`, and what this chart decides. In `on` and `off` YAML sees booleans; the daemon wants the words. */ -}}
{{- define "wattspan.config" -}}
{{- $pods := include "wattspan.pods" . -}}
{{- $own := dict
  "profile" .Values.profile
  "state" (dict "dir" "/var/lib/wattspan")
  "web" (dict "listen-address" (printf ":%d" (int .Values.web.port)))
-}}
{{- if .Values.web.configSecret -}}
{{- $_ := set $own.web "config" (dict "file" "/etc/wattspan/web/web-config.yml") -}}
{{- end -}}
{{- if eq .Values.profile "minimal" -}}
{{- $_ := set $own "runs" "off" -}}
{{- else -}}
{{- $_ := set $own "socket" "/run/wattspan/wattspan.sock" -}}
{{- $_ := set $own "kubelet" (dict "dir" "/var/lib/kubelet/pod-resources") -}}
{{- $_ := set $own "kubernetes" (dict "pods" (ternary "off" $pods (eq $pods "none"))) -}}
{{- end -}}
{{- if eq .Values.profile "host" -}}
{{- $_ := set $own "path" (dict "sysfs" "/host/sys") -}}
{{- end -}}
{{- range $for, $_ := .Values.tokens -}}
{{- $file := dict "token-file" (printf "/etc/wattspan/tokens/%s" $for) -}}
{{- if eq $for "api" -}}
{{- $_ := set $own "api" $file -}}
{{- else -}}
{{- $_ := set $own "grid" (merge (dict $for $file) (get $own "grid" | default dict)) -}}
{{- end -}}
{{- end -}}
{{- $yaml := merge (deepCopy .Values.config) $own | toYaml -}}
{{- regexReplaceAll "(?m): false$" (regexReplaceAll "(?m): true$" $yaml ": \"on\"") ": \"off\"" -}}
{{- end -}}

{{- /* What a pod of the profile may do: pod, container. Without a capability uid 0 still reads what root owns. */ -}}
{{- define "wattspan.podSecurity" -}}
{{- $base := dict "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if eq .Values.profile "minimal" -}}
{{- $_ := merge $base (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532) -}}
{{- else -}}
{{- $_ := merge $base (dict "runAsUser" 0 "runAsGroup" 0) -}}
{{- end -}}
{{- range $field, $value := .Values.podSecurityContext }}{{ $_ := set $base $field $value }}{{ end -}}
{{- toYaml $base -}}
{{- end -}}

{{- define "wattspan.containerSecurity" -}}
{{- $base := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- range $field, $value := .Values.securityContext }}{{ $_ := set $base $field $value }}{{ end -}}
{{- toYaml $base -}}
{{- end -}}

{{- /* Where pods of this chart run, and how they come to see GPUs. */ -}}
{{- define "wattspan.placement" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.dra.enabled }}
resourceClaims:
  - name: gpus
    resourceClaimTemplateName: {{ include "wattspan.fullname" . }}
{{- end }}
{{- end -}}

{{- define "wattspan.nvidiaEnv" -}}
- name: NVIDIA_VISIBLE_DEVICES
  value: {{ ternary "void" .Values.nvidia.visibleDevices .Values.dra.enabled | quote }}
- name: NVIDIA_DRIVER_CAPABILITIES
  value: utility
{{- with .Values.nvidia.migMonitorDevices }}
- name: NVIDIA_MIG_MONITOR_DEVICES
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Of the daemon's port; kubelets check no certificate, and have none to show. */ -}}
{{- define "wattspan.probe" -}}
{{- if eq .security "clientCertificates" -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  {{- if eq .security "tls" }}
  scheme: HTTPS
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "wattspan.mounts" -}}
{{- range $name, $mount := . }}
- name: mount-{{ $name }}
  mountPath: {{ $mount.mountPath }}
  {{- with $mount.subPath }}
  subPath: {{ . }}
  {{- end }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "wattspan.mountVolumes" -}}
{{- range $name, $mount := . }}
- name: mount-{{ $name }}
  {{- toYaml $mount.volume | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A file of rules as the values want it: thresholds, alerts that are left out, and where the runbooks are. */ -}}
{{- define "wattspan.rules" -}}
{{- $values := .values -}}
{{- $groups := list -}}
{{- range (.file | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $labels := get . "labels" | default dict -}}
{{- $threshold := get $labels "threshold" -}}
{{- $zone := get $labels "grid_zone" -}}
{{- if and $threshold (not $zone) (hasKey $values.thresholds $threshold) -}}
{{- $_ := set . "expr" (printf "vector(%v)" (get $values.thresholds $threshold)) -}}
{{- end -}}
{{- if hasKey . "annotations" -}}
{{- $_ := set .annotations "runbook_url" (replace "https://github.com/wattspan/wattspan/blob/main/alerts/RUNBOOKS.md" $values.runbookUrl .annotations.runbook_url) -}}
{{- end -}}
{{- if not (or (has (get . "alert") $values.disabled) (and $zone (hasKey $values.dirtyZones $zone))) -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- if and (eq $threshold "grid_dirty_grams_per_kwh") (not $zone) -}}
{{- range $zone, $grams := $values.dirtyZones -}}
{{- $rules = append $rules (dict "record" "wattspan:threshold" "expr" (printf "vector(%v)" $grams) "labels" (dict "threshold" $threshold "grid_zone" $zone)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (set . "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toYaml -}}
{{- end -}}
