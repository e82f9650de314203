"""Metrics of other programs that rules and dashboards use, by where each is documented: nothing here scrapes them."""

from __future__ import annotations

FOREIGN = {
    "https://docs.vllm.ai/en/stable/usage/metrics": {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions_total",
        "vllm:time_to_first_token_seconds",
        "vllm:prefix_cache_hits_total",
        "vllm:prefix_cache_queries_total",
    },
    "https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/workload": {
        "kube_deployment_spec_replicas",
        "kube_deployment_status_replicas_ready",
        "kube_horizontalpodautoscaler_status_desired_replicas",
        "kube_pod_container_status_restarts_total",
    },
    "https://kubernetes.io/docs/reference/instrumentation/metrics": {
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_capacity_bytes",
    },
    "https://keda.sh/docs/latest/integrations/prometheus": {
        "keda_scaler_metrics_value",
        "keda_scaled_object_errors_total",
    },
    "https://docs.nvidia.com/datacenter/dcgm/latest/reference/dcgm-exporter-metrics.html": {
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_XID_ERRORS",
    },
}
